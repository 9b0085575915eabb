"""The resumable state of a training as one safetensors file, and random generators that need no saved state.

Tensors are stored under `<module>.<name>` and, for optimisers, `<optimiser>.<parameter>.<key>`. Loading copies them
into the existing tensors, so devices and memory formats stay as they were built. A resumed training equals an
undisturbed one bit for bit, and the file contains no code.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.networks.weights import write_tensors

FORMAT = "atelier-state/1"


@dataclass(frozen=True)
class TrainingState:
    """Everything that a step reads and writes: networks, their optimisers, and further tensors, all by name."""

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, tuple[Optimizer, nn.Module]]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def save_state(path: Path, step: int, state: TrainingState, notes: Mapping[str, Any] | None = None) -> None:
    """Write `state` after `step` steps to `path`, atomically, with JSON-serialisable `notes` such as the curves."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _named_tensors(state).items()}
    write_tensors(path, tensors, {"format": FORMAT, "step": str(step), "notes": json.dumps(notes or {})})


def load_state(path: Path, state: TrainingState) -> tuple[int, dict[str, Any]] | None:
    """Restore `state` in place and return the number of steps and the notes.

    Returns None where the file is missing, damaged, or of other networks. `state` is then unchanged, and its optimisers
    have no moments.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, FileNotFoundError):
        return None
    _set_moments(state, {name.split(".")[0] for name in saved})
    present = _named_tensors(state)
    fits = {name: tensor.shape for name, tensor in saved.items()} == {n: t.shape for n, t in present.items()}
    if metadata.get("format") != FORMAT or not fits:
        for optimizer, _ in state.optimizers.values():
            optimizer.state.clear()
        return None
    with torch.no_grad():
        for name, tensor in present.items():
            tensor.copy_(saved[name])
    return int(metadata["step"]), json.loads(metadata["notes"])


def read_notes(path: Path) -> dict[str, Any] | None:
    """The notes of a state file, or None where it is missing, damaged or of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, FileNotFoundError):
        return None
    return json.loads(metadata["notes"]) if metadata.get("format") == FORMAT else None


def optimizers_with_moments(state: TrainingState) -> list[str]:
    """The names of the optimisers that have moments, which are those that have made a step."""
    return [name for name, (optimizer, _) in state.optimizers.items() if optimizer.state]


def tensors_of(state: TrainingState, moments_of: Collection[str] | None = None) -> list[Tensor]:
    """All tensors of `state`, always in the same order.

    With `moments_of`, the optimisers of these names get moments first, and all others lose theirs.
    """
    if moments_of is not None and {*moments_of} != {*optimizers_with_moments(state)}:
        _set_moments(state, moments_of)
    return list(_named_tensors(state).values())


def generator_for(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator that depends only on its arguments: on every device and library version it draws the same."""
    name = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)


def _named_tensors(state: TrainingState) -> dict[str, Tensor]:
    named = {f"extra.{name}": tensor for name, tensor in state.tensors.items()}
    for module_name, module in state.modules.items():
        named |= {f"{module_name}.{name}": tensor for name, tensor in module.state_dict().items()}
    for optimizer_name, (optimizer, module) in state.optimizers.items():
        for name, parameter in module.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                named[f"{optimizer_name}.{name}.{key}"] = value
    return named


def _set_moments(state: TrainingState, names: Collection[str]) -> None:
    """Create moments of any value for the optimisers of these names, and drop those of all others.

    An optimiser creates its moments in its first step, so it makes one with zero gradients and a learning rate of 0.
    """
    for name, (optimizer, module) in state.optimizers.items():
        if name not in names:
            optimizer.state.clear()
            continue
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # AdamW's weight decay changes the weights even without gradients
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
