"""Train named recipes for equal processor time and compare their pictures.

    python bench/trials.py DATASET [--recipes "default,batch 64"] [--seconds 240] [--seeds 3] [--out FOLDER]

DATASET is a folder as the stage augment writes it. Every recipe trains on one thread for the same processor time, its
schedules fitted to that length by a short measurement of its speed. The table has KID, coarse KID (both sides blurred
by σ = 1 px) and coverage of 600 generated pictures against the training paintings, mean and range over the seeds;
FOLDER gets a sheet of each. The papers' FID and KID are of other features and do not compare.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.metrics.distances import QuickPanel, kid
from atelier.metrics.features import FeatureExtractor, Reference
from atelier.model_store import start_path
from atelier.networks.latent_field import render_seed
from atelier.pictures.sheets import write_sheet
from atelier.settings.training import Train
from atelier.training.config import TrainingPlan, pick_precision, training_plan
from atelier.training.initial import Start, open_start
from atelier.training.trainer import Trainer

CPU = torch.device("cpu")
PICTURES, SHOWN, SEED = 600, 64, 1
FOR_EVER = 10**9  # images
WARM_UP, TIMED = 3, 10  # steps
RECIPES: Mapping[str, dict[str, Any]] = {
    "from nothing": {"init_from": None},
    "from the base": {"init_from": "base"},
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


@dataclass(frozen=True)
class Result:
    """What one training came to."""

    kid: float
    kid_coarse: float
    coverage: float
    kimg: float
    cpu_s: float


def main() -> None:
    """Run the trials and print the table, a row a recipe."""
    torch.set_num_threads(1)
    given = _given()
    dataset, judge = open_dataset(given.dataset), None
    for name in given.recipes:
        results = []
        for seed in range(given.seeds):
            trainer, cpu_s = trained(dataset, RECIPES[name], given.seconds, seed)
            judge = judge or Judge(dataset)
            pictures = np.concatenate([*render_seed(trainer.averaged_generator(), SEED, PICTURES)])
            if given.out:
                given.out.mkdir(parents=True, exist_ok=True)
                write_sheet(given.out / f"{name.replace(' ', '-')}-{seed}.png", pictures[:SHOWN])
            results.append(Result(*judge.scores(pictures), trainer.kimg, cpu_s))
        columns = (column([getattr(result, key) for result in results]) for key in Result.__annotations__)
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


def trained(dataset: PackedDataset, settings: Mapping[str, Any], seconds: float, seed: int) -> tuple[Trainer, float]:
    """Train for about so many processor seconds; the trainer, and how many they were."""
    given = {"init_from": None, **settings, "seed": seed, "snapshot_kimg": FOR_EVER}
    params = Train.model_validate(given)
    plan = training_plan(params, dataset.resolution, pick_precision(params.precision, CPU)[0])
    path = start_path(params.init_from, asdict(plan.network))
    start = open_start(path, plan.network) if path else None
    game = _step_s(dataset, replace(plan, warm_start=0.0, images=FOR_EVER), start)
    warm = _step_s(dataset, replace(plan, images=FOR_EVER), start) if plan.warm_start else 0.0
    step_s = plan.warm_start * warm + (1 - plan.warm_start) * game
    plan = replace(plan, images=math.floor(seconds / step_s) * plan.batch)
    with tempfile.TemporaryDirectory() as states:
        trainer = Trainer(plan, dataset, CPU, Path(states), start)
        began = time.process_time()
        while trainer.images_seen < plan.images:
            trainer.advance()
    return trainer, time.process_time() - began


def _step_s(dataset: PackedDataset, plan: TrainingPlan, start: Start | None) -> float:
    with tempfile.TemporaryDirectory() as states:
        trainer = Trainer(plan, dataset, CPU, Path(states), start)
        for step in range(WARM_UP + TIMED):
            if step == WARM_UP:
                began = time.process_time()
            trainer.advance()
    return (time.process_time() - began) / TIMED


class Judge:
    """Compares pictures with a data set's paintings."""

    def __init__(self, dataset: PackedDataset) -> None:
        self._features = FeatureExtractor()
        paintings = np.array(dataset.train.images)
        self._paintings = self._features.sharp_and_coarse(paintings)
        self._panel = QuickPanel(paintings, np.array(dataset.held_out.images))

    def scores(self, pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[float, float, float]:
        """KID, coarse KID and coverage."""
        kids = []
        for features, paintings in zip(self._features.sharp_and_coarse(pictures), self._paintings, strict=True):
            reference = Reference.of(paintings)
            kids.append(kid(reference.standardise(features), reference.standardise(paintings)))
        return kids[0], kids[1], self._panel.scores(pictures).coverage


def column(values: list[float]) -> str:
    """The mean of one column over the seeds, and its range."""
    mean = f"{sum(values) / len(values):.3g}"
    return f"{mean} ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else mean


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := {*names} - {*RECIPES}:
        raise argparse.ArgumentTypeError(f"there is no recipe {', '.join(sorted(unknown))}")
    return names


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/trials.py")
    parser.add_argument("dataset", type=Path)
    parser.add_argument(
        "--recipes",
        type=_names,
        default=[*RECIPES],
        help=f"some of, with commas between: {', '.join(RECIPES)}",
    )
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for sheets of the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
