"""The only module that talks to DVC: the order of the stages, what is stale, one stage made fresh.

DVC is asked for nothing but facts inside this process; work is done by `dvc repro` in a child process, because
two of DVC's repos in one process do not lock each other out.
"""

import contextlib
import difflib
import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import psutil

from atelier.errors import AtelierError, TransientError
from atelier.files import replacing
from atelier.settings.load import read_yaml, to_plain
from flows.repo import remote_errors
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child, is_dvc

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

LOCK_FILE = Path("dvc.lock")
LOCK_FILE_COPY = Path(".atelier/dvc.lock")  # tasks/stage.py makes it when a stage begins
EXECUTED = Path(".atelier/executed")  # tasks/stage.py writes <stage>.json with the id of the run it ran in
WAITS_S = (1.0, 1.0, 2.0, 3.0, 5.0)  # between two tries for a stage that another dvc holds; the last repeats
PASSING = f"exited with {os.EX_TEMPFAIL}"  # DVC's words for what tasks/stage.py says
HINTS = (  # DVC's advice to whoever typed `dvc repro`
    "To track the changes with git", "git add ", "To enable auto staging", "dvc config core.autostage",
    "Use `dvc push`",
)  # fmt: skip

T = TypeVar("T")
Verdict = Literal["executed", "restored", "unchanged"]


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage in its place: what it waits for directly, and whether DVC found it stale."""

    name: str
    upstream: tuple[str, ...]
    stale: bool


class Watcher(Protocol):
    """Who follows a stage at work."""

    def line(self, text: str) -> None:
        """A line of the stage's or of DVC's output."""

    def tick(self) -> None:
        """Called about once a second, and after the last line."""


def plan(targets: Sequence[str], say: Callable[[str], None], root: Path = Path()) -> list[PlannedStage]:
    """Return the target stages and all stages they need, in dvc.yaml's order as far as dependencies allow.

    Without targets, every stage. Waits while another DVC process holds a stage. Raises AtelierError for an unknown
    target and for a dvc.yaml that cannot be read.
    """

    def read(repo: "Repo") -> list[PlannedStage]:
        graph = repo.index.graph
        # a .dvc file is data and no stage
        stages = {stage.addressing: stage for stage in repo.index.stages if not stage.is_data_source}
        needs = {
            name: {need.addressing for need in graph.successors(stage)} & stages.keys()
            for name, stage in stages.items()
        }
        wanted = _with_needs(targets or list(needs), needs)
        order = _in_order([name for name in needs if name in wanted], needs)
        changed = set(repo.status(targets=order)) if order else set()
        return [PlannedStage(name, tuple(sorted(needs[name])), name in changed) for name in order]

    return _read_unlocked(read, say, root)


def stale_stages(root: Path, say: Callable[[str], None], targets: Sequence[str] = ()) -> list[str]:
    """Return the stages that are not up to date, of `targets` and what they need, or of all; empty: nothing to do.

    Takes about a second, most of it the import of DVC. Waits and raises as `plan` does.
    """
    return [stage.name for stage in plan(targets, say, root) if stage.stale]


def stale(names: Sequence[str], say: Callable[[str], None], root: Path = Path()) -> set[str]:
    """Return those of `names` whose command, inputs, params or outputs differ from dvc.lock. Waits as `plan` does."""
    return _read_unlocked(lambda repo: set(repo.status(targets=list(names))), say, root)


def _read_unlocked(read: Callable[["Repo"], T], say: Callable[[str], None], root: Path) -> T:
    """Return `read(repo)`, again and again while another DVC process holds what it reads."""
    from dvc.lock import LockError

    for wait_s in _waits():
        try:
            with _reading(root) as repo:
                return read(repo)
        except LockError as error:
            say(_busy_sentence("dvc status", str(error)))
            time.sleep(wait_s)
    raise AssertionError("waiting has no end")


def repro(stage: str, run: str, watcher: Watcher) -> Verdict:
    """Make one stage fresh; `run` is any text that no other run has.

    Waits while another dvc holds the stage; an exception raised meanwhile (Ctrl-C, SIGTERM) stops the stage.
    Raises AtelierError with the stage's own sentence where it failed, TransientError where that may pass by itself.
    """
    for wait_s in _waits():
        lines, status = _repro_once(stage, run, watcher)
        busy = next((line for line in lines if _is_busy(line)), None)
        if status == 0 or busy is None:
            break
        watcher.line(_busy_sentence(stage, "\n".join(lines)))
        time.sleep(wait_s)
    if status != 0:
        raise failure(stage, lines, status)
    return _verdict(stage, run, lines)


def failure(stage: str, lines: Sequence[str], status: int) -> AtelierError:
    """What a stage that failed and then DVC said in these lines, as a person should hear it."""
    passing = any(line.startswith("ERROR: ") and line.endswith(PASSING) for line in lines)
    return (TransientError if passing else AtelierError)(_reason(stage, lines, status))


def key(stage: str) -> str:
    """12 hex that name what dvc.lock holds of a stage's command, inputs and params; empty where it holds none."""
    try:
        locked = to_plain(read_yaml(LOCK_FILE)["stages"][stage])
    except (FileNotFoundError, KeyError, TypeError):
        return ""
    inputs = {
        "cmd": locked["cmd"],
        "deps": {dep["path"]: dep.get("md5") for dep in locked.get("deps", [])},
        "params": locked.get("params", {}),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:12]


