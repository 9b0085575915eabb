"""Which augmentations a generator learns to paint: each trained with on its own, and looked for in the pictures.

    python bench/leaks.py DATASET [--kimg 12] [--seeds 3] [--operations "scale,hue"] [--out FOLDER]

DATASET is a folder as the stage augment writes it. Every training is from nothing, on one thread and of the same
length, with the default's augmentations and one operation more, each applied to 80 % of the images. A linear probe on
EfficientNet-Lite0's features tells paintings from paintings with that operation. The leak is how far the probe's mean
over generated pictures has moved from that of a training without the operation, as a share of its distance between
paintings and changed paintings: 0 for none, 1 where all generated pictures look changed. Distances are as in trials.py.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from trials import SHOWN, Judge, column, painted

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.metrics.features import FeatureExtractor, Reference
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.training.augment import Augment
from atelier.training.state import generator_for

USUAL, PROBABILITY = ["translation", "brightness"], 0.8
OPERATIONS = [
    "scale", "rotation", "anisotropy", "shift", "hue", "luma_flip", "filter", "saturation", "contrast", "cutout",
]  # fmt: skip
RIDGE = 100.0  # of the probe, on standardised features


class Probe:
    """Tells paintings from paintings with one operation: about 0 for the former, about 1 for the latter."""

    def __init__(self, features: FeatureExtractor, dataset: PackedDataset, operation: str) -> None:
        paintings, held_out = (_floats(view.images) for view in (dataset.train, dataset.held_out))
        change = Augment([operation], 1.0)
        plain, changed = features(paintings), features(change(paintings, generator_for("probe", 0)))
        self._features, self._reference = features, Reference.of(torch.cat([plain, changed]))
        x = self._reference.standardise(torch.cat([plain, changed]))
        targets = torch.cat([torch.zeros(len(plain)), torch.ones(len(changed))]).double() - 0.5
        self._weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]).double(), x.T @ targets)
        self.paintings = self.mean(features(held_out))
        self.changed = self.mean(features(change(held_out, generator_for("probe", 1))))

    def mean(self, features: Tensor) -> float:
        """The mean over pictures with these features."""
        return float((self._reference.standardise(features) @ self._weights).mean()) + 0.5


def main() -> None:
    """Run the trainings and print the table, a row an operation."""
    torch.set_num_threads(1)
    given = _given()
    dataset, features = replace(open_dataset(given.dataset), strips=None), FeatureExtractor()
    judge = Judge(dataset)
    usual = [_painted(dataset, [], given.kimg, seed) for seed in range(given.seeds)]
    plain = [features(pictures) for pictures in usual]
    print("| augmentation | leak | kid | kid_coarse | kid_lite1 | coverage | probe tells apart |\n" + "|---" * 7 + "|")
    _row("the usual ones", [], judge, usual, "")
    for operation in given.operations:
        probe = Probe(features, dataset, operation)
        found = [_painted(dataset, [operation], given.kimg, seed) for seed in range(given.seeds)]
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            write_sheet(given.out / f"{operation}.png", found[0][:SHOWN])
        span = probe.changed - probe.paintings
        moved = [probe.mean(features(own)) - probe.mean(without) for own, without in zip(found, plain, strict=True)]
        _row(f"and {operation}", [move / span for move in moved], judge, found, f"{span:.2f}")


def _row(name: str, leaks: list[float], judge: Judge, pictures: list[Pixels], span: str) -> None:
    scores = zip(*(judge.scores(each) for each in pictures), strict=True)
    columns = [column(leaks) if leaks else "", *(column([*values]) for values in scores), span]
    print(f"| {name} | {' | '.join(columns)} |", flush=True)


def _painted(dataset: PackedDataset, operations: list[str], kimg: float, seed: int) -> Pixels:
    """Pictures of a training with the usual operations and these."""
    settings = {"augment": [*USUAL, *operations], "augment_probability": PROBABILITY}
    return painted(dataset, settings, kimg, seed)


def _floats(images: Pixels) -> Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/leaks.py")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--operations", type=lambda text: text.split(","), default=OPERATIONS)
    parser.add_argument("--kimg", type=float, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for a sheet of each operation")
    return parser.parse_args()


if __name__ == "__main__":
    main()
