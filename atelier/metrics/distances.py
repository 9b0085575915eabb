"""Distances between two sets of feature vectors, and the quick scores of a training's snapshots made of them.

The quick panel is the cheap part of the panel (`atelier.metrics.panel`): fewer pictures, no patches and no search for
copies. It is not in that module so that a change of the full panel retrains nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.networks.efficientnet import LITE0, LiteVariant
from atelier.pictures import Pixels

ROWS_AT_ONCE = 256  # bounds the memory of a block of pairs
NEIGHBOURS = 5  # of density and coverage, as in their paper
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

    `judge` is the network that computes the features.
    """

    def __init__(
        self, training: Pixels, held_out: Pixels, device: torch.device | str = "cpu", seed: int = 0,
        judge: LiteVariant = LITE0,
    ) -> None:  # fmt: skip
        check_counts(QUICK_PICTURES, len(training), len(held_out))
        self._features = FeatureExtractor(device, judge)
        random = np.random.default_rng(seed)
        paintings = training[random_rows(random, len(training), MAX_TRAINING)]
        self._space = FeatureSpace(*self._features.sharp_and_coarse(paintings))
        real = held_out[random_rows(random, len(held_out), MAX_HELD_OUT)]
        self._real = self._space(*self._features.sharp_and_coarse(real))

    def scores(self, pictures: Pixels) -> QuickScores:
        """Score generated pictures (n, H, W, 3). n must be at least 2; scores are compared at QUICK_PICTURES."""
        return quick_scores(self._real, self._space(*self._features.sharp_and_coarse(pictures)))


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


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (u·v/d + 1)³ (KID, arXiv 1801.01401): 0 ± noise for equal sets."""
    a, b = features_a.double(), features_b.double()
    if min(len(a), len(b)) < 2:
        raise ValueError("KID needs at least two vectors on each side")
    within = []
    for x in (a, b):
        diagonal = float((x.square().sum(1) / x.shape[1] + 1).pow(3).sum())
        within.append((_kernel_sum(x, x) - diagonal) / (len(x) * (len(x) - 1)))
    return sum(within) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """KID's kernel (u·v/d + 1)³ of every pair, (len(a), len(b))."""
    return ((a @ b.T) / a.shape[1]).add_(1).pow_(3)


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of fitted normals (FID, arXiv 1706.08500): |μa − μb|² + tr Σa + tr Σb − 2 tr √(Σa Σb)."""
    means, factors = [], []
    for features in (features_a.double(), features_b.double()):
        mean = features.mean(0)
        means.append(mean)
        factors.append(torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R)
    # with Σ = RᵀR the last trace is the sum of the singular values of Ra Rbᵀ, however few vectors there are
    common = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    traces = sum(factor.square().sum() for factor in factors)
    return float((means[0] - means[1]).square().sum() + traces - 2 * common)


def density_and_coverage(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Density and coverage (arXiv 2002.09797) of the fake vectors in the neighbourhoods of the real ones.

    A real vector's neighbourhood reaches to its fifth nearest real vector, or to the farthest if there are fewer.
    Equal sets score about 1 and 0.97; coverage falls as modes are lost, density as fakes leave the real ones.
    """
    neighbours = min(NEIGHBOURS, len(real) - 1)
    radii = torch.cdist(real, real).kthvalue(neighbours + 1, dim=1).values  # the nearest of each is itself
    inside = torch.cdist(real, fake) < radii[:, None]
    density = float(inside.sum()) / (neighbours * len(fake))
    return density, float(inside.any(1).double().mean())


def nearest(queries: Tensor, pool: Tensor, excluded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance to and row of each query's nearest vector in `pool`, without its `excluded` rows (n, k)."""
    distances, rows = [], []
    for start, part in _blocks(queries):
        pairs = torch.cdist(part, pool)
        if excluded is not None:
            pairs.scatter_(1, excluded[start : start + len(part)], float("inf"))
        found = pairs.min(1)
        distances.append(found.values)
        rows.append(found.indices)
    return torch.cat(distances), torch.cat(rows)


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round the floats of nested dicts to 6 significant digits, as metrics are written; drop keys without a value."""
    found: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    for name, value in found.items():
        if isinstance(value, Mapping):
            found[name] = rounded(value)
        elif isinstance(value, float):
            found[name] = float(f"{value:.6g}")
    return found


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    return float(sum(kernel(part, b).sum() for _, part in _blocks(a)))


def _blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, rows[start : start + ROWS_AT_ONCE]
