"""How often a night's comparison promotes a model that is no better, and how often one that is.

    python bench/gate.py [--comparisons 400] [--samples 200] [--paintings 100] [--jobs 2] [--scratch .atelier/gate]
                         [--lengths KIMG ...] [--pool 4000] [--works 1600]

The pipeline's own stages make a data set of the built-in gallery and train one small model on it for several lengths.
Each length paints one pool of pictures, whose features are computed once. Each comparison draws its pictures and its
held-out paintings from the pools, without replacement, and `atelier.metrics.compare` decides at the default of
nightly.gate.

1. A model against itself: both sides are different pictures of one model. Every promotion is a false one.
2. The longest training against each shorter one. The true distances are those of the whole pools.

Results in the scratch folder are used again. `--lengths 1 2 --pool 100 --works 120 --comparisons 4 --pairs 1
--samples 20 --paintings 20` runs everything in a minute.
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

from atelier.data.dataset import open_dataset
from atelier.files import write_json
from atelier.metrics.compare import SPACE_PAINTINGS, paired_bootstrap
from atelier.metrics.distances import kid
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.networks import load_generator
from atelier.networks.latent_field import render_seed
from atelier.settings.schema import Params

ROOT = Path(__file__).resolve().parents[1]
LENGTHS_KIMG = (16, 24, 32, 36, 40, 80)
PAINTINGS = "paintings"  # the pool of held-out paintings
TRAINING = "training"  # the pool of training paintings, which set the scale of the features
SETTINGS: dict[str, Any] = {
    "scrape": {"source": "gallery", "gallery": {"size_px": 128}},
    "download": {"size_px": None, "min_side_px": 32},
    "augment": {"resolution": 32, "held_out": 0.5},
    "train": {"arch": "sketch", "device": "cpu", "lr_decay": 0.0, "snapshot_kimg": 1e6},
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Draw:
    """The inputs of one comparison: two models' names, the numbers of pictures and paintings, and the seed."""

    champion: str
    challenger: str
    samples: int
    paintings: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The verdicts of one comparison, and the widths of the two intervals."""

    kid: str
    kid_coarse: str
    wins: bool
    kid_width: float
    kid_coarse_width: float


def main() -> None:
    parser = argparse.ArgumentParser(description="false and true promotions of the night's comparison")
    parser.add_argument("--comparisons", type=int, default=400, help="of a model with itself, over all models")
    parser.add_argument("--pairs", type=int, default=40, help="comparisons of each length with the longest")
    parser.add_argument("--samples", type=int, default=200, help="pictures that each side paints")
    parser.add_argument("--paintings", type=int, default=100, help="held-out paintings of a comparison")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS_KIMG, help="of the trainings, in kimg")
    parser.add_argument("--pool", type=int, default=4000, help="pictures that each length paints")
    parser.add_argument("--works", type=int, default=1600, help="of the built-in gallery, half of them held out")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=ROOT / ".atelier" / "gate")
    arguments = parser.parse_args()
    place = arguments.scratch.resolve()
    names = pools(place, arguments.lengths, arguments.pool, arguments.works)
    sizes = (arguments.samples, arguments.paintings)
    same = [Draw(names[n % len(names)], names[n % len(names)], *sizes, n) for n in range(arguments.comparisons)]
    longest = names[-1]
    different = [Draw(name, longest, *sizes, seed) for seed in range(arguments.pairs) for name in names[:-1]]
    with ProcessPoolExecutor(arguments.jobs, initializer=os.chdir, initargs=(place,)) as workers:
        list(workers.map(features_of, [TRAINING, PAINTINGS, *names]))
        report_same(same, list(workers.map(decide, same)), names)
        results = list(workers.map(decide, different))
        distances = dict(zip(names, workers.map(true_distances, names), strict=True))
    report_pairs(names[:-1], longest, distances, different, results)


def pools(place: Path, lengths_kimg: Sequence[int], size: int, works: int) -> list[str]:
    """Make `paintings.npy` and the `<name>.npy` of each length in `place` where they are missing; the names."""
    names = [f"{kimg} kimg" for kimg in lengths_kimg]
    place.mkdir(parents=True, exist_ok=True)
    gallery = {**SETTINGS["scrape"]["gallery"], "works": works}
    settings = {**SETTINGS, "scrape": {**SETTINGS["scrape"], "gallery": gallery}}
    if not (place / f"{PAINTINGS}.npy").exists():
        for stage in ("scrape", "download", "augment"):
            run_stage(place, stage, settings)
        dataset = open_dataset(place / "data" / "dataset")
        np.save(place / f"{TRAINING}.npy", dataset.train.images[:SPACE_PAINTINGS])
        np.save(place / f"{PAINTINGS}.npy", dataset.held_out.images)
    for kimg, name in zip(lengths_kimg, names, strict=True):
        if (place / f"{name}.npy").exists():
            continue
        run_stage(place, "train", {**settings, "train": {**SETTINGS["train"], "kimg": kimg}})
        model = place / f"{name}.safetensors"
        shutil.copyfile(place / "data" / "model" / "generator.safetensors", model)
        generator, _ = load_generator(model, CPU)
        pictures = np.concatenate([*render_seed(generator, 0, size)])
        np.save(place / f"{name}.npy", pictures)
        print(f"gate: {name} has painted {size:,} pictures", flush=True)
    return names


def run_stage(place: Path, stage: str, settings: Mapping[str, Any]) -> None:
    """`python -m tasks.<stage>` in `place`."""
    YAML().dump(dict(settings), place / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", f"tasks.{stage}"], cwd=place, env=environment, check=True)


@lru_cache
def features_of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The sharp and the coarse features of a whole pool, cached in a file."""
    torch.set_num_threads(1)
    kept = Path(f"{name}.features.npy")
    if not kept.exists():
        pictures, network = np.load(f"{name}.npy", mmap_mode="r"), FeatureExtractor(CPU)
        np.save(kept, torch.stack([network(pictures), network(pictures, coarse=True)]).numpy())
    sharp, coarse = torch.from_numpy(np.load(kept))
    return sharp, coarse


