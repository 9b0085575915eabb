"""Weights in safetensors with a JSON header that says what they are. Knows no network."""

import json
import os
import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from atelier.errors import AtelierError
from atelier.files import replacing

DRAWING = {"normal_", "uniform_", "fill_", "zero_"}
KEY = "atelier"  # one key only: safetensors writes several in an order that differs from process to process


def save_weights(
    path: Path, tensors: Mapping[str, torch.Tensor], format: str, header: Mapping[str, Any]
) -> None:
    """Write tensors under their names and `header` beside `format`; the same content gives the same bytes."""
    text = json.dumps({**header, "format": format}, sort_keys=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, stored, {KEY: text})


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Replace `path` by a safetensors file. Raises OSError where the disk refuses it, for example when it is full."""
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # which is no OSError, whatever the disk says
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read_weights(
    path: Path, format: str, keys: Set[str], stage: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a file of this `format` whose header has at least `keys`; `stage` is what makes it.

    Raises AtelierError where the file is absent, damaged, or something else.
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
        raise AtelierError(
            f"{path} is not what `dvc repro {stage}` makes: it has no {format} header"
        ) from None
    return header, tensors


def are_weights_of(build: Callable[[], nn.Module], tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of what `build` makes, each of its shape; whatever that is, it takes no memory."""
    try:
        with torch.device("meta"), _Undrawn():
            wanted = build().state_dict()
    except (RuntimeError, OverflowError):  # sizes that no tensor has
        return False
    return {name: tensor.shape for name, tensor in wanted.items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }


class _Undrawn(TorchFunctionMode):
    """Within it no weights are drawn: on the meta device the first draw spends seconds on imports."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
