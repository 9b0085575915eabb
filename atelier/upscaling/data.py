"""The upscaler's data: paintings from the shards, to train and to measure on, and their degraded small versions.

A scraped JPEG is not sharp at its own pixels, so each painting is first reduced to half its size, or as near to that as
a training patch allows; smaller ones are left out. The upscaler learns to undo `degrade`: small versions of pictures, a
quarter of them with the faults of generated ones. All random draws come from the generator that is passed in.
"""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.data.duplicates import Picture
from atelier.data.pack import split
from atelier.data.shards import Item
from atelier.errors import AtelierError
from atelier.images.verify import claimed_pixels, decoding_slot, read_rgb
from atelier.pictures import Pixels
from atelier.pictures.filters import KERNELS, blur, shrink

REDUCTION = 2.0  # of each painting's sides
MAX_SIDE_PX = 512  # of a reduced painting, cut to its middle: bounds memory by 786 kB a painting
HELD_OUT_SHARE = 0.05
MAX_HELD_OUT = 40  # paintings, enough for a mean

# Milder than Real-ESRGAN's (arXiv 2107.10833), and without faults that artworks do not have: JPEG and lost detail
CLEAN_SHARE = 0.75
BLUR_SHARE = 0.5
NOISE_SIGMA = (0.0, 5 / 255)  # generators of 64 px were measured to add 2 to 5 of 255 to the finest detail
CHECKERBOARD_SHARE, CHECKERBOARD_SIZE = 0.2, (0.0, 0.03)


@dataclass(frozen=True)
class PaintingSets:
    """Paintings (H, W, 3) to train on and to measure on; `found` is how many there were to choose from."""

    train: list[Pixels]
    held_out: list[Pixels]
    found: int

    @property
    def content_key(self) -> str:
        """SHA-256 of the paintings to train on."""
        content = hashlib.sha256()
        for picture in self.train:
            content.update(repr(picture.shape).encode())
            content.update(picture.data)
        return content.hexdigest()


def read_paintings(
    known: Sequence[Picture], items: Iterable[Item], smallest_px: int, at_most: int, workers: int
) -> PaintingSets:
    """Read up to `at_most` of the known paintings from the shards' items, reduced to no less than `smallest_px`.

    The hash of its id decides whether a painting is chosen, so that few choices change as paintings come and go.
    Raises AtelierError if fewer than two are large enough.
    """
    usable = [picture for picture in known if min(picture.width, picture.height) >= smallest_px]
    if len(usable) < 2:
        raise AtelierError(
            f"data/images: {len(usable)} of {len(known):,} paintings measure {smallest_px} px or more on their "
            "shorter side; the upscaler needs two: lower train_upscaler.patch_px, or download more"
        )
    chosen = heapq.nsmallest(at_most, usable, key=lambda picture: hashlib.sha256(picture.id.encode()).digest())
    train, held_out = split(chosen, HELD_OUT_SHARE)
    wanted = {picture.id for picture in [*train, *held_out[:MAX_HELD_OUT]]}

    def read(item: Item) -> tuple[str, Pixels]:
        with decoding_slot(claimed_pixels(item.content)):
            return item.id, reduce_painting(read_rgb(item.content, item.name), smallest_px)

    with ThreadPoolExecutor(workers) as pool:  # Pillow releases Python's lock while it decodes and resizes
        by_id = dict(pool.map(read, (item for item in items if item.id in wanted)))
    return PaintingSets(
        [by_id[picture.id] for picture in train], [by_id[picture.id] for picture in held_out[:MAX_HELD_OUT]], len(known)
    )


def reduce_painting(image: Image.Image, smallest_px: int) -> Pixels:
    """Reduce a painting to half its size, or as near to that as `smallest_px` allows, and cut it to its middle."""
    reduction = min(REDUCTION, min(image.size) / smallest_px)
    width, height = (max(round(side / reduction), smallest_px) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = max(width - MAX_SIDE_PX, 0) // 2, max(height - MAX_SIDE_PX, 0) // 2
    middle = image.crop((left, top, min(left + MAX_SIDE_PX, width), min(top + MAX_SIDE_PX, height)))
    return np.asarray(middle)


def degrade(images: Tensor, scale: int, blur_px: float, random: torch.Generator) -> Tensor:
    """Shrink images by `scale`, antialiased, in 8-bit steps; a quarter of them get the faults of generated pictures.

    Half of those are blurred by a Gaussian of at most `blur_px` small pixels.
    """
    count = len(images)
    small = torch.empty(count, 3, images.shape[2] // scale, images.shape[3] // scale)
    kernels = torch.randint(len(KERNELS), (count,), generator=random)
    for index, kernel in enumerate(KERNELS):
        chosen = kernels == index
        small[chosen] = shrink(images[chosen], scale, kernel)
    faulty = _choose(1 - CLEAN_SHARE, count, random)
    small[faulty] = _add_faults(small[faulty], blur_px, random)
    return (small.clamp(0, 1) * 255).round() / 255


def _add_faults(small: Tensor, blur_px: float, random: torch.Generator) -> Tensor:
    count = len(small)
    soft = _choose(BLUR_SHARE, count, random)
    small[soft] = blur(small[soft], _uniform((0, blur_px), len(small[soft]), random).flatten())
    small = small + _uniform(NOISE_SIGMA, count, random) * torch.randn(small.shape, generator=random)
    checkered = _choose(CHECKERBOARD_SHARE, count, random).view(-1, 1, 1, 1)
    return small + checkered * _checkerboard(small.shape, random)


def _checkerboard(shape: torch.Size, random: torch.Generator) -> Tensor:
    """The patterns that transposed convolutions leave: signs that alternate every pixel, or any of period 4."""
    count, _, height, width = shape
    alternating = (-1.0) ** (torch.arange(4).view(4, 1) + torch.arange(4))
    any_pattern = torch.randint(0, 2, (count, 1, 4, 4), generator=random) * 2.0 - 1
    cell = torch.where(_choose(0.5, count, random).view(-1, 1, 1, 1), alternating, any_pattern)
    pattern = cell.repeat(1, 1, -(-height // 4), -(-width // 4))[:, :, :height, :width]
    return _uniform(CHECKERBOARD_SIZE, count, random) * pattern


def _choose(probability: float, count: int, random: torch.Generator) -> Tensor:
    return torch.rand(count, generator=random) < probability


def _uniform(bounds: tuple[float, float], count: int, random: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.rand(count, 1, 1, 1, generator=random) * (high - low) + low