def remote(root: Path = Path()) -> str | None:
    """The default remote's address, after a look at it; None where there is no default.

    Raises TransientError where it cannot be reached, AtelierError where DVC lacks the package for its kind, where it
    refuses the credentials, and where its settings are wrong.
    """
    with _reading(root) as repo:
        if (named := _default_remote(repo)) is None:
            return None
        name, address = named
        if "{" in address or "}" in address:
            raise AtelierError(f"{name}, {address}: DVC fails at {{ and }} in a path: name another")
        with remote_errors.in_words(name, address):
            store = repo.cloud.get_remote(name)
            # DVC makes the last folder itself, with the first push
            reached = any(store.fs.exists(path) for path in (store.path, store.fs.parent(store.path)))
        if not reached:
            local = store.fs.protocol == "local"
            raise TransientError(
                f"{name}: there is no {address}"
                if local
                else f"{name}: {address} is not there, or does not answer"
            )
        return address


def download(names: Collection[str], to: Path, root: Path = Path()) -> None:
    """Copy single objects from the default remote into the folder `to`, as far as it has them, under their names.

    An object that lists a folder's files comes without these files, which `dvc fetch` would bring as well. Raises as
    `remote` does.
    """
    with _reading(root) as repo:
        if (named := _default_remote(repo)) is None:
            return
        with remote_errors.in_words(*named):
            odb = repo.cloud.get_remote_odb(named[0])
            for name in names:
                with contextlib.suppress(FileNotFoundError), replacing(to / name) as temporary:
                    odb.fs.get_file(odb.oid_to_path(name), str(temporary))


def _default_remote(repo: "Repo") -> tuple[str, str] | None:
    """Name and address."""
    name = repo.config["core"].get("remote")
    return (name, str(repo.config["remote"].get(name, {}).get("url", name))) if name else None


def outs(root: Path, *files: Path) -> list[Path]:
    """The files and folders that these .dvc files of the tree at `root` name.

    Without `files`, those of all stages and of the .dvc files that DVC finds, which are not below ignored folders.
    """
    with _reading(root) as repo:
        found = [stage for file in files for stage in repo.stage.load_file(str(Path(repo.root_dir, file)))]
        return _places(root, repo, found if files else repo.index.stages)


def outs_of(root: Path, commit: str) -> list[Path]:
    """The files and folders that the stages and .dvc files of a commit name."""
    with _reading(root) as repo, repo.switch(commit):
        return _places(root, repo, repo.index.stages)


def unsaved(root: Path) -> list[str]:
    """The files of folders that .dvc files track, relative to `root`, whose content `dvc add` has not saved yet.

    A file that was removed from such a folder counts as well; a folder that is not there at all does not.
    """
    with _reading(root) as repo:
        outs = [out for stage in repo.index.stages if stage.is_data_source for out in stage.outs]
        there = [os.path.relpath(out.fs_path, repo.root_dir) for out in outs if os.path.lexists(out.fs_path)]
        if not there:
            return []
        changes = repo.data_status(granular=True, with_renames=False)["uncommitted"]
    names = {name for kind in ("added", "modified", "deleted") for name in changes.get(kind, [])}
    files = [name for name in names if not name.endswith("/")]  # a folder is named beside what differs in it
    return sorted(name for name in files if any(name == out or name.startswith(f"{out}/") for out in there))


def _places(root: Path, repo: "Repo", stages: Iterable["Stage"]) -> list[Path]:
    """The outputs on this machine, as paths below `root`, which may lead to the repository by a link."""
    found = [out.fs_path for stage in stages for out in stage.outs if out.protocol == "local"]
    return [Path(os.path.normpath(root / os.path.relpath(path, repo.root_dir))) for path in found]


@contextmanager
def _reading(root: Path = Path()) -> Iterator["Repo"]:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except LockError:
        raise
    except DvcException as error:
        if str(error).endswith("is not a git repository"):
            raise AtelierError(
                f"{error}, and DVC needs one: get Atelier with `git clone` instead of as a ZIP, or make it one: "
                "`git init && git add . && git commit -m 'My studio'`"
            ) from None
        raise AtelierError(_of_a_file(root, error) or str(error)) from error


