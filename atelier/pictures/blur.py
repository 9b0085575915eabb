"""Gaussian blur of batches of images."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels

REACH = 3.3  # sigmas: what lies beyond is a thousandth of the weight
PIXELS_AT_ONCE = 100 * 64 * 64  # of `blurred_pictures`: bounds its memory


def blurred(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Images (B, 3, H, W), each blurred by its own of `sigma_px` (B values in pixels; 0 leaves it as it is)."""
    if not len(images):
        return images
    radius = max(1, math.ceil(REACH * float(sigma_px.max())))
    offsets = torch.arange(-radius, radius + 1.0, device=images.device)
    taps = torch.exp(-0.5 * (offsets / sigma_px.view(-1, 1).clamp_min(1e-3)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)  # one filter a colour plane
    planes = images.reshape(1, -1, *images.shape[2:])
    planes = functional.pad(planes, (radius,) * 4, mode="replicate")
    planes = functional.conv2d(planes, taps[:, None, :, None], groups=len(taps))
    planes = functional.conv2d(planes, taps[:, None, None, :], groups=len(taps))
    return planes.view(images.shape)


def blurred_pictures(pictures: Pixels, sigma_px: float) -> Pixels:
    """Pictures (n, H, W, 3), n at least 1, which may be memory-mapped, all blurred alike."""
    at_once = max(1, PIXELS_AT_ONCE // (pictures.shape[1] * pictures.shape[2]))
    pieces = []
    for start in range(0, len(pictures), at_once):
        images = torch.from_numpy(np.array(pictures[start : start + at_once])).permute(0, 3, 1, 2).float()
        images = blurred(images, torch.full((len(images),), sigma_px)).round().clamp(0, 255)
        pieces.append(images.to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(pieces)
