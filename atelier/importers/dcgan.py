"""Read the layers of DCGANs of other programs.

These are state dicts of pytorch/examples' DCGAN (`netG_epoch_*.pth`), and `.t7` files of art-DCGAN and dcgan.torch.
"""

import io
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.importers.layers import EPS, Convolution, Layer, Norm
from atelier.importers.torch7 import Torch7Object, Torch7Table, read_torch7

NAME = re.compile(r"(?:module\.)?main\.([0-9]{1,4})\.([a-z_]+)")
# raised by torch.load and zipfile for damaged files, besides UnpicklingError
DAMAGED = (
    RuntimeError, EOFError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError,
    ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
CUT_OFF = "it is no complete file of PyTorch: it is cut off or damaged; download it again"
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")  # one of them has the weights, in a checkpoint
NORM_TENSORS = {"weight", "bias", "running_mean", "running_var"}
# of Torch7; True for the transposed ones
CONVOLUTIONS = {"SpatialFullConvolution": True, "SpatialConvolution": False, "SpatialConvolutionMM": False}
NORM = "SpatialBatchNormalization"
WEIGHTLESS = ("ReLU", "LeakyReLU", "Tanh", "Sigmoid", "View")
CLASSES = {
    f"{package}.{name}" for package in ("nn", "cudnn") for name in ("Sequential", *CONVOLUTIONS, NORM, *WEIGHTLESS)
}
NEGATIVE_SLOPE = 0.2  # of the discriminator's LeakyReLU


def layers_of_pytorch(content: bytes) -> list[Layer]:
    """Read the layers with weights of the network in a `.pth` file, from first to last.

    Raises AtelierError if the file is damaged, contains code, or its names are not those of pytorch/examples.
    """
    _refuse_unpacking(content)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise AtelierError(
            "it contains more than tensors, or is damaged: only a state dict (`netG.state_dict()`) is read, because "
            "anything else could run code"
        ) from None
    except DAMAGED:
        raise AtelierError(CUT_OFF) from None
    numbered = _numbered(state, len(content))
    # a generator's first convolution is followed by a batch norm, a discriminator's is not
    transposed = 1 in numbered
    expected = [0, 1] if transposed else [0]
    while len(expected) < len(numbered):
        expected += [expected[-1] + 2, expected[-1] + 3]
    if sorted(numbered) != expected[: len(numbered)]:
        raise AtelierError(
            f"it has weights at main.{', main.'.join(map(str, sorted(numbered)))}: a DCGAN has them at other places"
        )
    return [_layer(place, tensors, transposed) for place, tensors in sorted(numbered.items())]


def _refuse_unpacking(content: bytes) -> None:
    """Raise AtelierError for zip archives of other programs, TorchScript, and what may unpack to any size."""
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            return
        archive = zipfile.ZipFile(io.BytesIO(content))
    except DAMAGED:
        raise AtelierError(CUT_OFF) from None
    members = archive.infolist()
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise AtelierError(
            "it is TorchScript, which is a program: save the network's state dict (`netG.state_dict()`) instead"
        )
    if "data.pkl" not in names:
        raise AtelierError("it is a zip archive, and not one of PyTorch's: unpack it and import the file inside")
    if sum(member.file_size for member in members) > len(content):
        raise AtelierError("it unpacks to more than it is: PyTorch's own files do not")
    try:
        damaged = archive.testzip() is not None  # torch.load compares no checksums
    except DAMAGED:
        damaged = True
    if damaged:
        raise AtelierError(CUT_OFF)


def _numbered(state: Any, size: int) -> dict[int, dict[str, Tensor]]:
    """The tensors of each layer, by its index in `main`. Raises AtelierError for anything else than a state dict."""
    if isinstance(state, Mapping):  # perhaps a checkpoint, with an epoch and an optimiser beside the weights
        state = next((state[key] for key in CHECKPOINT_KEYS if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not state:
        raise AtelierError("it contains no state dict")
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = NAME.fullmatch(name) if isinstance(name, str) else None
        if not match or not isinstance(tensor, Tensor):
            raise AtelierError(
                f"it contains {str(name)[:60]!r}, which the DCGAN of pytorch/examples does not have; its names are "
                "main.0.weight and so on"
            )
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > size:
            raise AtelierError(f"{name} is no plain tensor with all its numbers in the file")
        found.setdefault(int(match[1]), {})[match[2]] = tensor
    return found


def _layer(place: int, tensors: Mapping[str, Tensor], transposed: bool) -> Layer:
    """The convolution or batch norm that has these tensors."""
    where = f"main.{place}"
    names = tensors.keys() - {"num_batches_tracked"}
    if "running_mean" in names:
        if names != NORM_TENSORS:
            raise AtelierError(f"{where} is a batch norm with {', '.join(sorted(names))}")
        return Norm(where, tensors["weight"], tensors["bias"], tensors["running_mean"], tensors["running_var"])
    if not names <= {"weight", "bias"} or "weight" not in names:
        raise AtelierError(f"{where} is no convolution: it has {', '.join(sorted(names))}")
    return Convolution(where, transposed, tensors["weight"], tensors.get("bias"))


def layers_of_torch7(content: bytes) -> list[Layer]:
    """Read the layers with weights of the network in a `.t7` file, from first to last.

    Raises AtelierError if its layers are not those of a DCGAN.
    """
    network = read_torch7(content, CLASSES)
    if not isinstance(network, Torch7Object) or _kind(network) != "Sequential":
        raise AtelierError("it contains no nn.Sequential, which a DCGAN of Torch7 is")
    modules = network.fields.get("modules")
    if not isinstance(modules, Torch7Table) or not modules.items:
        raise AtelierError("its nn.Sequential has no layers")
    row = modules.sequence()
    if len(row) != len(modules.items) or not all(isinstance(module, Torch7Object) for module in row):
        raise AtelierError("its nn.Sequential contains something else than a sequence of layers")
    _check_row(row)
    layers: list[Layer] = []
    for place, module in enumerate(row, 1):
        if _kind(module) in CONVOLUTIONS:
            layers.append(_convolution(module, f"layer {place} ({module.name})"))
        elif _kind(module) == NORM:
            layers.append(_norm(module, f"layer {place} ({module.name})"))
    return layers


def _check_row(row: list[Torch7Object]) -> None:
    """Raise AtelierError unless the layers are those of a DCGAN's generator or discriminator, in order."""
    kinds = [_kind(module).removesuffix("MM") for module in row]
    if kinds[0] == "View":  # older generators begin with one, which only changes the shape of the latents
        kinds = kinds[1:]
    if kinds[-1:] == ["View"]:  # and discriminators end with one
        kinds = kinds[:-1]
    convolution = kinds[0] if kinds else ""
    count = kinds.count(convolution)
    if convolution == "SpatialFullConvolution":
        wanted = [convolution, NORM, "ReLU"] * (count - 1) + [convolution, "Tanh"]
    else:
        inner = ["SpatialConvolution", NORM, "LeakyReLU"] * (count - 2)
        wanted = ["SpatialConvolution", "LeakyReLU", *inner, "SpatialConvolution", "Sigmoid"]
    if kinds != wanted:
        layers = f"its layers are {', '.join(kinds)}"
        raise AtelierError(f"{layers}; a DCGAN of {count} convolutions has {', '.join(wanted)}")
    for place, module in enumerate(row, 1):
        if _kind(module) == "LeakyReLU" and abs(_number(module, "negval", 0) - NEGATIVE_SLOPE) > 1e-6:
            raise AtelierError(f"layer {place} ({module.name}) has another slope than {NEGATIVE_SLOPE}")


def _convolution(module: Torch7Object, where: str) -> Convolution:
    weight, transposed = _tensor(module, "weight", where), CONVOLUTIONS[_kind(module)]
    if weight.ndim == 2 and not transposed:  # SpatialConvolutionMM's, one row a channel
        height, width = (_whole(module, key, where) for key in ("kH", "kW"))
        if height < 1 or width < 1 or weight.shape[1] % (height * width):
            raise AtelierError(f"{where} has a weight of {weight.shape[1]} columns, and kernels of {height}×{width}")
        weight = weight.reshape(weight.shape[0], -1, height, width)
    strides, paddings = ({_whole(module, f"{key}{axis}", where) for axis in "WH"} for key in ("d", "pad"))
    if len(strides) > 1 or len(paddings) > 1 or _number(module, "groups", 1) != 1:
        raise AtelierError(
            f"{where} has different sizes along height and width, or groups: a DCGAN's convolutions have neither"
        )
    if any(_number(module, f"adj{axis}", 0) for axis in "WH"):
        raise AtelierError(f"{where} has an adjusted output size, which a DCGAN does not have")
    bias = _tensor(module, "bias", where) if module.fields.get("bias") is not None else None
    return Convolution(where, transposed, weight, bias, strides.pop(), paddings.pop())


def _norm(module: Torch7Object, where: str) -> Norm:
    mean, eps = _tensor(module, "running_mean", where).flatten(), _number(module, "eps", EPS)
    if "running_var" in module.fields:
        variance = _tensor(module, "running_var", where).flatten()
    else:  # before version 2, nn and cudnn stored 1 / √(variance + eps) under this name
        variance = _tensor(module, "running_std", where).flatten().double() ** -2 - eps
    affine = module.fields.get("weight") is not None
    weight = _tensor(module, "weight", where) if affine else torch.ones_like(mean)
    bias = _tensor(module, "bias", where) if affine else torch.zeros_like(mean)
    return Norm(where, weight.flatten(), bias.flatten(), mean, variance, eps)


def _kind(module: Torch7Object) -> str:
    return module.name.partition(".")[2]


def _tensor(module: Torch7Object, key: str, where: str) -> Tensor:
    value = module.fields.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise AtelierError(f"{where} has no {key}")
    return torch.from_numpy(np.array(value))


def _number(module: Torch7Object, key: str, default: float) -> float:
    value: Any = module.fields.get(key, default)
    return float(value) if isinstance(value, (int, float)) else default


def _whole(module: Torch7Object, key: str, where: str) -> int:
    if not (number := _number(module, key, 0)).is_integer():
        raise AtelierError(f"{where} has {key} {number:g}, which is no whole number")
    return int(number)
