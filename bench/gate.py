"""How often the night's contest promotes a model that is no better, and how often one that is.

    python bench/gate.py [--contests 400] [--samples 200] [--paintings 100] [--jobs 2] [--scratch .atelier/gate]

The pipeline's own stages make a set of the built-in gallery and train one small model on it, which is kept at several
lengths. Each length paints one pool of pictures; the contests then draw their pictures and their held-out paintings
from the pools, without replacement, and `atelier.contest` decides each at the default of nightly.gate.

1. A model against itself: both sides are different pictures of one model. Every promotion is a false one.
2. The longest training against each shorter one. The true distances are those of the whole pools.

What is finished in the scratch folder is not done again.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in child processes

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from atelier.canvas.rendering import painted
from atelier.contest import contest
from atelier.dataset import open_dataset
from atelier.files import write_json
from atelier.networks import load_generator
from atelier.params import Params
from atelier.quality import RandomFeatures, Reference
from atelier.quality.patches import PatchReference

ROOT = Path(__file__).resolve().parents[1]
LENGTHS_KIMG = (16, 24, 32, 36, 40, 80)
POOL = 4000  # pictures that each length paints
SETTINGS: dict[str, Any] = {
    "scrape": {"source": "gallery", "gallery": {"works": 1600, "size_px": 128}},
    "download": {"size_px": None, "min_side_px": 32},
    "augment": {"resolution": 32, "held_out": 0.5},
    "train": {"arch": "sketch", "device": "cpu", "lr_decay": 0.0, "snapshot_kimg": 1e6},
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Bout:
    """One contest: the two models' names, the sizes of what is drawn, and the seed of the draw."""

    champion: str
    challenger: str
    samples: int
    paintings: int
    seed: int


@dataclass(frozen=True)
class Result:
    """The verdicts of one contest, and how wide the interval of the gain in kid_rand is."""

    kid_rand: str
    swd: str
    wins: bool
    kid_rand_width: float


def main() -> None:
    parser = argparse.ArgumentParser(description="false and true promotions of the night's contest")
    parser.add_argument("--contests", type=int, default=400, help="of a model with itself, over all models")
    parser.add_argument("--pairs", type=int, default=40, help="contests of each length with the longest")
    parser.add_argument("--samples", type=int, default=200, help="pictures that each side paints")
    parser.add_argument("--paintings", type=int, default=100, help="held-out paintings of a contest")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=ROOT / ".atelier" / "gate")
    arguments = parser.parse_args()
    place = arguments.scratch.resolve()
    names = pools(place)
    sizes = (arguments.samples, arguments.paintings)
    same = [Bout(names[n % len(names)], names[n % len(names)], *sizes, n) for n in range(arguments.contests)]
    longest = names[-1]
    different = [Bout(name, longest, *sizes, seed) for seed in range(arguments.pairs) for name in names[:-1]]
    with ProcessPoolExecutor(arguments.jobs, initializer=os.chdir, initargs=(place,)) as workers:
        report_same(same, list(workers.map(decide, same)), names)
        results = list(workers.map(decide, different))
        distances = dict(zip(names, workers.map(true_distances, names), strict=True))
    report_pairs(names[:-1], longest, distances, different, results)


def pools(place: Path) -> list[str]:
    """The names of the pools in `place`: `paintings.npy`, and `<name>.npy` of each length, made where they lack."""
    names = [f"{kimg} kimg" for kimg in LENGTHS_KIMG]
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "paintings.npy").exists():
        for stage in ("scrape", "download", "augment"):
            run_stage(place, stage, SETTINGS)
        np.save(place / "paintings.npy", open_dataset(place / "data" / "dataset").held_out.images)
    for kimg, name in zip(LENGTHS_KIMG, names, strict=True):
        if (place / f"{name}.npy").exists():
            continue
        run_stage(place, "train", {**SETTINGS, "train": {**SETTINGS["train"], "kimg": kimg}})
        model = place / f"{name}.safetensors"
        shutil.copyfile(place / "data" / "model" / "generator.safetensors", model)
        generator, header = load_generator(model, CPU)
        np.save(
            place / f"{name}.npy", np.concatenate([*painted(generator, header["settings"]["nz"], 0, POOL)])
        )
        print(f"gate: {name} has painted {POOL:,} pictures", flush=True)
    return names