@lru_cache
def pool(name: str) -> FeatureSet:
    """A whole pool in the training paintings' space."""
    return FeatureSpace(*features_of(TRAINING))(*features_of(name))


def decide(draw: Draw) -> Outcome:
    """The comparison of one draw: `samples` rows of each side's pool, in random order, no row on both sides."""
    kept = Path("draws") / f"{draw}.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    random = np.random.default_rng([draw.seed, *f"{draw.champion} {draw.challenger}".encode()])
    paintings = torch.from_numpy(random.permutation(len(pool(PAINTINGS))))[: draw.paintings]
    rows = torch.from_numpy(random.permutation(len(pool(draw.champion))))
    found = paired_bootstrap(
        pool(draw.champion)[rows[: draw.samples]],
        pool(draw.challenger)[rows[draw.samples : 2 * draw.samples]],
        pool(PAINTINGS)[paintings],
        confidence=Params().nightly.gate,
        seed=draw.seed,
    )
    verdicts = {name: gain.verdict for name, gain in found.gains.items()}
    widths = {f"{name}_width": gain.high - gain.low for name, gain in found.gains.items()}
    result = Outcome(**verdicts, wins=found.wins, **widths)
    write_json(kept, asdict(result))
    return result


def true_distances(name: str) -> tuple[float, float]:
    """kid and kid_coarse of a whole pool against all held-out paintings."""
    paintings, pictures = pool(PAINTINGS), pool(name)
    return kid(pictures.sharp, paintings.sharp), kid(pictures.coarse, paintings.coarse)


def report_same(draws: Sequence[Draw], results: Sequence[Outcome], names: Sequence[str]) -> None:
    """False promotions by model, and in all."""
    print(f"\n{len(draws)} comparisons of a model with itself\n")
    print("| model | comparisons | kid better | kid_coarse better | either worse | promoted |")
    print("|---|---|---|---|---|---|")
    for name in [*names, "all"]:
        own = [result for draw, result in zip(draws, results, strict=True) if name in ("all", draw.champion)]
        shares = [
            fmean(result.kid == "better" for result in own),
            fmean(result.kid_coarse == "better" for result in own),
            fmean("worse" in (result.kid, result.kid_coarse) for result in own),
            fmean(result.wins for result in own),
        ]
        print(f"| {name} | {len(own)} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |", flush=True)


def report_pairs(
    names: Sequence[str],
    longest: str,
    distances: Mapping[str, tuple[float, float]],
    draws: Sequence[Draw],
    results: Sequence[Outcome],
) -> None:
    """How many comparisons promoted the longest training over each shorter one, beside the true distances."""
    print(f"\n{longest} against shorter trainings\n")
    print("| champion | kid | kid_coarse | promoted | kept, though worse |")
    print("|---|---|---|---|---|")
    best_kid, best_coarse = distances[longest]
    for name in names:
        own = [result for draw, result in zip(draws, results, strict=True) if draw.champion == name]
        kid, coarse = distances[name]
        promoted = 100 * fmean(result.wins for result in own)
        print(
            f"| {name} | {kid:.3g} -> {best_kid:.3g} | {coarse:.3g} -> {best_coarse:.3g} "
            f"| {promoted:.0f} % of {len(own)} | {100 - promoted:.0f} % |"
        )
    widths = [
        median(result.kid_width for result in results),
        median(result.kid_coarse_width for result in results),
    ]
    print(
        f"\nmedian width of the interval of a gain: kid {widths[0]:.3g}, kid_coarse {widths[1]:.3g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
