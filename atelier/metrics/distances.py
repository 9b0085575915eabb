"""Distances between two sets of feature vectors, and nearest neighbours among them.

Sliced Wasserstein distance between small patches of a Laplacian pyramid (ProGAN, arXiv 1710.10196).

It is sensitive to blur, checkerboards and noise, which the averages of features may miss.

How soft generated pictures are: the blur that makes real paintings' finest detail most like theirs.

What the upscaler learns to undo should reach as far (GAN.md 5.3). No weights: patches of a Laplacian pyramid are
compared, and one number is searched for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels
from atelier.pictures.blur import blurred_pictures

ROWS_AT_ONCE = 256  # bounds the memory of a block of pairs

NEIGHBOURS = 5  # of density and coverage, as their paper has it


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (u·v/d + 1)³ (KID, arXiv 1801.01401): 0 ± noise for equal sets."""
    a, b = features_a.double(), features_b.double()
    if min(len(a), len(b)) < 2:
        raise ValueError("KID needs at least two vectors on each side")
    within = [(_kernel_sum(x, x) - _kernel_diagonal(x)) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return sum(within) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """KID's (u·v/d + 1)³ of every pair, (len(a), len(b))."""
    return ((a @ b.T) / a.shape[1]).add_(1).pow_(3)


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance between the normal distributions that fit either set (FID, arXiv 1706.08500).

    |μa − μb|² + tr Σa + tr Σb − 2 tr √(Σa Σb); it falls as the sets grow.
    """
    means, factors = [], []
    for features in (features_a.double(), features_b.double()):
        mean = features.mean(0)
        means.append(mean)
        factors.append(torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R)
    # with Σ = RᵀR that last trace is the sum of the singular values of Ra Rbᵀ, however few vectors there are
    common = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    spread = sum(factor.square().sum() for factor in factors)
    return float((means[0] - means[1]).square().sum() + spread - 2 * common)


@lru_cache(maxsize=4)
def directions(width: int, count: int, seed: int) -> Tensor:
    """Unit vectors (count, width), float64, of a CPU generator."""
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return functional.normalize(drawn)


def density_and_coverage(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """How full of fakes the neighbourhoods of reals are, and how many reals have a fake near (arXiv 2002.09797).

    A real's neighbourhood reaches to its fifth nearest real (to the last one, of fewer). Equal sets: about 1 and
    0.97; coverage falls as modes are lost, density as fakes leave the reals.
    """
    neighbours = min(NEIGHBOURS, len(real) - 1)
    radii = torch.cdist(real, real).kthvalue(neighbours + 1, dim=1).values  # each is its own first
    inside = torch.cdist(real, fake) < radii[:, None]
    density = float(inside.sum()) / (neighbours * len(fake))
    return density, float(inside.any(1).double().mean())


def nearest(queries: Tensor, pool: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance to and row of each query's nearest vector of `pool`; rows `own` (n, k) of the pool do not count."""
    distances, rows = [], []
    for start, part in _blocks(queries):
        pairs = torch.cdist(part, pool)
        if own is not None:
            pairs.scatter_(1, own[start : start + len(part)], float("inf"))
        found = pairs.min(1)
        distances.append(found.values)
        rows.append(found.indices)
    return torch.cat(distances), torch.cat(rows)


def _blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, rows[start : start + ROWS_AT_ONCE]


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    return float(sum(kernel(part, b).sum() for _, part in _blocks(a)))


def _kernel_diagonal(a: Tensor) -> float:
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())


SIDE_PX = 7

PATCHES = 32  # of each picture at each level

DIRECTIONS = 256

COARSEST_PX = 16

PIXELS_AT_ONCE = 256 * 64 * 64

BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


