"""The stages of dvc.yaml: their order, which are not up to date, and the reproduction of one.

What only reads is done in this process through DVC's Python API. What changes files is done in a child process
(flows.repo.operations), because two DVC repositories in one process do not lock each other out.
"""

import difflib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError, TransientError
from atelier.paths import FAILED, LOCK_FILE, LOCK_FILE_COPY
from atelier.settings.load import read_yaml
from flows.repo import locks, operations
from flows.repo.operations import OperationError, Watcher

if TYPE_CHECKING:
    from dvc.repo import Repo

WAITS_S = (
    1.0,
    1.0,
    2.0,
    3.0,
    5.0,
)  # between attempts at a stage that another process holds; the last repeats
SIGKILL, SHELLS_SIGKILL = -9, 137

T = TypeVar("T")
StageOutcome = Literal["executed", "restored", "unchanged"]


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of a plan: the stages that it needs directly, and whether it was not up to date."""

    name: str
    upstream: tuple[str, ...]
    stale: bool


def plan(targets: Sequence[str], say: Callable[[str], None], root: Path = Path()) -> list[PlannedStage]:
    """Return the target stages and all stages they need, in dvc.yaml's order as far as dependencies allow.

    Without targets, every stage. Waits while another DVC process holds a stage. Raises AtelierError for an unknown
    target and for a dvc.yaml that cannot be read.
    """

    def read(repo: "Repo") -> list[PlannedStage]:
        from dvc.repo import lock_repo

        with lock_repo(repo):  # one lock for all: `repo.status` would read dvc.yaml and dvc.lock once a target
            graph = repo.index.graph
            # a .dvc file is data and no stage
            stages = {stage.addressing: stage for stage in repo.index.stages if not stage.is_data_source}
            needs = {
                name: {need.addressing for need in graph.successors(stage)} & stages.keys()
                for name, stage in stages.items()
            }
            wanted = _with_needs(targets or list(needs), needs)
            order = _in_order([name for name in needs if name in wanted], needs)
            return [PlannedStage(name, tuple(sorted(needs[name])), bool(stages[name].status())) for name in order]

    return _read_unlocked(read, say, root)


def stale_stages(root: Path, say: Callable[[str], None], targets: Sequence[str] = ()) -> list[str]:
    """Return the stages that are not up to date, of `targets` and what they need, or of all; empty: nothing to do.

    Takes about a second, most of it the import of DVC. Waits and raises as `plan` does.
    """
    return [stage.name for stage in plan(targets, say, root) if stage.stale]


def stale(names: Sequence[str], say: Callable[[str], None], root: Path = Path()) -> set[str]:
    """Return those of `names` whose command, inputs, params or outputs differ from dvc.lock. Waits as `plan` does."""
    return _read_unlocked(lambda repo: set(repo.status(targets=list(names))), say, root)


def check(root: Path = Path()) -> int:
    """Read dvc.yaml, dvc.lock and the .dvc files; return the number of stages. AtelierError names the line."""
    with open_repo(root) as repo:
        return sum(not stage.is_data_source for stage in repo.index.stages)


def repro(stage: str, run: str, watcher: Watcher) -> StageOutcome:
    """Reproduce one stage. `run` is a text that identifies this attempt.

    Waits while another DVC process holds the stage; an exception that `watcher` or a signal handler raises stops it.
    Raises AtelierError with the stage's own message where it failed, TransientError where that may pass by itself.
    """
    for wait_s in _waits():
        try:
            verdict: StageOutcome = operations.run(
                "repro", watcher=watcher, variables={"ATELIER_RUN": run}, targets=[stage]
            )
            return verdict
        except OperationError as error:
            if error.kind != "busy":
                raise failure(error, stage, run) from None
            watcher.line(locks.waiting_for(Path(), stage))
            time.sleep(wait_s)
    raise AssertionError("waiting has no end")


def failure(error: OperationError, stage: str, run: str, root: Path = Path()) -> AtelierError:
    """Return the exception for a stage that could not be reproduced: the stage's own message, or else DVC's."""
    if error.status in (SIGKILL, SHELLS_SIGKILL):
        return AtelierError(f"{stage}: killed by signal 9; unasked, that is memory running out")
    if error.status is not None and error.status < 0:
        return AtelierError(f"{stage}: killed by signal {-error.status}")
    kind = TransientError if error.status == os.EX_TEMPFAIL else AtelierError
    try:
        failed = json.loads((root / FAILED / f"{stage}.json").read_text(encoding="utf-8"))
        if error.status is not None and failed["run"] == run:
            return kind(f"{stage}: {failed['message']}")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # the command is not one of ours, or ended before it could write
    return kind(f"{stage}: {error}")


def key(stage: str) -> str:
    """Return 12 hex digits that identify the command, inputs and params of a stage in dvc.lock; else an empty text."""
    return keys([stage])[stage]


def keys(names: Collection[str]) -> dict[str, str]:
    """Return the key of each stage, reading dvc.lock once."""
    try:
        lock = YAML(typ="safe").load(LOCK_FILE)["stages"]  # parsed in C, ten times as fast as read_yaml
    except YAMLError:
        read_yaml(LOCK_FILE)  # raises AtelierError with the line
        raise
    except (FileNotFoundError, KeyError, TypeError):
        lock = {}
    return {name: _key(lock[name]) if name in lock else "" for name in names}


def _key(locked: dict[str, Any]) -> str:
    inputs = {
        "cmd": locked["cmd"],
        "deps": {dep["path"]: dep.get("md5") for dep in locked.get("deps", [])},
        "params": locked.get("params", {}),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:12]


@contextmanager
def open_repo(root: Path = Path(), config: dict[str, object] | None = None) -> Iterator["Repo"]:
    """Open the DVC repository at `root` for reading, with settings of `config` in place of the repository's own.

    Raises AtelierError for what DVC cannot read, naming the file and the line where DVC's exception has them.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.scm import SCMError
    from dvc.utils.serialize import ParseError
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        with Repo(str(root), config=config) as repo:
            yield repo
    except LockError:
        raise
    except (ParseError, YAMLValidationError) as error:
        raise AtelierError(_unreadable(root, Path(os.path.normpath(error.path)), error)) from error
    except SCMError as error:
        if (root / ".git").exists():
            raise AtelierError(str(error)) from error
        raise AtelierError(
            f"{error}, and DVC needs one: get Atelier with `git clone` instead of as a ZIP, or make it one: "
            "`git init && git add . && git commit -m 'My studio'`"
        ) from None
    except DvcException as error:
        raise AtelierError(str(error)) from error


