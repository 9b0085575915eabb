"""The coverage of each label: how many of its paintings have a picture of that label near them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from atelier.data.dataset import PackedDataset
from atelier.metrics.distances import MAX_TRAINING, MIN_PICTURES, quick_scores, random_rows
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.networks import load_generator
from atelier.networks.efficientnet import LITE0, LiteVariant
from atelier.networks.latent_field import render_seed
from atelier.pictures import Pixels

MAX_COMPARED = 120  # paintings of a label
MIN_HELD_OUT = 20  # with fewer, a label's pictures are compared with its training paintings
MIN_PAINTED = 60  # pictures of a label; a coverage is the mean over groups of as many as there are paintings


@dataclass(frozen=True)
class LabelScore:
    """The shares of a label's paintings that have a picture near them, as `density_and_coverage`.

    coverage: by pictures of that label. any_label: by pictures with all labels as often as in the training set; where
    the label decides what is painted, it is lower. floor: by other paintings of that label, None if there are too few.
    """

    coverage: float
    any_label: float
    floor: float | None
    compared: int  # paintings
    side: Literal["held-out", "training"]  # where they are from

    @property
    def in_words(self) -> str:
        real = "" if self.floor is None else f"real {self.floor:.2f}, "
        with_any = f"pictures of any label {self.any_label:.2f}"
        return f"coverage {self.coverage:.2f} of {self.compared} {self.side} paintings ({real}{with_any})"


def label_scores(
    model: Path, dataset: PackedDataset, pictures: Pixels, seed: int, device: torch.device, judge: LiteVariant = LITE0
) -> dict[str, LabelScore]:
    """The score of each label of a model; empty for a model without labels. `pictures` are of labels as they occur.

    Labels with fewer than two paintings have none. `judge` computes the features, on `device`.
    """
    generator, _ = load_generator(model, device)
    labels = generator.labels
    if labels is None:
        return {}
    extractor, random = FeatureExtractor(device, network=judge), np.random.default_rng(seed)
    training, held_out = dataset.train.images, dataset.held_out.images
    scale = training[random_rows(random, len(training), MAX_TRAINING)]
    space = FeatureSpace(*extractor.sharp_and_coarse(scale))

    def features(images: Pixels) -> FeatureSet:
        return space(*extractor.sharp_and_coarse(images))

    classes = [labels.rows(view.values(labels.kind)).numpy() for view in (dataset.train, dataset.held_out)]
    of_any = features(pictures[: 2 * MAX_COMPARED])
    found: dict[str, LabelScore] = {}
    for number, name in enumerate(labels.names):
        trained, held = (_shuffled(random, np.flatnonzero(side == number)) for side in classes)
        side: Literal["held-out", "training"] = "held-out" if len(held) >= MIN_HELD_OUT else "training"
        rows = np.sort((held if side == "held-out" else trained)[:MAX_COMPARED])
        if len(rows) < MIN_PICTURES:
            continue
        paintings = features((held_out if side == "held-out" else training)[rows])
        others = trained if side == "held-out" else trained[len(rows) :]
        own = np.concatenate([*render_seed(generator, seed, max(len(rows), MIN_PAINTED), name)])
        floor = None
        if len(others) >= len(rows):
            floor = quick_scores(paintings, features(training[np.sort(others[: len(rows)])])).coverage
        found[name] = LabelScore(
            quick_scores(paintings, features(own)).coverage,
            quick_scores(paintings, of_any).coverage,
            floor,
            len(rows),
            side,
        )
    return found


def _shuffled(random: np.random.Generator, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[random.permutation(len(rows))]
