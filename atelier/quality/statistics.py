"""Distances between two sets of feature vectors, and what nearest neighbours say. Knows nothing of pictures."""

from torch import Tensor

ROWS_AT_ONCE = 2048  # bounds the memory of a block of pairs


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (u·v/d + 1)³ (KID, arXiv 1801.01401): 0 ± noise for equal sets."""
    a, b = features_a.double(), features_b.double()
    if min(len(a), len(b)) < 2:
        raise ValueError("KID needs at least two vectors on each side")
    within = sum((_kernel_sum(x, x) - _kernel_diagonal(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return within - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    return sum(float(((rows @ b.T) / a.shape[1]).add_(1).pow_(3).sum()) for rows in a.split(ROWS_AT_ONCE))


def _kernel_diagonal(a: Tensor) -> float:
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
