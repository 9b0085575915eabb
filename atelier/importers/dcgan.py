"""State dicts of pytorch/examples' DCGAN (`netG_epoch_*.pth`), under its names. Knows no network of ours."""

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.importers.layers import Convolution, Layer, Norm

NAME = re.compile(r"(?:module\.)?main\.([0-9]{1,4})\.([a-z_]+)")
# what torch.load and zipfile raise over damaged files, besides UnpicklingError
DAMAGED = (
    RuntimeError, EOFError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError,
    ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
CUT_OFF = "it is no whole file of PyTorch's: it is cut off or damaged; download it again"
WRAPPED = ("state_dict", "model_state_dict", "model")  # keys of a checkpoint under which its weights stand
NORM = {"weight", "bias", "running_mean", "running_var"}


def layers_of_pytorch(content: bytes) -> list[Layer]:
    """The weighted layers of the one network in a `.pth` file, from first to last.

    Raises AtelierError where the file is damaged, wants to run code, or holds other names than that example's.
    """
    _refuse_unpacking(content)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise AtelierError(
            "it holds more than tensors, or is damaged: only a state dict (`netG.state_dict()`) is read, because "
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
            f"it has weights at main.{', main.'.join(map(str, sorted(numbered)))}: no DCGAN's places"
        )
    return [_layer(place, tensors, transposed) for place, tensors in sorted(numbered.items())]


def _refuse_unpacking(content: bytes) -> None:
    """Refuse zip archives of others, of TorchScript, and compressed ones, which may grow without end."""
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            return
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except DAMAGED:
        raise AtelierError(CUT_OFF) from None
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise AtelierError(
            "it is TorchScript, which is a program: save the network's state dict (`netG.state_dict()`) instead"
        )
    if "data.pkl" not in names:
        raise AtelierError(
            "it is a zip archive, and not one of PyTorch's: unpack it and import the file inside"
        )
    if sum(member.file_size for member in members) > len(content):
        raise AtelierError("it unpacks to more than it is: PyTorch's own files do not")


def _numbered(state: Any, size: int) -> dict[int, dict[str, Tensor]]:
    """The tensors of each layer by its place in `main`."""
    if isinstance(state, Mapping):  # a checkpoint with an epoch, an optimiser and the like beside the weights
        state = next((state[key] for key in WRAPPED if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not state:
        raise AtelierError("what it holds is no state dict")
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = NAME.fullmatch(name) if isinstance(name, str) else None
        if not match or not isinstance(tensor, Tensor):
            raise AtelierError(
                f"it holds {str(name)[:60]!r}, which the DCGAN of pytorch/examples has not; its names are "
                "main.0.weight and so on"
            )
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > size:
            raise AtelierError(f"{name} is no plain tensor with all its numbers in the file")
        found.setdefault(int(match[1]), {})[match[2]] = tensor
    return found


def _layer(place: int, tensors: Mapping[str, Tensor], transposed: bool) -> Layer:
    where = f"main.{place}"
    names = tensors.keys() - {"num_batches_tracked"}
    if "running_mean" in names:
        if names != NORM:
            raise AtelierError(f"{where} is a batch norm with {', '.join(sorted(names))}")
        return Norm(
            where, tensors["weight"], tensors["bias"], tensors["running_mean"], tensors["running_var"]
        )
    if not names <= {"weight", "bias"} or "weight" not in names:
        raise AtelierError(f"{where} is no convolution: it has {', '.join(sorted(names))}")
    return Convolution(where, transposed, tensors["weight"], tensors.get("bias"))
