"""DVC experiments: reproduce the work tree and save it as one; check out the outputs of one that was adopted.

An experiment runs in the work tree itself. `dvc exp run --temp` takes five seconds more per trial, the queue ten, and
neither has the outputs of earlier trials at its start.
"""

import uuid
from collections.abc import Callable
from pathlib import Path

from atelier.errors import AtelierError, TransientError
from atelier.paths import DVC_YAML
from flows.repo import operations, stages
from flows.repo.operations import Lines, OperationError, Watcher

TARGETS = ("evaluate", "generate")  # a trial makes no prints: only an adopted experiment needs them


class StageError(AtelierError):
    """A stage of an experiment failed, perhaps because of the experiment's settings."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def run(name: str, follow: Callable[[str], Watcher], say: Callable[[str], None]) -> None:
    """Reproduce TARGETS in the current directory and save the result as the experiment `name`, which must be new.

    `follow` returns the watcher of a stage when its command starts; an exception that a watcher raises stops the
    experiment. `say` receives the lines before the first stage. Raises StageError where a stage failed, TransientError
    where that may pass by itself, AtelierError where DVC failed.
    """
    run = uuid.uuid4().hex
    try:
        operations.run(
            "exp",
            watcher=Lines(say),
            on_stage=follow,
            variables={"ATELIER_RUN": run},
            name=name,
            targets=TARGETS,
        )
    except OperationError as error:
        if error.kind != "stage" or error.stage is None:
            raise AtelierError(f"{name}: dvc: {error}") from None
        failure = stages.failure(error, error.stage, run)
        raise (failure if isinstance(failure, TransientError) else StageError(error.stage, str(failure))) from None


def check_out(root: Path) -> None:
    """Check out the outputs of all stages as dvc.lock of the work tree at `root` names them.

    Files that .dvc files track are left alone. An output that is not in the cache is removed, so its stage is stale.
    """
    try:
        operations.run("checkout", root=root, targets=[str(DVC_YAML)], force=True, allow_missing=True)
    except OperationError as error:
        raise AtelierError(f"dvc checkout in {root}: {error}") from None