def _of_a_file(root: Path, error: Exception) -> str:
    """What is wrong in which line of the dvc.yaml, dvc.lock or .dvc file that DVC could not read; empty for others."""
    match = re.match(r"(?:unable to read: )?'(.+?)'(?:,| validation failed)", str(error))
    if match is None:
        return ""
    try:
        read_yaml(root / match[1])
    except AtelierError as mistake:
        return str(mistake)
    except OSError:
        return ""
    told = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
    file = Path(match[1])
    if file == LOCK_FILE and (root / LOCK_FILE_COPY).is_file():
        return f"{' '.join(told.split())}; `atelier run` puts back what it was before the last stage"
    return f"{' '.join(told.split())}; `git checkout {file}` brings the last commit's back"


def check(root: Path = Path()) -> int:
    """Have DVC read dvc.yaml, dvc.lock and the .dvc files; the number of stages. AtelierError names the line."""
    with _reading(root) as repo:
        return sum(not stage.is_data_source for stage in repo.index.stages)


def _with_needs(targets: Sequence[str], needs: dict[str, set[str]]) -> set[str]:
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
    """Each stage after what it needs, otherwise as they stand in dvc.yaml (DVC refuses cycles itself)."""
    order: list[str] = []
    while len(order) < len(names):
        order.append(next(name for name in names if name not in order and needs[name] <= set(order)))
    return order


def _waits() -> Iterator[float]:
    return itertools.chain(WAITS_S, itertools.repeat(WAITS_S[-1]))


def _repro_once(stage: str, run: str, watcher: Watcher) -> tuple[list[str], int]:
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    lines: list[str] = []
    held = False  # from "is busy" on, DVC's words are for a person without a flow
    with Child(command, {**work_tree.environment(), "ATELIER_RUN": run}) as child:
        for line in child.lines(TICK_S):
            if line is not None:
                lines.append(line)
                held = held or _is_busy(line)
                if line and not held and not line.lstrip().startswith(HINTS):
                    watcher.line(line)
            watcher.tick()
        return lines, child.wait()


def _is_busy(line: str) -> bool:
    return "is busy, it is being blocked by" in line or "Unable to acquire lock" in line


def _busy_sentence(stage: str, text: str) -> str:
    """Who holds what. Raises AtelierError where the holder is no dvc: its pid was given to another process."""
    match = re.search(r"\(PID (\d+)\): (.*)", text)
    if match is None:
        return f"{stage}: waiting for another dvc to let go of the repository"
    pid, command = match.groups()
    if psutil.pid_exists(int(pid)) and not is_dvc(int(pid)):
        raise AtelierError(
            f"{stage}: .dvc/tmp/rwlock names PID {pid} ({command}) as holder, but that is another program now: "
            "remove .dvc/tmp/rwlock and run again"
        )
    return f"{stage}: waiting for PID {pid} ({command}), which holds its files"


def _verdict(stage: str, run: str, lines: Sequence[str]) -> Verdict:
    try:
        executed = json.loads((EXECUTED / f"{stage}.json").read_text())["run"] == run
    except (OSError, ValueError, KeyError):
        executed = False
    if executed:
        return "executed"
    return "restored" if any("is cached - skipping run" in line for line in lines) else "unchanged"


def _reason(stage: str, lines: Sequence[str], status: int) -> str:
    """The stage's own last sentence; where it has none, DVC's."""
    if status < 0:
        return f"{stage}: dvc was killed by signal {-status}"
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
    said = list(lines[: errors[0]] if errors else lines)
    error = "\n".join(lines[errors[0] :]).strip() if errors else f"dvc exited with {status}"
    error = error.removeprefix("ERROR: ").removeprefix(f"failed to reproduce '{stage}': ")
    if not any(line.startswith("> ") for line in said):  # the stage did not start
        return f"{stage}: {error}"
    if killed := re.search(r"exited with (-\d+|137)", error):  # 137 is a shell's word for -9
        number = 9 if killed[1] == "137" else -int(killed[1])
        return f"{stage}: killed by signal {number}" + (
            "; unasked, that is memory running out" if number == 9 else ""
        )
    trace = [
        number for number, line in enumerate(said) if line.startswith("Traceback (most recent call last)")
    ]
    if trace:
        last = next(line for line in reversed(said) if line.strip())
        return f"{stage}: a mistake in its code: {last} (traceback above)"
    own = [number for number, line in enumerate(said) if line.startswith(f"{stage}: ")]
    return "\n".join(said[own[-1] :]).strip() if own else f"{stage}: {error}"