class PatchReference:
    """The patches of the paintings that others are compared with, level by level, projected and sorted once.

    Each channel is standardised by the reference's mean and deviation; patches and directions are drawn by `seed`.
    """

    def __init__(self, images: Pixels, seed: int) -> None:
        self.levels_px = tuple(levels_px(images.shape[1]))
        self._seed = seed
        self._scales: list[tuple[Tensor, Tensor]] = []
        self._sorted: list[Tensor] = []
        self._lines = directions(3 * SIDE_PX**2, DIRECTIONS, seed).float()
        for patches in _patches(images, seed):
            std, mean = torch.std_mean(patches, (0, 2, 3), keepdim=True)
            self._scales.append((mean, std.clamp_min(1e-6)))
            self._sorted.append(self._project(patches, *self._scales[-1]))

    def distances(self, images: Pixels) -> tuple[float, ...]:
        """The distance at each level, finest first, of as many pictures as the reference has."""
        found = []
        for patches, scale, reference in zip(
            _patches(images, self._seed), self._scales, self._sorted, strict=True
        ):
            found.append(float((self._project(patches, *scale) - reference).abs().mean()))
        return tuple(found)

    def _along_lines(self, patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return self._lines @ ((patches - mean) / std).flatten(1).T

    def _project(self, patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        projected = self._along_lines(patches, mean, std)
        projected.numpy().sort(axis=1)  # in place; NumPy's vectorised sort is five times as fast as torch's
        return projected


def levels_px(resolution: int) -> Iterator[int]:
    """The sides of the pyramid's levels: 64, 32, 16 for pictures of 64 px."""
    while resolution >= COARSEST_PX:
        yield resolution
        resolution //= 2


def _patches(images: Pixels, seed: int) -> list[Tensor]:
    """Of each level, patches (n · PATCHES, 3, 7, 7) at random places of every picture."""
    generator = torch.Generator("cpu").manual_seed(seed)
    batch = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    pieces: list[list[Tensor]] = [[] for _ in levels_px(images.shape[1])]
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(np.array(images[start : start + batch]))
        for level, band in enumerate(_pyramid(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, len(pieces))):
            pieces[level].append(_drawn(band, generator))
    return [torch.cat(level) for level in pieces]


def _pyramid(images: Tensor, levels: int) -> Iterator[Tensor]:
    """Band after band, finest first; the last keeps all that is coarser."""
    for _ in range(levels - 1):
        coarse = _halved(images)
        yield images - functional.interpolate(coarse, scale_factor=2, mode="bilinear")
        images = coarse
    yield images


def _halved(images: Tensor) -> Tensor:
    row = torch.tensor(BINOMIAL) / sum(BINOMIAL)
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    return functional.conv2d(functional.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=3)


def _drawn(band: Tensor, generator: torch.Generator) -> Tensor:
    places = torch.randint(band.shape[2] - SIDE_PX + 1, (2, len(band), PATCHES), generator=generator)
    windows = band.unfold(2, SIDE_PX, 1).unfold(3, SIDE_PX, 1)
    own = torch.arange(len(band))[:, None]
    return windows[own, :, places[0], places[1]].flatten(0, 1)


MOST = 250  # pictures a side: more change little, and every blur tried costs them

WIDEST_PX, COARSE_PX, FINE_PX = 3.0, 0.25, 0.05  # what is searched, and in which steps

FAR = 1.5  # times the least distance seen: the search is past it


@dataclass(frozen=True)
class Softness:
    """Sigmas of a Gaussian in pixels: of the generated pictures, and of real paintings that were judged like them."""

    value: float
    floor: float


def softness(generated: Pixels, training: Pixels, held_out: Pixels, seed: int) -> Softness:
    """How far training paintings must be blurred to be like the generated pictures (n, H, W, 3), or the held-out."""
    return Softness(_matching_blur(generated, training, seed), _matching_blur(held_out, training, seed))


def _matching_blur(pictures: Pixels, sharp: Pixels, seed: int) -> float:
    """The sigma whose blur of `sharp` is nearest to `pictures` in the finest level of the pyramid."""
    count = min(len(pictures), len(sharp), MOST)
    random = np.random.default_rng(seed)
    reference = PatchReference(_some(pictures, count, random), seed)
    paintings = _some(sharp, count, random)

    def distance(sigma_px: float) -> float:
        return reference.distances(blurred_pictures(paintings, sigma_px))[0]

    coarse, nearest = 0.0, float("inf")
    for sigma_px in np.arange(0, WIDEST_PX + COARSE_PX / 2, COARSE_PX):
        found = distance(sigma_px)
        if found < nearest:
            coarse, nearest = sigma_px, found
        elif found > FAR * nearest:
            break  # it only rises from here
    steps = round(COARSE_PX / FINE_PX) - 1
    around = coarse + FINE_PX * np.arange(-steps if coarse else 0, steps + 1)
    return round(float(min(around, key=distance)), 2)


def _some(pictures: Pixels, count: int, random: np.random.Generator) -> Pixels:
    chosen: Pixels = pictures[np.sort(random.permutation(len(pictures))[:count])]
    return chosen