def run_stage(place: Path, stage: str, settings: Mapping[str, Any]) -> None:
    """`python -m tasks.<stage>` in `place`."""
    YAML().dump(dict(settings), place / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", f"tasks.{stage}"], cwd=place, env=environment, check=True)


@lru_cache
def pool(name: str) -> np.ndarray:
    torch.set_num_threads(1)
    return np.load(f"{name}.npy", mmap_mode="r")


def decide(bout: Bout) -> Result:
    """The contest of one draw: `samples` rows of each side's pool, in random order, no row on both sides."""
    kept = Path("bouts") / f"{bout}.json"
    if kept.exists():
        return Result(**json.loads(kept.read_text()))
    random = np.random.default_rng([bout.seed, *f"{bout.champion} {bout.challenger}".encode()])
    paintings = random.permutation(len(pool("paintings")))[: bout.paintings]
    rows = random.permutation(POOL)[: 2 * bout.samples].reshape(2, bout.samples)
    sides = [
        pool(name)[np.sort(own)] for name, own in zip((bout.champion, bout.challenger), rows, strict=True)
    ]
    gate = Params().nightly.gate
    found = contest(
        *sides, pool("paintings")[np.sort(paintings)], confidence=gate, seed=bout.seed, device=CPU
    )
    width = found.kid_rand.high - found.kid_rand.low
    result = Result(found.kid_rand.verdict, found.swd.verdict, found.wins, width)
    write_json(kept, asdict(result))
    return result


def true_distances(name: str) -> tuple[float, float]:
    """kid_rand and swd of a whole pool against all held-out paintings."""
    paintings, pictures = np.asarray(pool("paintings")), np.asarray(pool(name))
    network = RandomFeatures(CPU)
    groups = np.split(
        pictures[: len(pictures) // len(paintings) * len(paintings)], len(pictures) // len(paintings)
    )
    patches = PatchReference(paintings, seed=0)
    swd = fmean(fmean(patches.distances(group)) for group in groups)
    return Reference.of(network(paintings)).kid(network(pictures)), swd


def report_same(bouts: Sequence[Bout], results: Sequence[Result], names: Sequence[str]) -> None:
    """False promotions by model, and in all."""
    print(f"\n{len(bouts)} contests of a model with itself\n")
    print("| model | contests | kid_rand better | swd better | either worse | promoted |")
    print("|---|---|---|---|---|---|")
    for name in [*names, "all"]:
        own = [result for bout, result in zip(bouts, results, strict=True) if name in ("all", bout.champion)]
        shares = [
            fmean(result.kid_rand == "better" for result in own),
            fmean(result.swd == "better" for result in own),
            fmean("worse" in (result.kid_rand, result.swd) for result in own),
            fmean(result.wins for result in own),
        ]
        print(
            f"| {name} | {len(own)} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |", flush=True
        )


def report_pairs(
    names: Sequence[str],
    longest: str,
    distances: Mapping[str, tuple[float, float]],
    bouts: Sequence[Bout],
    results: Sequence[Result],
) -> None:
    """How many contests promoted the longest training over each shorter one, beside the true distances."""
    print(f"\n{longest} against shorter trainings\n")
    print("| champion | kid_rand | swd | promoted | kept, though worse |")
    print("|---|---|---|---|---|")
    (best_kid, best_swd) = distances[longest]
    for name in names:
        own = [result for bout, result in zip(bouts, results, strict=True) if bout.champion == name]
        kid, swd = distances[name]
        promoted = 100 * fmean(result.wins for result in own)
        print(
            f"| {name} | {kid:.3g} -> {best_kid:.3g} | {swd:.3g} -> {best_swd:.3g} | {promoted:.0f} % of {len(own)} "
            f"| {100 - promoted:.0f} % |"
        )
    width = median(result.kid_rand_width for result in results)
    print(f"\nmedian width of the interval of a gain in kid_rand: {width:.3g}", flush=True)


if __name__ == "__main__":
    main()
