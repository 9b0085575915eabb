"""The stages of dvc.yaml: their order, which are not up to date, the reproduction of one, and DVC experiments.

What only reads is done in this process through DVC's Python API. What changes files is done in a child process
(flows.repo.operations), because two DVC repositories in one process do not lock each other out.
"""

import difflib
import hashlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError, TransientError
from atelier.paths import LOCK_FILE, LOCK_FILE_COPY
from atelier.settings.load import read_yaml
from flows.repo import locks, operations
from flows.repo.operations import Lines, OperationError, Watcher, stage_failure

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

WAITS_S = (1.0, 1.0, 2.0, 3.0, 5.0)  # between attempts at a stage that another process holds; the last repeats
TRIAL_TARGETS = ("evaluate", "generate")  # a trial makes no prints: only an adopted experiment needs them

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
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    for _ in _attempts(root, "dvc status", say):
        with suppress(LockError), open_repo(root) as repo, lock_repo(repo):  # one lock for all stages
            # a .dvc file is data and no stage
            stages = {stage.addressing: stage for stage in repo.index.stages if not stage.is_data_source}
            needs = {name: _needs(stage, repo.index.outs_trie) & stages.keys() for name, stage in stages.items()}
            order = _with_needs(targets or list(needs), needs)
            return [PlannedStage(name, tuple(sorted(needs[name])), bool(stages[name].status())) for name in order]
    raise AssertionError("attempts have no end")


def stale(targets: Sequence[str], say: Callable[[str], None], root: Path = Path()) -> list[str]:
    """Return the planned stages whose command, inputs, params or outputs differ from dvc.lock. Waits as `plan` does."""
    return [stage.name for stage in plan(targets, say, root) if stage.stale]


def check(root: Path = Path()) -> int:
    """Read dvc.yaml, dvc.lock and the .dvc files; return the number of stages. AtelierError names the line."""
    with open_repo(root) as repo:
        return sum(not stage.is_data_source for stage in repo.index.stages)


def repro(stage: str, run_id: str, watcher: Watcher) -> StageOutcome:
    """Reproduce one stage. `run_id` is a text that identifies this attempt.

    Waits while another DVC process holds the stage; an exception that `watcher` or a signal handler raises stops it.
    Raises AtelierError with the stage's own message where it failed, TransientError where that may pass by itself.
    """
    for _ in _attempts(Path(), stage, watcher.line):
        try:
            outcome: StageOutcome = operations.run("repro", watcher=watcher, run_id=run_id, targets=[stage])
            return outcome
        except OperationError as error:
            if error.kind != "busy":
                raise stage_failure(error, stage, run_id) from None
    raise AssertionError("attempts have no end")


def run_experiment(name: str, follow: Callable[[str], Watcher], say: Callable[[str], None]) -> None:
    """Reproduce TRIAL_TARGETS in the current directory and save the result as the experiment `name`, which must be new.

    It runs in the work tree itself: `dvc exp run --temp` takes five seconds more per trial, the queue ten, and neither
    has the outputs of earlier trials at its start. `follow` returns the watcher of a stage when its command starts; an
    exception that a watcher raises stops the experiment. `say` receives the lines before the first stage. Raises
    OperationError where a stage failed, TransientError where that may pass by itself, AtelierError where DVC failed.
    """
    run_id = uuid.uuid4().hex
    try:
        operations.run("exp", watcher=Lines(say), on_stage=follow, run_id=run_id, name=name, targets=TRIAL_TARGETS)
    except OperationError as error:
        if error.kind != "stage" or error.stage is None:
            raise AtelierError(f"{name}: dvc: {error}") from None
        failure = stage_failure(error, error.stage, run_id)
        if isinstance(failure, TransientError):
            raise failure from None
        raise OperationError(str(failure), "stage", error.stage) from None


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
def open_repo(root: Path = Path(), config: Mapping[str, object] | None = None) -> Iterator["Repo"]:
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


def _attempts(root: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Yield for each attempt at what another DVC process holds; between two, say for which process it waits."""
    for wait_s in itertools.chain(WAITS_S, itertools.repeat(WAITS_S[-1])):
        yield
        say(locks.waiting_for(root, what))
        time.sleep(wait_s)


def _needs(stage: "Stage", outs: Any) -> set[str]:
    """The stages whose outputs a stage depends on: DVC's graph without networkx, which takes long to load."""
    keys = [dep.fs.parts(dep.fs_path) for dep in stage.deps if hasattr(dep, "fs")]
    found = [node.value for key in keys for node in outs.prefixes(key)]
    found += [out for key in keys if outs.has_subtrie(key) for out in outs.values(prefix=key)]
    return {out.stage.addressing for out in found}


def _with_needs(targets: Sequence[str], needs: dict[str, set[str]]) -> list[str]:
    """Return the targets and all stages that they need, each after its needs, otherwise in the order of `needs`."""
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
    order: list[str] = []
    while left := [name for name in needs if name in wanted and name not in order]:
        ready = [name for name in left if needs[name] <= set(order)]
        if not ready:
            raise AtelierError(f"dvc.yaml has a cycle among {', '.join(left)}: remove one of their dependencies")
        order.append(ready[0])
    return order