def _unreadable(root: Path, file: Path, error: Exception) -> str:
    """Say what is wrong with a dvc.yaml, dvc.lock or .dvc file and how to repair it."""
    try:
        read_yaml(file)
    except AtelierError as mistake:
        return str(mistake)  # with the line
    except OSError:
        return str(error)
    text = " ".join((f"{error}: {error.__cause__}" if error.__cause__ else str(error)).split())
    if Path(os.path.relpath(file, root)) == LOCK_FILE and (root / LOCK_FILE_COPY).is_file():
        return f"{text}; `atelier run` puts back what it was before the last stage"
    return f"{text}; `git checkout {file}` brings the last commit's back"


def _read_unlocked(read: Callable[["Repo"], T], say: Callable[[str], None], root: Path) -> T:
    """Return `read(repo)`, trying again as long as another DVC process holds what it reads."""
    from dvc.lock import LockError

    for wait_s in _waits():
        try:
            with open_repo(root) as repo:
                return read(repo)
        except LockError:
            say(locks.waiting_for(root, "dvc status"))
            time.sleep(wait_s)
    raise AssertionError("waiting has no end")


def _waits() -> Iterator[float]:
    return itertools.chain(WAITS_S, itertools.repeat(WAITS_S[-1]))


def _with_needs(targets: Sequence[str], needs: dict[str, set[str]]) -> set[str]:
    """Return the targets and all stages that they need, directly or not."""
    wanted: set[str] = set()
    queue = list(targets)
    while queue:
        name = queue.pop()
        if name not in needs:
            close = difflib.get_close_matches(name, needs, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(needs)}"
            raise AtelierError(f"dvc.yaml has no stage {name}; {hint}")
        if name not in wanted:
            wanted.add(name)
            queue.extend(needs[name])
    return wanted


def _in_order(names: Sequence[str], needs: dict[str, set[str]]) -> list[str]:
    """Put each stage after what it needs, otherwise in dvc.yaml's order. DVC has refused cycles by then."""
    order: list[str] = []
    while len(order) < len(names):
        order.append(next(name for name in names if name not in order and needs[name] <= set(order)))
    return order
