"""What a fixed random network sees in pictures: 960 numbers each, and a reference set to compare with.

Random convolutions are adequate extractors for such distances (arXiv 2208.09218). "rand-v1" names the network:
numbers of different versions, or of different resolutions, do not compare.
"""

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from atelier.quality.statistics import kid

FEATURES_VERSION = "rand-v1"
WIDTHS = (3, 32, 64, 128, 256)
FEATURES = 2 * sum(WIDTHS[1:])  # a mean and a deviation of each channel
GAIN = 1.4
SLOPE = 0.2
SEED = 0
PIXELS_AT_ONCE = 128 * 64 * 64  # bounds the memory of a pass: 64 MiB in the first layer


class RandomFeatures:
    """Pictures → features (n, 960), float32 on the CPU; the same network wherever it is built."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(SEED)
        self._weights = [
            (torch.randn(fine, coarse, 3, 3, generator=generator) * GAIN / (9 * coarse) ** 0.5).to(
                self.device, memory_format=torch.channels_last
            )
            for coarse, fine in itertools.pairwise(WIDTHS)
        ]

    def __call__(self, images: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Features of uint8 pictures (n, H, W, 3), which may be memory-mapped, or of floats (n, 3, H, W) in [−1, 1].

        Sides are at least 8 px.
        """
        height, width = images.shape[1:3] if isinstance(images, np.ndarray) else images.shape[2:4]
        batch = max(1, PIXELS_AT_ONCE // (height * width))
        pieces = [
            self._features(_signed(images[start : start + batch], self.device))
            for start in range(0, len(images), batch)
        ]
        return torch.cat(pieces) if pieces else torch.empty(0, FEATURES)

    @torch.inference_mode()
    def _features(self, images: Tensor) -> Tensor:
        pooled: list[Tensor] = []
        x = images.to(memory_format=torch.channels_last)
        # cuDNN's TF32 would change the third digit
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for weight in self._weights:
                if pooled:
                    x = functional.avg_pool2d(x, 2)
                x = functional.leaky_relu(functional.conv2d(x, weight, padding=1), SLOPE, inplace=True)
                mean = x.mean((2, 3), keepdim=True)
                spread = (x - mean).square_().mean((2, 3)).sqrt_()  # torch's std takes five times as long
                pooled += [mean.flatten(1), spread]
        return torch.cat(pooled, 1).cpu()


@dataclass(frozen=True)
class Reference:
    """The features of the paintings that others are compared with, and the scale that they set."""

    features: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """A reference of at least two paintings' features."""
        if len(features) < 2:
            raise ValueError("a reference needs at least two paintings")
        std, mean = torch.std_mean(features.double(), 0)
        return cls(features, mean, std.clamp_min(1e-6))  # a feature that never varies must not divide by 0

    def standardise(self, features: Tensor) -> Tensor:
        """Features in units of the reference's deviation, float64."""
        return (features.double() - self.mean) / self.std

    def kid(self, features: Tensor) -> float:
        """kid_rand of generated pictures' features against the reference."""
        return kid(self.standardise(features), self.standardise(self.features))


def _signed(images: npt.NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    if isinstance(images, Tensor):
        return images.to(device, torch.float32)
    pixels = torch.from_numpy(np.array(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
