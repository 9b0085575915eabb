"""What the upscaler learns from and is judged by: paintings out of the shards, sharp at their own pixels.

A scraped JPEG is neither: so each is halved first, which leaves its compression artefacts behind. One whose half
is smaller than a training patch is reduced by less; one that is smaller itself is left out.

What the upscaler learns to undo: small versions of pictures, a quarter of them with the faults of generated ones.

Works on batches (B, 3, H, W) in [0, 1] on the CPU; every draw comes from the generator that is handed in.
"""

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from atelier.data.duplicates import Picture
from atelier.data.pack import split
from atelier.data.shards import Item
from atelier.errors import AtelierError
from atelier.images.verify import pixels_of, read_rgb, room_for
from atelier.pictures import Pixels
from atelier.pictures.blur import blurred

REDUCTION = 2.0  # GAN.md 5.3

LONGEST_PX = 512  # only the middle of what is larger after its reduction: bounds memory by 786 kB a painting

HELD_OUT = 0.05  # share of the paintings that are kept from training

JUDGED = 40  # held-out paintings that are enough for a mean


@dataclass(frozen=True)
class Pictures:
    """Pictures (H, W, 3) to train on and to judge by; `found` is how many there were to choose from."""

    train: list[Pixels]
    held_out: list[Pixels]
    found: int

    @property
    def content_key(self) -> str:
        """A digest of what is trained on: other pictures, another key."""
        content = hashlib.sha256()
        for picture in self.train:
            content.update(repr(picture.shape).encode())
            content.update(picture.data)
        return content.hexdigest()


def read_pictures(
    known: Sequence[Picture], items: Iterable[Item], smallest_px: int, most: int, workers: int
) -> Pictures:
    """At most `most` of the known paintings, read from the shards' items and reduced; no side below `smallest_px`.

    The hash of its id decides whether a painting is chosen: no seed, and few changes where paintings come or go.
    Raises AtelierError where fewer than two are large enough.
    """
    usable = [picture for picture in known if min(picture.width, picture.height) >= smallest_px]
    if len(usable) < 2:
        raise AtelierError(
            f"data/images: {len(usable)} of {len(known):,} paintings measure {smallest_px} px or more on their "
            "shorter side; the upscaler needs two: lower train_upscaler.patch_px, or download more"
        )
    chosen = heapq.nsmallest(most, usable, key=lambda picture: hashlib.sha256(picture.id.encode()).digest())
    train, held_out = split(chosen, HELD_OUT)
    wanted = {picture.id for picture in [*train, *held_out[:JUDGED]]}

    def read(item: Item) -> tuple[str, Pixels]:
        with room_for(pixels_of(item.content)):
            return item.id, reduced(read_rgb(item.content, item.name), smallest_px)

    with ThreadPoolExecutor(workers) as pool:  # Pillow decodes and resizes without Python's lock
        by_id = dict(pool.map(read, (item for item in items if item.id in wanted)))
    return Pictures(
        [by_id[picture.id] for picture in train],
        [by_id[picture.id] for picture in held_out[:JUDGED]],
        len(known),
    )


