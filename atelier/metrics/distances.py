"""Distances between two sets of feature vectors, and nearest neighbours among them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 256  # bounds the memory of a block of pairs
NEIGHBOURS = 5  # of density and coverage, as in their paper


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (u·v/d + 1)³ (KID, arXiv 1801.01401): 0 ± noise for equal sets."""
    a, b = features_a.double(), features_b.double()
    if min(len(a), len(b)) < 2:
        raise ValueError("KID needs at least two vectors on each side")
    within = [(_kernel_sum(x, x) - _kernel_diagonal_sum(x)) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return sum(within) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """KID's kernel (u·v/d + 1)³ of every pair, (len(a), len(b))."""
    return ((a @ b.T) / a.shape[1]).add_(1).pow_(3)


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance between the normal distributions fitted to both sets (FID, arXiv 1706.08500).

    |μa − μb|² + tr Σa + tr Σb − 2 tr √(Σa Σb). It falls as the sets grow.
    """
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


def rounded(value: Any) -> Any:
    """Round the floats of nested dicts to 6 significant digits, as metrics are written; drop keys without a value."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items() if part is not None}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    return float(sum(kernel(part, b).sum() for _, part in _blocks(a)))


def _kernel_diagonal_sum(a: Tensor) -> float:
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())


def _blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, rows[start : start + ROWS_AT_ONCE]
