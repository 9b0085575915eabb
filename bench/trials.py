"""Train named recipes for equal processor time and compare their pictures.

    python bench/trials.py DATASET --out FOLDER [--recipes "default,batch 64"] [--kimg 30] [--seeds 3]

DATASET is a folder as the stage augment writes it. The first recipe trains `--kimg` thousand images; every other one as
many as the same processor time allows: the ratio of their speeds is measured once, on one thread, in turns, so that
other work on the machine changes neither the ratio nor a training's length. FOLDER keeps the ratios, and the pictures
and a sheet of every training; what is there already is not trained again.

The table has KID, coarse KID (both sides blurred by σ = 1 px), KID by the features of EfficientNet-Lite1, and coverage
of 600 generated pictures against the training paintings, mean and range over the seeds. The papers' FID and KID are of
other features and do not compare.
"""

import argparse
import functools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.files import replacing, write_json
from atelier.metrics.distances import QuickPanel, kid
from atelier.metrics.features import FeatureExtractor, Reference
from atelier.model_store import start_path
from atelier.networks.efficientnet import LITE1
from atelier.networks.labels import Labels
from atelier.networks.latent_field import render_seed
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.settings.training import Train
from atelier.training.config import TrainingPlan, pick_precision, training_plan
from atelier.training.initial import Start, open_start
from atelier.training.trainer import Trainer

CPU = torch.device("cpu")
PICTURES, SHOWN, SEED = 600, 64, 1
FOR_EVER = 10**9  # images
WARM_UP, TIMED, ROUNDS = 2, 4, 7  # steps, and times that each recipe has its turn
WINDOWS = "windows"  # of whole paintings, where the data set was made with `augment.crops` above 1; others see squares
RECIPES: Mapping[str, dict[str, Any]] = {
    "from nothing": {"init_from": None},
    "from the base": {"init_from": "base"},
    WINDOWS: {"init_from": "base"},
    "labels": {"init_from": "base", "labels": "genre"},
    "geometry": {
        "init_from": "base",
        "augment": ["translation", "brightness", "scale", "rotation", "anisotropy", "shift"],
        "augment_probability": "adaptive",
    },
    "features": {"init_from": "base", "discriminator": "features"},
    "both": {"init_from": "base", "discriminator": "both"},
    "one layer of D frozen": {"init_from": "base", "freeze_discriminator": 1},
    "two layers of D frozen": {"init_from": "base", "freeze_discriminator": 2},
    "adam": {"optimizer": "adam"},
    "without noise": {"sketch": {"noise": 0}},
    "without a warm start": {"warm_start": 0.0},
    "dcgan": {"arch": "dcgan"},
    "batch 16": {"batch": 16},
    "batch 64": {"batch": 64},
    "wider D": {"sketch": {"ndf": 20}},
    "D at half the rate": {"muon_lr_discriminator": 0.005},
    "both at half the rate": {"muon_lr": 0.005, "muon_lr_discriminator": 0.005},
    "late decay": {"lr_decay": 0.2},
}


def main() -> None:
    """Run the trials and print the table, a row a recipe."""
    torch.set_num_threads(1)
    given = _given()
    given.out.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(given.dataset)
    judge = Judge(dataset)
    print("| recipe | kimg | kid | kid_coarse | kid_lite1 | coverage |\n" + "|---" * 6 + "|")
    for name in given.recipes:
        kimg = given.kimg * _relative_speed(dataset, name, given.recipes[0], given.out / "speeds.json")
        scores = []
        for seed in range(given.seeds):
            path = given.out / f"{name.replace(' ', '-')}-{seed}.npy"
            if not path.exists():
                pictures = painted(seen(dataset, name), RECIPES[name], kimg, seed)
                write_sheet(path.with_suffix(".png"), pictures[:SHOWN])
                with replacing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, pictures)
            scores.append(judge.scores(np.load(path)))
        columns = (column([*values]) for values in zip(*scores, strict=True))
        print(f"| {name} | {kimg:.3g} | {' | '.join(columns)} |", flush=True)


def painted(dataset: PackedDataset, settings: Mapping[str, Any], kimg: float, seed: int) -> Pixels:
    """The pictures (PICTURES, H, W, 3) of a training of so many thousand images."""
    plan, start = prepared(dataset, settings, seed)
    plan = replace(plan, images=math.floor(kimg * 1000 / plan.batch) * plan.batch)
    with tempfile.TemporaryDirectory() as states:
        trainer = Trainer(plan, dataset, CPU, Path(states), start)
        while trainer.images_seen < plan.images:
            trainer.advance()
    return np.concatenate([*render_seed(trainer.averaged_generator(), SEED, PICTURES)])


