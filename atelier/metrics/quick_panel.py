"""Quick scores of generated pictures against held-out paintings, for the snapshots of a training.

A part of the panel (`atelier.metrics.panel`) that is cheap: fewer pictures, no patches and no search for copies. It is
a module of its own so that a change of the full panel retrains nothing.
"""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from atelier.errors import AtelierError
from atelier.metrics.distances import density_and_coverage, kid
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.pictures import Pixels

QUICK_PICTURES = 100  # generated ones behind quick scores
MAX_TRAINING, MAX_HELD_OUT = 240, 100  # paintings behind quick scores
MIN_PICTURES = 2  # on each side


@dataclass(frozen=True)
class QuickScores:
    """Distances (0 is best) and density and coverage (of real paintings about 1) of a set of pictures."""

    kid: float
    kid_coarse: float
    density: float
    coverage: float


class QuickPanel:
    """Scores pictures against at most 240 training and 100 held-out paintings (n, H, W, 3), chosen by `seed`.

    Raises AtelierError if there are fewer than two of either.
    """

    def __init__(self, training: Pixels, held_out: Pixels, device: torch.device | str = "cpu", seed: int = 0) -> None:
        check_counts(QUICK_PICTURES, len(training), len(held_out))
        self._features = FeatureExtractor(device)
        random = np.random.default_rng(seed)
        paintings = training[random_rows(random, len(training), MAX_TRAINING)]
        self._space = FeatureSpace(self._features(paintings), self._features(paintings, coarse=True))
        self._real = self._feature_set(held_out[random_rows(random, len(held_out), MAX_HELD_OUT)])

    def scores(self, pictures: Pixels) -> QuickScores:
        """Score generated pictures (n, H, W, 3); n is at least 2, and best QUICK_PICTURES."""
        return quick_scores(self._real, self._feature_set(pictures))

    def _feature_set(self, images: Pixels) -> FeatureSet:
        return self._space(self._features(images), self._features(images, coarse=True))


def quick_scores(real: FeatureSet, generated: FeatureSet) -> QuickScores:
    """Score generated pictures against paintings; density and coverage are means over groups of equal size."""
    size = min(len(real), len(generated))
    last = len(generated) - size
    starts = sorted({*range(0, last + 1, size), last})  # the last two groups may overlap
    found = [density_and_coverage(real.principal[:size], generated.principal[start : start + size]) for start in starts]
    return QuickScores(
        kid=kid(generated.sharp, real.sharp),
        kid_coarse=kid(generated.coarse, real.coarse),
        density=fmean(density for density, _ in found),
        coverage=fmean(coverage for _, coverage in found),
    )


def check_counts(generated: int, training: int, held_out: int) -> None:
    """Raise AtelierError unless each side has the two pictures that a comparison needs."""
    if min(generated, training, held_out) < MIN_PICTURES:
        raise AtelierError(
            f"evaluation compares {generated} generated pictures with {training} training and {held_out} held-out "
            "paintings and needs two of each: use more paintings, or raise augment.held_out"
        )


def random_rows(random: np.random.Generator, count: int, at_most: int) -> npt.NDArray[np.int64]:
    """Sorted row numbers below `count`, `at_most` of them."""
    return np.sort(random.permutation(count)[:at_most])
