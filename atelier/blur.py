"""Gaussian blur of batches of images, each with a width of its own. Knows tensors alone."""

import math

import torch
from torch import Tensor
from torch.nn import functional

REACH = 3.3  # sigmas: what lies beyond is a thousandth of the weight


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
