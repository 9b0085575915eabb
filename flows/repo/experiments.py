"""DVC's experiments: the tree we are in is run and becomes one, and an adopted one's outputs are checked out.

As in flows.repo.stages, work is done by `dvc` in a child process that ends with us. `dvc exp run` in a tree of its
own costs five seconds a trial; `--temp` costs the same, the queue twice that, and both begin without what trials
before made.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from atelier.errors import AtelierError, TransientError
from flows.repo import stages
from flows.repo.stages import Watcher
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child

TARGETS = ("evaluate", "generate")  # a trial is made up to here; prints are of what is adopted
METRICS = Path("metrics.json")
RUNNING = re.compile(r"Running stage '(.+)':")
FAILED = re.compile(r"ERROR: failed to reproduce '(.+?)':")
QUIET = (
    "Reproducing experiment",
    "Updating lock file",
    "Generating lock file",
    "Ran experiment",
    "Experiment results",
    "WARNING: No file hash info",
)


class StageError(AtelierError):
    """A stage of the experiment failed, in a way that may be its settings' making."""

    def __init__(self, stage: str, said: str) -> None:
        super().__init__(said)
        self.stage = stage


def run(name: str, follow: Callable[[str], Watcher], say: Callable[[str], None]) -> None:
    """Bring the tree we are in up to date and keep it as the experiment `name`, which must not be there.

    `follow` gives a stage's watcher when the stage begins; an exception raised by one stops all. Raises StageError
    where a stage failed, TransientError where that may pass by itself, AtelierError where dvc did.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--name", name, *TARGETS]
    lines: list[str] = []  # since the last stage began
    watcher: Watcher | None = None
    with Child(command, work_tree.environment()) as child:
        for line in child.lines(TICK_S):
            if line and (match := RUNNING.match(line)):
                watcher, lines = follow(match[1]), []
            if line is not None:
                lines.append(line)
                if line and not line.startswith(QUIET):
                    (watcher.line if watcher else say)(line)
            if watcher:
                watcher.tick()
        status = child.wait()
    if status:
        raise _failure(name, lines, status)


def check_out(user: Path) -> None:
    """Give the stages' outputs in the tree at `user` the content that its dvc.lock names.

    No .dvc file's folder is touched. An output that is not in the cache is absent afterwards, and its stage stale.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "checkout", "--force", "--allow-missing"]
    with Child([*command, "dvc.yaml"], work_tree.environment(), user) as child:
        lines = [line for line in child.lines(TICK_S) if line]
        status = child.wait()
    if status:
        raise _failure("dvc.yaml", lines, status)


def _failure(name: str, lines: list[str], status: int) -> AtelierError:
    failed = next((match[1] for line in lines if (match := FAILED.match(line))), None)
    if failed is None or status < 0:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        said = f"it was killed by signal {-status}" if status < 0 else "; ".join(errors or lines[-1:])
        return AtelierError(f"{name}: dvc: {said or f'it ended with {status}'}")
    error = stages.failure(failed, lines, status)
    return error if isinstance(error, TransientError) else StageError(failed, str(error))
