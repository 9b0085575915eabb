"""Filters on batches of images: Gaussian blur, and shrinking as Pillow does it (on batches, which Pillow cannot)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels

RADIUS_SIGMAS = 3.3  # weights farther out are below a thousandth
PIXELS_AT_ONCE = 100 * 64 * 64  # bounds the memory of `blur_pictures`

Kernel = tuple[Callable[[Tensor], Tensor], float]  # weight by distance in small pixels, and radius


def blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur each of the images (B, 3, H, W) by a Gaussian of its own `sigma_px` (B); 0 changes nothing."""
    if not len(images):
        return images
    radius = max(1, math.ceil(RADIUS_SIGMAS * float(sigma_px.max())))
    offsets = torch.arange(-radius, radius + 1.0, device=images.device)
    taps = torch.exp(-0.5 * (offsets / sigma_px.view(-1, 1).clamp_min(1e-3)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)  # one filter per colour plane
    planes = images.reshape(1, -1, *images.shape[2:])
    planes = functional.pad(planes, (radius,) * 4, mode="replicate")
    planes = functional.conv2d(planes, taps[:, None, :, None], groups=len(taps))
    planes = functional.conv2d(planes, taps[:, None, None, :], groups=len(taps))
    return planes.view(images.shape)


def blur_pictures(pictures: Pixels, sigma_px: float) -> Pixels:
    """Blur all pictures (n, H, W, 3), n at least 1, by the same Gaussian; they may be memory-mapped."""
    at_once = max(1, PIXELS_AT_ONCE // (pictures.shape[1] * pictures.shape[2]))
    pieces = []
    for start in range(0, len(pictures), at_once):
        images = torch.from_numpy(np.array(pictures[start : start + at_once])).permute(0, 3, 1, 2).float()
        images = blur(images, torch.full((len(images),), sigma_px)).round().clamp(0, 255)
        pieces.append(images.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(pieces)


def shrink(images: Tensor, scale: int, kernel: str) -> Tensor:
    """Shrink images (B, C, H, W) to 1/scale of each side (rounded down), antialiased, `bicubic` or `lanczos`."""
    weight, radius = KERNELS[kernel]
    height, width = images.shape[2] // scale, images.shape[3] // scale
    images = images[:, :, : height * scale, : width * scale]
    reach = math.ceil((radius - 0.5) * scale)  # taps beyond the block of scale × scale
    offsets = (torch.arange(-reach, scale + reach) + 0.5) / scale - 0.5
    taps = weight(offsets) * (offsets.abs() < radius)
    for axis in (2, 3):
        images = _strided_mean(images, taps, scale, reach, axis)
    return images


def _strided_mean(images: Tensor, taps: Tensor, scale: int, reach: int, axis: int) -> Tensor:
    """Weighted means along one axis; taps outside the picture are left out, as in Pillow."""
    kernel = taps.view(1, 1, -1, 1) if axis == 2 else taps.view(1, 1, 1, -1)
    stride, padding = ((scale, 1), (reach, 0)) if axis == 2 else ((1, scale), (0, reach))
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, 1, height, width)
    sums = functional.conv2d(planes, kernel, stride=stride, padding=padding)
    weights = functional.conv2d(torch.ones(1, 1, height, width), kernel, stride=stride, padding=padding)
    return (sums / weights).view(count, channels, *sums.shape[2:])


def _bicubic(offsets: Tensor) -> Tensor:
    x = offsets.abs()  # Keys' kernel with a = −1/2, as in Pillow
    return torch.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)


def _lanczos(offsets: Tensor) -> Tensor:
    return torch.sinc(offsets) * torch.sinc(offsets / 3)


KERNELS: dict[str, Kernel] = {"bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}
