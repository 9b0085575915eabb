"""What the upscaler learns to undo: small versions of pictures, a quarter of them with the faults of generated ones.

Works on batches (B, 3, H, W) in [0, 1] on the CPU; every draw comes from the generator that is handed in.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from atelier.pictures.blur import blurred

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
