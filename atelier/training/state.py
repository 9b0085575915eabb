"""The resumable states of a training in safetensors files, and random generators that need no saved state.

Tensors are stored under `<module>.<name>` and, for optimisers, `<optimiser>.<parameter>.<key>`. Loading copies them
into the existing tensors, so devices and memory formats stay as they were built. A resumed training equals an
undisturbed one bit for bit, and the file contains no code.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.networks import write_tensors
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup

FORMAT = "atelier-state/1"
RECENT_STATES = 2  # that are kept besides those of the best snapshots


@dataclass(frozen=True)
class TrainingState:
    """Everything that a step reads and writes: networks, their optimisers, and further tensors, all by name."""

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, tuple[Optimizer, nn.Module]]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def save_state(path: Path, step: int, state: TrainingState, notes: Mapping[str, Any] | None = None) -> None:
    """Write `state` after `step` steps to `path`, atomically, with JSON-serialisable `notes` such as the curves."""
    write_tensors(path, _named_tensors(state), _metadata(step, notes or {}))


def load_state(path: Path, state: TrainingState) -> tuple[int, dict[str, Any]] | None:
    """Restore `state` in place and return the number of steps and the notes.

    Returns None where the file is missing, damaged, or of other networks. Then the weights in `state` stay as they
    were, and its optimisers have no moments.
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
    """The notes that a state file was saved with, or None if it is missing, damaged or of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, FileNotFoundError):
        return None
    return json.loads(metadata["notes"]) if metadata.get("format") == FORMAT else None


def tensors_of(state: TrainingState) -> list[Tensor]:
    """All tensors of `state`, always in the same order."""
    return list(_named_tensors(state).values())


def generator_for(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator seeded by a hash of its arguments, which draws the same numbers on every device."""
    name = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)


def _metadata(step: int, notes: Mapping[str, Any]) -> dict[str, str]:
    return {"format": FORMAT, "step": str(step), "notes": json.dumps(notes)}


def _host_copies(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """Copies of tensors in the machine's memory, and a function that waits until they are complete.

    From a CUDA device they are queued, to pinned memory: work that is queued later does not change them.
    """
    queued = any(tensor.is_cuda for tensor in tensors.values())
    copies = {name: t.detach().to("cpu", non_blocking=queued, copy=True) for name, t in tensors.items()}
    if not queued:
        return copies, lambda: None
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return copies, copied.synchronize


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
    """Create moments for the optimisers of these names, by a step at a rate of 0, and drop those of all others."""
    for name, (optimizer, _) in state.optimizers.items():
        if name not in names:
            optimizer.state.clear()
            continue
        for parameter in [parameter for group in optimizer.param_groups for parameter in group["params"]]:
            parameter.grad = torch.zeros_like(parameter)
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # AdamW's weight decay changes the weights even without gradients
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)


class Checkpoints:
    """The saved states of one training in one directory, by step. Only one training at a time may write there.

    A thread writes them, one at a time, from a copy in the machine's memory, while the training goes on. `wait` waits
    for it; all methods that read or delete states do so first.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer = ThreadPoolExecutor(1, "save")
        self._writing: Future[None] | None = None

    def path(self, step: int) -> Path:
        """The file of the state after `step` steps, which need not exist."""
        return self.directory / f"state-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """The steps of the saved states, the latest first."""
        self.wait()
        return self._written_steps()

    def begin_save(self, step: int, state: TrainingState, notes: Mapping[str, Any], keep: Collection[int]) -> None:
        """Copy the state after `step` steps; a thread writes it and deletes old ones except the last few and `keep`.

        Raises what writing the previous state has raised.
        """
        self.wait()
        copies, wait_for_copies = _host_copies(_named_tensors(state))
        metadata = _metadata(step, notes)

        def write() -> None:
            wait_for_copies()
            write_tensors(self.path(step), copies, metadata)
            self._delete_old(step, keep)

        self._writing = self._writer.submit(write)

    def wait(self) -> None:
        """Wait until the state is written. Raises OSError where that failed, for example because the disk is full."""
        if writing := self._writing:
            futures.wait([writing])
            self._writing = None
            writing.result()

    @property
    def failed(self) -> bool:
        """Whether writing has failed; then `wait` raises the error. Returns at once."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def _written_steps(self) -> list[int]:
        found = self.directory.glob("state-*.safetensors")
        return sorted((int(path.stem.removeprefix("state-")) for path in found), reverse=True)

    def _delete_old(self, step: int, keep: Collection[int]) -> None:
        for pattern in (".state-*.tmp", ".tmp??????"):  # which a killed process left; the second is safetensors' own
            for half in self.directory.glob(pattern):
                half.unlink(missing_ok=True)
        for old in [older for older in self._written_steps() if older <= step][RECENT_STATES:]:
            if old not in keep:
                self.path(old).unlink()

    def load(
        self, step: int, state: TrainingState, group: ProcessGroup = SINGLE_PROCESS
    ) -> tuple[int, dict[str, Any]] | None:
        """As `load_state`; rank 0 reads the file, and all processes of `group` get its tensors and notes."""

        def with_moments() -> set[str]:
            return {name for name, (optimizer, _) in state.optimizers.items() if optimizer.state}

        group.on_rank0(self.wait)
        loaded = group.on_rank0(lambda: load_state(self.path(step), state))
        if loaded:
            names = group.on_rank0(with_moments)
            if names != with_moments():
                _set_moments(state, names)
            group.broadcast(tensors_of(state))
        return loaded

    def drop_after(self, step: int) -> None:
        """Delete all states of later steps, for a training that goes back to `step` and continues differently."""
        for later in self.steps():
            if later > step:
                self.path(later).unlink()
