"""A race at equal seconds on real paintings: DCGAN as in 2018, the same with today's aids, our small net, R3GAN.

    python bench/race.py [--seconds 60 150] [--only marine-32 landscape-64] [--jobs 1] [--scratch .atelier/race]

Seconds are of one thread's processor time, so that a busy machine is fair to all: the speed of every contestant is
measured in turns, each trains for as many pictures as its speed gives, and the time that it then took is printed
beside it. Sets, trainings and scores come from the pipeline's own stages; what is finished in the scratch folder is
not done again.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in child processes

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML

from atelier.canvas.rendering import painted
from atelier.dataset import open_dataset
from atelier.files import write_json
from atelier.networks import load_generator
from atelier.params import Params
from atelier.pictures.sheets import sheet
from atelier.training.loop import Trainer
from tasks.train import training_plan

ROOT = Path(__file__).resolve().parents[1]
GENRES, RESOLUTIONS = ("marine", "landscape"), (32, 64)
HELD_OUT = (
    0.25  # of 290 and 960 paintings: with a tenth, as usual, the scores of the smaller set would be noise
)
TURNS, TURN_S = 3, 2.0
SHOWN = 12  # pictures a row of the sheet
NEVER_KIMG = 1e6

ALL = {
    "device": "cpu", "precision": "float32", "snapshot_kimg": NEVER_KIMG, "batch": 64, "lr": 2e-4,
    "lr_discriminator": None, "beta1": 0.5,
}  # fmt: skip
OF_2018 = {"arch": "dcgan", "loss": "nonsaturating", "lr_decay": 0.0, "ema": 0.0, "augment": []}
AIDED = {**OF_2018, "ema": 0.9995, "augment": ["translation", "brightness"]}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "dcgan 64/64, as in 2018": {**OF_2018, "dcgan": {"ngf": 64, "ndf": 64}},
    "dcgan 24/12, as in 2018": {**OF_2018, "dcgan": {"ngf": 24, "ndf": 12}},
    "dcgan 64/64, EMA and augmentation": {**AIDED, "dcgan": {"ngf": 64, "ndf": 64}},
    "dcgan 24/12, EMA and augmentation": {**AIDED, "dcgan": {"ngf": 24, "ndf": 12}},
    "sketch 24/12, the default": {**AIDED, "arch": "sketch", "lr_decay": 0.6, "sketch": {"ngf": 24, "ndf": 12}},
    "r3gan S": {
        "arch": "r3gan", "r3gan": {"preset": "S"}, "loss": "relativistic", "beta1": 0.0, "beta2": "rising",
        "lr_decay": "cosine", "ema": "power", "augment": AIDED["augment"], "augment_probability": "by-size",
        "batch": 16,  # with 64 there would be four steps
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="networks and recipes at equal seconds")
    parser.add_argument("--paintings", type=Path, default=ROOT.parent / "shared" / "paintings")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".atelier" / "race")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(60.0, 150.0), help="of one core, at 32 and 64 px"
    )
    sets = [f"{genre}-{resolution}" for resolution in RESOLUTIONS for genre in GENRES]
    parser.add_argument("--only", nargs="+", choices=sets, default=sets)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    arguments = parser.parse_args()
    if not arguments.paintings.is_dir():
        print(f"race: no paintings in {arguments.paintings}: not measured")
        return
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # as the stage trains
    seconds = dict(zip(RESOLUTIONS, arguments.seconds, strict=True))
    for name in arguments.only:
        genre, resolution = name.rsplit("-", 1)
        place, limit_s = arguments.scratch.resolve() / name, seconds[int(resolution)]
        pack(place, arguments.paintings.resolve(), genre, int(resolution))
        speed = speeds(place, arguments.scratch / f"speeds-{resolution}.json")
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = [
                pool.submit(race, place, contestant, limit_s, speed[contestant], arguments.seed)
                for contestant in arguments.contestants
            ]
            results = [run.result() for run in runs]
        report(name, limit_s, arguments.contestants, results)
        draw(place, arguments.contestants, arguments.seed)


def pack(place: Path, paintings: Path, genre: str, resolution: int) -> None:
    """One genre's paintings as a packed set, by the stages themselves."""
    if (place / "data" / "dataset" / "dataset.json").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    with (paintings / "catalog.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["subject"] == genre]
    columns = ("file", "title", "artist", "year", "genre", "style")
    with (place / "catalog.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    folder = {"path": str(paintings), "catalog": str(place / "catalog.csv")}
    settings = {
        "scrape": {"source": "folder", "folder": folder},
        "augment": {"resolution": resolution, "held_out": HELD_OUT},
    }
    for stage in ("scrape", "download", "augment"):
        run_stage(place, stage, settings)


def speeds(place: Path, kept: Path) -> dict[str, float]:
    """Images a second of one thread's time: the median of several turns, each contestant once a turn."""
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    dataset = open_dataset(place / "data" / "dataset")
    trainers = {}
    for name, settings in CONTESTANTS.items():
        plan = training_plan(params_of(settings, 1.0, 0).train, dataset)
        trainers[name] = Trainer(plan, dataset, torch.device("cpu"), Path(tempfile.gettempdir()))
        trainers[name].advance()
    found: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(TURNS):
        for name, trainer in trainers.items():
            found[name].append(trainer.plan.batch / seconds_a_step(trainer))
    speed = {name: statistics.median(values) for name, values in found.items()}
    write_json(kept, speed)
    return speed


def seconds_a_step(trainer: Trainer) -> float:
    began_s, steps = time.process_time(), 0
    while not steps or time.process_time() - began_s < TURN_S:
        trainer.advance()
        steps += 1
    return (time.process_time() - began_s) / steps


def params_of(settings: Mapping[str, Any], kimg: float, seed: int) -> Params:
    return Params.model_validate({"train": {**ALL, **settings, "kimg": kimg, "seed": seed}})


def race(place: Path, contestant: str, limit_s: float, speed: float, seed: int) -> dict[str, Any]:
    """Train and judge one contestant, unless that is done: its settings, speed, seconds and metrics."""
    own = home(place, contestant, seed)
    kimg = max(float(f"{speed * limit_s / 1000:.3g}"), 0.001)
    settings = params_of(CONTESTANTS[contestant], kimg, seed).model_dump()["train"]
    kept = own / "result.json"
    if kept.exists() and (result := dict(json.loads(kept.read_text())))["settings"] == settings:
        return result
    shutil.rmtree(own / "data", ignore_errors=True)
    (own / "data").mkdir(parents=True)
    (own / "data" / "dataset").symlink_to(place / "data" / "dataset")
    trained_s = run_stage(own, "train", {"train": settings})
    run_stage(own, "evaluate", {"train": settings})
    metrics = json.loads((own / "metrics.json").read_text())
    result = {"settings": settings, "speed": speed, "kimg": kimg, "seconds": trained_s, "metrics": metrics}
    write_json(kept, result)
    print(
        f"race: {place.name}, {contestant}: {kimg:g} kimg, kid {metrics['kid']['value']:.3g}",
        flush=True,
    )
    return result


def home(place: Path, contestant: str, seed: int) -> Path:
    words = "".join(letter if letter.isalnum() else " " for letter in contestant).split()
    return place / f"{'-'.join(words)}-{seed}"


def run_stage(place: Path, stage: str, settings: Mapping[str, Any]) -> float:
    """`python -m tasks.<stage>` in `place`; its processor seconds."""
    YAML().dump(dict(settings), place / "params.yaml")
    command = [sys.executable, "-m", f"tasks.{stage}"]
    with (place / f"{stage}.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"race: {stage} failed in {place}:\n{(place / f'{stage}.log').read_text()}")
    return usage.ru_utime + usage.ru_stime


def report(
    name: str, limit_s: float, contestants: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> None:
    """The table, as bench/RESULTS.md has it."""
    compared = results[0]["metrics"]["compared"]
    print(
        f"\n{name}: {limit_s:g} s of one core, {compared['training']} paintings, {compared['held_out']} held out\n"
    )
    print("| | img/s | kimg | processor s | kid | kid_coarse | density | coverage | memorisation |")
    print("|---|---|---|---|---|---|---|---|---|")
    measures = ("kid", "kid_coarse", "density", "coverage", "memorisation")
    for contestant, result in zip(contestants, results, strict=True):
        metrics = result["metrics"]
        values = " | ".join(f"{metrics[measure]['value']:.3g}" for measure in measures)
        spread = f" ± {metrics['kid']['spread']:.2g}" if "spread" in metrics["kid"] else ""
        values = values.replace(" |", f"{spread} |", 1)
        print(
            f"| {contestant} | {result['speed']:.3g} | {result['kimg']:g} | {result['seconds']:.0f} | {values} |"
        )
    floors = " | ".join(f"{results[0]['metrics'][measure]['floor']:.3g}" for measure in measures)
    print(f"| real paintings (the floor) | | | | {floors} |", flush=True)


def draw(place: Path, contestants: Sequence[str], seed: int) -> None:
    """A row of pictures of each contestant, always the same latents, and a last one of held-out paintings."""
    rows = []
    for contestant in contestants:
        generator, _ = load_generator(home(place, contestant, seed) / "data/model/generator.safetensors")
        rows += [*painted(generator, 0, SHOWN)]
    rows.append(open_dataset(place / "data" / "dataset").held_out.images[:SHOWN])
    Image.fromarray(sheet(np.concatenate(rows), columns=SHOWN)).save(place / "race.jpg", quality=88)
    print(f"\n{place / 'race.jpg'}", flush=True)


if __name__ == "__main__":
    main()