def seen(dataset: PackedDataset, recipe: str) -> PackedDataset:
    """The data set without its whole paintings, which only the recipe with windows sees."""
    if recipe == WINDOWS and dataset.strips is None:
        sys.exit(f"{WINDOWS} needs a data set with augment.crops above 1")
    return dataset if recipe == WINDOWS else replace(dataset, strips=None)


def prepared(
    dataset: PackedDataset, settings: Mapping[str, Any], seed: int, device: torch.device = CPU
) -> tuple[TrainingPlan, Start | None]:
    """The plan of a recipe, from its settings of `train`, and the model that it starts from."""
    given = {"init_from": None, **settings, "seed": seed, "snapshot_kimg": FOR_EVER}
    params = Train.model_validate(given)
    labels = Labels.of(params.labels, dataset.train.values(params.labels)) if params.labels != "none" else None
    precision = pick_precision(params.precision, device)[0]
    plan = training_plan(params, dataset.resolution, precision, labels=labels, aspect=dataset.aspect)
    path = start_path(params.init_from, asdict(plan.network.with_labels(None)))
    return plan, open_start(path, plan.network, plan.discriminator) if path else None


def _relative_speed(dataset: PackedDataset, name: str, first: str, path: Path) -> float:
    """How many images of recipe `name` take the processor time of one of recipe `first`."""
    known = json.loads(path.read_bytes()) if path.exists() else {first: 1.0}
    if name not in known:
        timed = [timers(seen(dataset, each), RECIPES[each]) for each in (first, name)]
        costs = ([sum(share * timer() for share, timer in each) for each in timed] for _ in range(ROUNDS))
        known[name] = statistics.median(of_first / of_this for of_first, of_this in costs)
        write_json(path, known)
    return float(known[name])


def timers(
    dataset: PackedDataset, settings: Mapping[str, Any], device: torch.device = CPU
) -> list[tuple[float, Callable[[], float]]]:
    """For a recipe's warm start, if any, and for what follows: its share of the training, and a timer.

    A timer trains a few steps and returns how many seconds an image took: of processor time, or on a GPU of the clock.
    """
    plan, start = prepared(dataset, settings, 0, device)
    found: list[tuple[float, Callable[[], float]]] = []
    for share, warm_start in ((plan.warm_start, 1 - 1e-6), (1 - plan.warm_start, 0.0)):
        if share:
            with tempfile.TemporaryDirectory() as states:
                endless = replace(plan, images=FOR_EVER, warm_start=warm_start)
                trainer = Trainer(endless, dataset, device, Path(states), start)
            for _ in range(WARM_UP):
                trainer.advance()
            found.append((share, functools.partial(_seconds_per_image, trainer)))
    return found


def _seconds_per_image(trainer: Trainer) -> float:
    on_gpu = trainer.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began_s = clock()
    for _ in range(TIMED):
        trainer.advance()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - began_s) / (TIMED * trainer.plan.batch)


class Judge:
    """Compares pictures with a data set's paintings."""

    def __init__(self, dataset: PackedDataset) -> None:
        self._features, self._lite1 = FeatureExtractor(), FeatureExtractor(network=LITE1)
        paintings = np.array(dataset.train.images)
        self._paintings = self._all_features(paintings)
        self._panel = QuickPanel(paintings, np.array(dataset.held_out.images))

    def scores(self, pictures: Pixels) -> tuple[float, ...]:
        """KID, coarse KID, KID by Lite1, and coverage."""
        kids = []
        for features, paintings in zip(self._all_features(pictures), self._paintings, strict=True):
            reference = Reference.of(paintings)
            kids.append(kid(reference.standardise(features), reference.standardise(paintings)))
        return *kids, self._panel.scores(pictures).coverage

    def _all_features(self, pictures: Pixels) -> tuple[torch.Tensor, ...]:
        return *self._features.sharp_and_coarse(pictures), self._lite1(pictures)


def column(values: Sequence[float]) -> str:
    """The mean of one column over the seeds, and its range."""
    mean = f"{sum(values) / len(values):.3g}"
    return f"{mean} ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else mean


def recipe_names(text: str) -> list[str]:
    """The names of recipes in a text, with commas between."""
    names = [name.strip() for name in text.split(",")]
    if unknown := {*names} - {*RECIPES}:
        raise argparse.ArgumentTypeError(f"there is no recipe {', '.join(sorted(unknown))}")
    return names


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/trials.py")
    parser.add_argument("dataset", type=Path)
    parser.add_argument(
        "--recipes",
        type=recipe_names,
        default=[*RECIPES],
        help=f"some of, with commas between: {', '.join(RECIPES)}",
    )
    parser.add_argument("--kimg", type=float, default=30, help="length of the first recipe's training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
