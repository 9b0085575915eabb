"""Distances between small patches of a Laplacian pyramid, and the softness in pixels that follows from them.

The sliced Wasserstein distance of patches (ProGAN, arXiv 1710.10196) is sensitive to blur, checkerboards and noise,
which averages of features may miss. Softness is the blur that makes real paintings' finest level most like that of the
generated pictures. Neither needs a network's weights.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels
from atelier.pictures.filters import blur_pictures

PATCH_PX = 7
PATCHES = 32  # of each picture at each level
DIRECTIONS = 256
COARSEST_PX = 16
PIXELS_AT_ONCE = 256 * 64 * 64  # bounds the memory of a pyramid
BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
MAX_PICTURES = 250  # of softness, on each side: more change little, and each blur that is tried costs them
WIDEST_PX, COARSE_STEP_PX, FINE_STEP_PX = (3.0, 0.25, 0.05)  # the range of blurs that softness tries, and its steps
STOP_RATIO = 1.5  # the search stops at a blur this many times farther off than the nearest so far


def softness(generated: Pixels, training: Pixels, held_out: Pixels, seed: int) -> dict[str, float]:
    """The blur, σ in pixels, that makes training paintings most like generated pictures; floor: like held-out ones."""
    value, floor = (_matching_blur_px(pictures, training, seed) for pictures in (generated, held_out))
    return {"value": value, "floor": floor}


class PatchReference:
    """The patches of a set of pictures, projected onto random directions and sorted, level by level.

    Each channel is standardised by the reference's mean and deviation; `seed` draws patches and directions.
    """

    def __init__(self, images: Pixels, seed: int) -> None:
        self.levels_px = tuple(_levels_px(min(images.shape[1:3])))
        self._seed = seed
        self._scales: list[tuple[Tensor, Tensor]] = []
        self._sorted: list[Tensor] = []
        generator = torch.Generator("cpu").manual_seed(seed)
        vectors = torch.randn(DIRECTIONS, 3 * PATCH_PX**2, generator=generator, dtype=torch.float64)
        self._directions = functional.normalize(vectors).float()
        for patches in _patches(images, seed):
            std, mean = torch.std_mean(patches, (0, 2, 3), keepdim=True)
            self._scales.append((mean, std.clamp_min(1e-6)))
            self._sorted.append(self._project(patches, *self._scales[-1]))

    def distances(self, images: Pixels) -> tuple[float, ...]:
        """The distance at each level, finest first, of as many pictures as the reference has."""
        found = []
        for patches, scale, reference in zip(_patches(images, self._seed), self._scales, self._sorted, strict=True):
            found.append(float((self._project(patches, *scale) - reference).abs().mean()))
        return tuple(found)

    def _project(self, patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Projections of standardised patches onto the directions, (DIRECTIONS, n), sorted along each."""
        projected = self._directions @ ((patches - mean) / std).flatten(1).T
        projected.numpy().sort(axis=1)  # in place; NumPy's vectorised sort is five times as fast as torch's
        return projected


def _levels_px(side_px: int) -> Iterator[int]:
    """The shorter sides of the pyramid's levels: 64, 32, 16 for pictures of 64 px."""
    while side_px >= COARSEST_PX:
        yield side_px
        side_px //= 2


def _patches(images: Pixels, seed: int) -> list[Tensor]:
    """Patches (n · PATCHES, 3, 7, 7) of each level, at random places of every picture."""
    generator = torch.Generator("cpu").manual_seed(seed)
    batch = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    pieces: list[list[Tensor]] = [[] for _ in _levels_px(min(images.shape[1:3]))]
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(np.array(images[start : start + batch]))
        for level, band in enumerate(_pyramid(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, len(pieces))):
            sizes = (side - PATCH_PX + 1 for side in band.shape[2:])
            places = [torch.randint(size, (len(band), PATCHES), generator=generator) for size in sizes]
            windows = band.unfold(2, PATCH_PX, 1).unfold(3, PATCH_PX, 1)
            rows = torch.arange(len(band))[:, None]
            pieces[level].append(windows[rows, :, places[0], places[1]].flatten(0, 1))
    return [torch.cat(level) for level in pieces]


def _pyramid(images: Tensor, levels: int) -> Iterator[Tensor]:
    """The bands of a Laplacian pyramid, finest first; the last holds everything coarser."""
    row = torch.tensor(BINOMIAL) / sum(BINOMIAL)
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    for _ in range(levels - 1):
        padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
        coarse = functional.conv2d(padded, kernel, stride=2, groups=3)
        yield images - functional.interpolate(coarse, scale_factor=2, mode="bilinear")
        images = coarse
    yield images


def _matching_blur_px(pictures: Pixels, sharp: Pixels, seed: int) -> float:
    """The sigma whose blur of `sharp` is nearest to `pictures` in the finest level of the pyramid."""
    count = min(len(pictures), len(sharp), MAX_PICTURES)
    random = np.random.default_rng(seed)
    reference = PatchReference(_sample(pictures, count, random), seed)
    paintings = _sample(sharp, count, random)

    def distance(sigma_px: float) -> float:
        return reference.distances(blur_pictures(paintings, sigma_px))[0]

    coarse_px, nearest = 0.0, float("inf")
    for sigma_px in np.arange(0, WIDEST_PX + COARSE_STEP_PX / 2, COARSE_STEP_PX):
        found = distance(sigma_px)
        if found < nearest:
            coarse_px, nearest = sigma_px, found
        elif found > STOP_RATIO * nearest:
            break  # wider blurs are farther off still
    steps = round(COARSE_STEP_PX / FINE_STEP_PX) - 1
    around = coarse_px + FINE_STEP_PX * np.arange(-steps if coarse_px else 0, steps + 1)
    return round(float(min(around, key=distance)), 2)


def _sample(pictures: Pixels, count: int, random: np.random.Generator) -> Pixels:
    chosen: Pixels = pictures[np.sort(random.permutation(len(pictures))[:count])]
    return chosen
