"""Sliced Wasserstein distance between small patches of a Laplacian pyramid (ProGAN, arXiv 1710.10196).

It is sensitive to blur, checkerboards and noise, which the averages of features may miss.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from atelier.metrics.distances import directions

Pixels = npt.NDArray[np.uint8]
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
