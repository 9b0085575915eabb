"""Features of pictures from EfficientNet-Lite0 or -Lite1, networks trained on ImageNet, and the space to compare them.

Pictures are judged by Lite0, unless its features have trained the generator (`train.discriminator`): then by Lite1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.networks.efficientnet import LITE0, LITE1, EfficientNetLite, LiteVariant
from atelier.pictures import Pixels
from atelier.pictures.filters import blur

FEATURES = 40 + 112 + 320  # channels after strides 8, 16 and 32
SMALLEST_SIDE_PX = 128
COARSE_SIGMA_PX = 1.0
PRINCIPAL_AXES = 16  # of density and coverage
PIXELS_AT_ONCE = 8 * 128 * 128  # bounds the memory of a pass: 30 MB on a CPU


class FeatureExtractor:
    """Computes the features (n, 472) of pictures, float32 on the CPU. Raises AtelierError without the known weights.

    Features are the global averages of the feature maps after strides 8, 16 and 32. They depend on the input's size,
    so a picture whose shorter side has fewer than 128 px is enlarged bilinearly (`align_corners=False`) to that; any
    other keeps its size. Values from 0 to 255 become −1 to 1, as in the network's own training.
    """

    def __init__(self, device: torch.device | str = "cpu", network: LiteVariant = LITE0) -> None:
        self.device = torch.device(device)
        self._network = EfficientNetLite(network).to(self.device)

    def __call__(self, images: Pixels | Tensor, coarse: bool = False) -> Tensor:
        """Features of uint8 pictures (n, H, W, 3), which may be memory-mapped, or of floats (n, 3, H, W) in [−1, 1].

        With `coarse`, each picture is first blurred at its own size by a Gaussian of σ = 1 px (borders repeated), which
        removes grain and fine detail.
        """
        height, width = images.shape[1:3] if isinstance(images, np.ndarray) else images.shape[2:4]
        height, width = input_size(height, width)
        batch = max(1, PIXELS_AT_ONCE // (height * width))
        pieces = [
            self._features(images[start : start + batch], (height, width), coarse)
            for start in range(0, len(images), batch)
        ]
        return torch.cat(pieces) if pieces else torch.empty(0, FEATURES)

    def sharp_and_coarse(self, images: Pixels) -> tuple[Tensor, Tensor]:
        """The features of uint8 pictures (n, H, W, 3), and those after a blur, each (n, 472): for a `FeatureSpace`."""
        return self(images), self(images, coarse=True)

    @torch.inference_mode()
    def _features(self, images: Pixels | Tensor, size: tuple[int, int], coarse: bool) -> Tensor:
        if isinstance(images, Tensor):
            x = images.to(self.device, torch.float32)
        else:
            x = torch.from_numpy(np.array(images)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        # TF32 would change the third digit
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            if coarse:
                x = blur(x, torch.full((len(x),), COARSE_SIGMA_PX, device=x.device))
            if x.shape[2:] != size:
                x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            maps = self._network(x.contiguous(memory_format=torch.channels_last))
        return torch.cat([found.mean((2, 3)) for found in maps[1:]], 1).cpu()


def judge_for(*headers: Mapping[str, Any]) -> LiteVariant:
    """The network whose features judge models with these headers: Lite1 where Lite0's have trained one of them.

    A header's `discriminator` names what trained the model (own if absent), its `start` the model it started from.
    """
    return LITE1 if any(map(_trained_by_features, headers)) else LITE0


def _trained_by_features(header: Mapping[str, Any]) -> bool:
    start = header.get("start")
    return header.get("discriminator", "own") != "own" or (isinstance(start, Mapping) and _trained_by_features(start))


def input_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in px of the network's input for a picture of this size."""
    shorter = min(height, width)
    if shorter >= SMALLEST_SIDE_PX:
        return height, width
    scale = SMALLEST_SIDE_PX / shorter
    return round(height * scale), round(width * scale)


@dataclass(frozen=True)
class Reference:
    """The mean and standard deviation of each feature of reference paintings."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Measure mean and deviation on the features (n, F) of at least two paintings."""
        if len(features) < 2:
            raise ValueError("a reference needs at least two paintings")
        std, mean = torch.std_mean(features.double(), 0)
        return cls(mean, std.clamp_min(1e-6))  # a constant feature must not divide by 0

    def standardise(self, features: Tensor) -> Tensor:
        """Features in units of the reference's standard deviation, float64."""
        return (features.double() - self.mean) / self.std


@dataclass(frozen=True)
class FeatureSet:
    """Standardised features of n pictures, float64: sharp and coarse (n, 472), and coarse along 16 axes (n, 16)."""

    sharp: Tensor
    coarse: Tensor
    principal: Tensor

    def __len__(self) -> int:
        return len(self.sharp)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return type(self)(self.sharp[rows], self.coarse[rows], self.principal[rows])


class FeatureSpace:
    """Standardises features by their deviation between a set of paintings, and projects them onto principal axes.

    Take a few hundred training paintings: KID varies by 10 % with the choice of 60, by 4 % of 200, by 1 % of 540.
    Density and coverage use the coarse features along 16 principal axes: along all 472 a picture that is a little
    softer than a painting is near to none, whatever it shows.
    """

    def __init__(self, sharp: Tensor, coarse: Tensor) -> None:
        """Measure deviations and principal axes on the features of at least two paintings."""
        self._sharp, self._coarse = Reference.of(sharp), Reference.of(coarse)
        scaled = self._coarse.standardise(coarse)
        self._axes = torch.linalg.svd(scaled, full_matrices=False).Vh[:PRINCIPAL_AXES].T

    def __call__(self, sharp: Tensor, coarse: Tensor) -> FeatureSet:
        """Standardise and project features as a `FeatureExtractor` computes them."""
        scaled = self._coarse.standardise(coarse)
        return FeatureSet(self._sharp.standardise(sharp), scaled, scaled @ self._axes)