def reduced(image: Image.Image, smallest_px: int) -> Pixels:
    """A painting at half its size, or as near to that as `smallest_px` allows; the middle, where it is large."""
    reduction = min(REDUCTION, min(image.size) / smallest_px)
    width, height = (max(round(side / reduction), smallest_px) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = max(width - LONGEST_PX, 0) // 2, max(height - LONGEST_PX, 0) // 2
    middle = image.crop((left, top, min(left + LONGEST_PX, width), min(top + LONGEST_PX, height)))
    return np.asarray(middle)


# Strengths and chances: GAN.md 5.3, without what artworks never meet (JPEG) or were not seen to have (lost detail)
CLEAN = 0.75

BLUR = 0.5

NOISE_SIGMA = (0.0, 5 / 255)  # what generators of 64 px were seen to add to the finest detail: 2 to 5 of 255

CHECKERBOARD, CHECKERBOARD_SIZE = 0.2, (0.0, 0.03)


def degrade(images: Tensor, scale: int, blur_px: float, draws: torch.Generator) -> Tensor:
    """Images `scale` times smaller, antialiased, in 8-bit steps; about a quarter with the faults of generated pictures.

    Of these, half are blurred, by a Gaussian of at most `blur_px` small pixels.
    """
    count = len(images)
    small = torch.empty(count, 3, images.shape[2] // scale, images.shape[3] // scale)
    kernels = torch.randint(len(KERNELS), (count,), generator=draws)
    for index, kernel in enumerate(KERNELS.values()):
        chosen = kernels == index
        small[chosen] = _shrink_by(images[chosen], scale, kernel)
    faulty = _chance(1 - CLEAN, count, draws)
    small[faulty] = _with_faults(small[faulty], blur_px, draws)
    return (small.clamp(0, 1) * 255).round() / 255


def shrink(images: Tensor, scale: int, kernel: str) -> Tensor:
    """Pillow's antialiased resize by `bicubic` or `lanczos`, to 1/scale of each side (rounded down)."""
    return _shrink_by(images, scale, KERNELS[kernel])


def _shrink_by(images: Tensor, scale: int, kernel: "Kernel") -> Tensor:
    weight, support = kernel
    height, width = images.shape[2] // scale, images.shape[3] // scale
    images = images[:, :, : height * scale, : width * scale]
    reach = math.ceil((support - 0.5) * scale)  # taps beyond the block of scale × scale
    offsets = (torch.arange(-reach, scale + reach) + 0.5) / scale - 0.5
    taps = weight(offsets) * (offsets.abs() < support)
    for axis in (2, 3):
        images = _strided(images, taps, scale, reach, axis)
    return images


def _strided(images: Tensor, taps: Tensor, scale: int, reach: int, axis: int) -> Tensor:
    """Weighted means along one axis; taps that fall outside the picture are left out, as Pillow does."""
    kernel = taps.view(1, 1, -1, 1) if axis == 2 else taps.view(1, 1, 1, -1)
    stride, padding = ((scale, 1), (reach, 0)) if axis == 2 else ((1, scale), (0, reach))
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, 1, height, width)
    sums = functional.conv2d(planes, kernel, stride=stride, padding=padding)
    weights = functional.conv2d(torch.ones(1, 1, height, width), kernel, stride=stride, padding=padding)
    return (sums / weights).view(count, channels, *sums.shape[2:])


def _bicubic(offsets: Tensor) -> Tensor:
    x = offsets.abs()  # Keys' kernel with a = −1/2, as Pillow has it
    return torch.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)


def _lanczos(offsets: Tensor) -> Tensor:
    return torch.sinc(offsets) * torch.sinc(offsets / 3)


Kernel = tuple[Callable[[Tensor], Tensor], float]  # weight of an offset in small pixels, and where it ends

# not by area, as GAN.md 5.3 has it: nothing here shrinks so, and learning it costs of what Lanczos and bicubic gain
KERNELS: dict[str, Kernel] = {"bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}


def _with_faults(small: Tensor, blur_px: float, draws: torch.Generator) -> Tensor:
    """Softness, grain and checkerboards, each on its share of the images."""
    count = len(small)
    soft = _chance(BLUR, count, draws)
    small[soft] = blurred(small[soft], _uniform((0, blur_px), len(small[soft]), draws).flatten())
    small = small + _uniform(NOISE_SIGMA, count, draws) * torch.randn(small.shape, generator=draws)
    checkered = _chance(CHECKERBOARD, count, draws).view(-1, 1, 1, 1)
    return small + checkered * _checkerboard(small.shape, draws)


def _checkerboard(shape: torch.Size, draws: torch.Generator) -> Tensor:
    """What transposed convolutions leave: signs that alternate every pixel, or any pattern of period 4."""
    count, _, height, width = shape
    alternating = (-1.0) ** (torch.arange(4).view(4, 1) + torch.arange(4))
    any_pattern = torch.randint(0, 2, (count, 1, 4, 4), generator=draws) * 2.0 - 1
    cell = torch.where(_chance(0.5, count, draws).view(-1, 1, 1, 1), alternating, any_pattern)
    pattern = cell.repeat(1, 1, -(-height // 4), -(-width // 4))[:, :, :height, :width]
    return _uniform(CHECKERBOARD_SIZE, count, draws) * pattern


def _chance(probability: float, count: int, draws: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draws) < probability


def _uniform(bounds: tuple[float, float], count: int, draws: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.rand(count, 1, 1, 1, generator=draws) * (high - low) + low
