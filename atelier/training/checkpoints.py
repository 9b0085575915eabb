"""The directory of a training's saved states: writing, loading in all processes, and deleting what is not needed."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.state import (
    TrainingState,
    load_state,
    optimizers_with_moments,
    save_state,
    tensors_of,
)

RECENT_STATES = 2  # that are kept besides those of the best snapshots


class Checkpoints:
    """The saved states of one training in one directory, by step. Only one training at a time may write there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, step: int) -> Path:
        """The file of the state after `step` steps, which need not exist."""
        return self.directory / f"state-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """The steps of the saved states, the latest first."""
        found = self.directory.glob("state-*.safetensors")
        return sorted((int(path.stem.removeprefix("state-")) for path in found), reverse=True)

    def save(self, step: int, state: TrainingState, notes: Mapping[str, Any], keep: Collection[int]) -> None:
        """Write the state after `step` steps, then delete the earlier ones except for the last few and `keep`."""
        save_state(self.path(step), step, state, notes)
        self._delete_unfinished()
        for old in [older for older in self.steps() if older <= step][RECENT_STATES:]:
            if old not in keep:
                self.path(old).unlink()

    def load(
        self, step: int, state: TrainingState, group: ProcessGroup = SINGLE_PROCESS
    ) -> tuple[int, dict[str, Any]] | None:
        """As `load_state`; rank 0 reads the file, and all processes of `group` get its tensors and notes."""
        loaded = group.on_rank0(lambda: load_state(self.path(step), state))
        if loaded:
            moments_of = group.on_rank0(lambda: optimizers_with_moments(state))
            group.broadcast(tensors_of(state, moments_of))
        return loaded

    def drop_after(self, step: int) -> None:
        """Delete all states of later steps, for a training that goes back to `step` and continues differently."""
        for later in self.steps():
            if later > step:
                self.path(later).unlink()

    def _delete_unfinished(self) -> None:
        """Delete what a killed process left of a state that it was writing."""
        for pattern in (".state-*.tmp", ".tmp??????"):  # the second is safetensors' own
            for half in self.directory.glob(pattern):
                half.unlink(missing_ok=True)
