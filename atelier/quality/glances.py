"""The cheap part of the panel, for a look at generated pictures while their training runs."""

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from atelier.quality.features import Reference
from atelier.quality.statistics import density_and_coverage, kid, mind


@dataclass(frozen=True)
class Glance:
    """kid_rand of all pictures; the others are means over groups as large as the reference, as in the panel."""

    kid_rand: float
    mind_rand: float
    density: float
    coverage: float


def glance(reference: Reference, features: Tensor, seed: int) -> Glance:
    """Judge generated pictures by their features (n, 960), n at least 2; `seed` draws mind_rand's directions."""
    real, generated = reference.standardise(reference.features), reference.standardise(features)
    size = min(len(real), len(generated))
    groups = [part for part in torch.split(generated, size) if len(part) == size]
    found = [density_and_coverage(real, part) for part in groups]
    return Glance(
        kid_rand=kid(generated, real),
        mind_rand=fmean(mind(part, real[:size], seed) for part in groups),
        density=fmean(density for density, _ in found),
        coverage=fmean(coverage for _, coverage in found),
    )
