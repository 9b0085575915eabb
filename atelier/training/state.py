"""The resumable state of a training in one safetensors file: bit-exact, atomic, no code in it.

Tensors go in under `<module>.<name>` and, for optimisers, `<optimiser>.<parameter>.<key>`; loading copies into what is
already there, so that devices and memory formats stay as they were built.

Random numbers that depend on (purpose, seed, step) alone, so that resuming needs no generator's state.
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

KEPT_STATES = 2


class States:
    """The saved states of one training in one directory, by step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, step: int) -> Path:
        """Where the state after `step` steps is, or would be."""
        return self.directory / f"state-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """The steps that there are states of, the latest first."""
        found = self.directory.glob("state-*.safetensors")
        return sorted((int(path.stem.removeprefix("state-")) for path in found), reverse=True)

    def prune(self, step: int, keep: Collection[int]) -> None:
        """Drop what led up to `step` but the last few and `keep`; later ones are a longer training's.

        What a process that was killed left of a state it was writing goes too: no other process writes here.
        """
        for half in (
            *self.directory.glob(".state-*.tmp"),
            *self.directory.glob(".tmp??????"),
        ):  # safetensors' own
            half.unlink(missing_ok=True)
        for old in [older for older in self.steps() if older <= step][KEPT_STATES:]:
            if old not in keep:
                self.path(old).unlink()

    def drop_after(self, step: int) -> None:
        """Drop all later states: the training has taken another course."""
        for later in self.steps():
            if later > step:
                self.path(later).unlink()


@dataclass(frozen=True)
class TrainingState:
    """Everything that a step reads and writes: networks, their optimisers, and further tensors, all by name."""

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, tuple[Optimizer, nn.Module]]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def save_state(path: Path, step: int, state: TrainingState, notes: Mapping[str, Any] | None = None) -> None:
    """Write `state` as of `step` finished steps, with JSON-able `notes` (curves, say)."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _named(state).items()}
    write_tensors(path, tensors, {"format": FORMAT, "step": str(step), "notes": json.dumps(notes or {})})


def load_state(path: Path, state: TrainingState) -> tuple[int, dict[str, Any]] | None:
    """Restore `state` in place; the number of finished steps and the notes, or None where the file does not fit.

    A torn or foreign file costs a training its head start, never its correctness.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, FileNotFoundError):
        return None
    _make_moments(state, {name.split(".")[0] for name in saved})
    present = _named(state)
    fits = {name: tensor.shape for name, tensor in saved.items()} == {n: t.shape for n, t in present.items()}
    if metadata.get("format") != FORMAT or not fits:
        for optimizer, _ in state.optimizers.values():
            optimizer.state.clear()  # as fresh as it was
        return None
    with torch.no_grad():
        for name, tensor in present.items():
            tensor.copy_(saved[name])
    return int(metadata["step"]), json.loads(metadata["notes"])


def read_notes(path: Path) -> dict[str, Any] | None:
    """The notes of a state alone, or None where the file is torn or foreign."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, FileNotFoundError):
        return None
    return json.loads(metadata["notes"]) if metadata.get("format") == FORMAT else None


def with_moments(state: TrainingState) -> list[str]:
    """The names of the optimisers that have moments: those that have made a step."""
    return [name for name, (optimizer, _) in state.optimizers.items() if optimizer.state]


def tensors_of(state: TrainingState, moments_of: Collection[str] | None = None) -> list[Tensor]:
    """All of its tensors, always in the same order; where it is given, these optimisers have moments, and no others."""
    if moments_of is not None and {*moments_of} != {*with_moments(state)}:
        _make_moments(state, moments_of)
    return list(_named(state).values())


def _named(state: TrainingState) -> dict[str, Tensor]:
    named = {f"extra.{name}": tensor for name, tensor in state.tensors.items()}
    for module_name, module in state.modules.items():
        named |= {f"{module_name}.{name}": tensor for name, tensor in module.state_dict().items()}
    for optimizer_name, (optimizer, module) in state.optimizers.items():
        for name, parameter in module.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                named[f"{optimizer_name}.{name}.{key}"] = value
    return named


def _make_moments(state: TrainingState, names: Collection[str]) -> None:
    """Give these optimisers moments, which are to be overwritten, and take them from the others.

    An optimiser makes them at its first step: here one with zero gradients.
    """
    for name, (optimizer, module) in state.optimizers.items():
        if name not in names:
            optimizer.state.clear()
            continue
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # AdamW's weight decay would move the weights, gradients or not
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)


def generator_for(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator for one purpose at one place, the same on every device and library version."""
    name = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)
