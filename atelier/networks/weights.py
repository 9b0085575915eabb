"""Weights in safetensors files with a JSON header that describes them, and networks created from such weights."""

import json
import os
import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atelier.errors import AtelierError
from atelier.files import replacing

INITIALISERS = {"normal_", "uniform_", "fill_", "zero_"}
KEY = "atelier"  # a single key, because safetensors writes several in an order that differs between processes

Network = TypeVar("Network", bound=nn.Module)


def save_weights(path: Path, tensors: Mapping[str, Tensor], format: str, header: Mapping[str, Any]) -> None:
    """Write tensors under their names, with `format` and `header`. Equal content gives equal bytes."""
    text = json.dumps({**header, "format": format}, sort_keys=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, stored, {KEY: text})


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically. Raises OSError where that fails, for example because the disk is full."""
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # also raised for errors of the disk
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read_weights(path: Path, format: str, keys: Set[str], stage: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and tensors of a file of this `format` whose header has at least `keys`.

    Raises AtelierError where the file is missing, damaged, or of another format; the message names the `stage` that
    makes such files.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: `dvc repro {stage}` makes it") from None
    except SafetensorError as error:
        raise AtelierError(
            f"{path} is no whole safetensors file ({error}): `dvc repro {stage}` makes it again"
        ) from None
    try:
        header = json.loads(metadata[KEY])
        if header["format"] != format or not keys <= header.keys():
            raise KeyError
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):
        raise AtelierError(f"{path} is not what `dvc repro {stage}` makes: it has no {format} header") from None
    return header, tensors


def weights_match(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have the names and shapes of the network that `build` creates, however large it would be."""
    network = _build_without_memory(build)
    return network is not None and _shapes(network.state_dict()) == _shapes(tensors)


def create_network(build: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network | None:
    """Create the network that `build` describes with copies of these weights, and without drawing random ones.

    Returns None where the names or shapes of the tensors differ. torch's random state does not change.
    """
    network = _build_without_memory(build)
    if network is None or _shapes(network.state_dict()) != _shapes(tensors):
        return None
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    # copies, because safetensors maps the file into memory
    network.load_state_dict({name: tensor.to(types[name], copy=True) for name, tensor in tensors.items()}, assign=True)
    return network


def _build_without_memory(build: Callable[[], Network]) -> Network | None:
    """Build a network on the meta device; None for sizes that no tensor can have."""
    try:
        with torch.device("meta"), _WithoutInitialisation():
            return build()
    except (RuntimeError, OverflowError):
        return None


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


class _WithoutInitialisation(TorchFunctionMode):
    """Within this context weights are not initialised: on the meta device the first call imports for seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
