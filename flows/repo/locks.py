"""DVC's locks and what a killed DVC process leaves behind: who holds a lock, release, repair.

DVC keeps the locks on stages' files in `.dvc/tmp/rwlock`, as JSON with the process id and command of each holder.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.paths import LOCK_FILE, LOCK_FILE_COPY, LOCK_FILE_DAMAGED
from flows.runtime.process import is_dvc

LOCKS_FILE = Path(".dvc/tmp/rwlock")
CONFLICT_MARK = b"<<<<<<< "


def waiting_for(root: Path, what: str) -> str:
    """Return a sentence that says for which process `what` has to wait, because DVC found the repository locked.

    Raises AtelierError where the process that holds the lock is not a DVC process: DVC was killed, and its process id
    has been given to another program since.
    """
    holders = [(pid, command) for pid, command in _holders(root).items() if psutil.pid_exists(pid)]
    for pid, command in sorted(holders, key=lambda holder: not is_dvc(holder[0])):
        if is_dvc(pid):
            return f"{what}: waiting for PID {pid} ({command}), which holds its files"
        raise AtelierError(
            f"{what}: {LOCKS_FILE} names PID {pid} ({command}) as holder, but that is another program now: remove "
            f"{LOCKS_FILE} and run again"
        )
    return f"{what}: waiting for another dvc to let go of the repository"


def release(root: Path) -> None:
    """Remove the locks of a DVC process that was killed in `root`, unless a process that holds one works there.

    DVC ignores locks of processes that have ended; but in a container, the next process gets the same id.
    """
    if not any(_is_in(root, pid) for pid in _holders(root)):
        (root / LOCKS_FILE).unlink(missing_ok=True)


def mend(root: Path, say: Callable[[str], None]) -> None:
    """Repair what a DVC process that was killed while writing has left in `root`: its file of locks, and dvc.lock.

    A half-written file of locks is deleted, because DVC fails on it. A dvc.lock that cannot be read is replaced by the
    copy that was made when the last stage began; stages that finished since come from the run cache. The damaged file
    is kept as `.atelier/dvc.lock.damaged`. Nothing is changed while another DVC process works in `root`, because it may
    be writing, nor in a file with git's conflict markers.
    """
    locks, lock_file = root / LOCKS_FILE, root / LOCK_FILE
    locks_damaged, lock_file_damaged = _is_damaged(locks, json.loads), _is_damaged(lock_file, _parse_lock_file)
    if not (locks_damaged or lock_file_damaged):
        return
    others = (pid for pid in psutil.pids() if pid != os.getpid())
    if any(is_dvc(pid) and _is_in(root.resolve(), pid) for pid in others):
        return
    if locks_damaged:
        locks.unlink(missing_ok=True)
    copy = root / LOCK_FILE_COPY
    if lock_file_damaged and copy.is_file() and not _is_damaged(copy, _parse_lock_file):
        content = lock_file.read_bytes()
        if any(line.startswith(CONFLICT_MARK) for line in content.splitlines()):
            return
        write_bytes(root / LOCK_FILE_DAMAGED, content)
        write_bytes(lock_file, copy.read_bytes())
        say(f"{LOCK_FILE} was half written by a dvc that was killed: it is again what it was before that stage")


def _holders(root: Path) -> dict[int, str]:
    """The commands of the processes that DVC's file of locks names, by process id; none where it is damaged."""
    holders: dict[int, str] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        locks = json.loads((root / LOCKS_FILE).read_text())
        writers, readers = locks.get("write", {}).values(), locks.get("read", {}).values()
        for found in (*writers, *(reader for each in readers for reader in each)):
            holders[int(found["pid"])] = str(found["cmd"])
    return holders


def _is_damaged(path: Path, parse: Callable[[bytes], object]) -> bool:
    """Whether a file exists and cannot be parsed."""
    from voluptuous import Invalid

    try:
        parse(path.read_bytes())
    except FileNotFoundError:
        return False
    except (ValueError, YAMLError, Invalid):
        return True
    return False


def _parse_lock_file(content: bytes) -> None:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content))  # parsed in C, as DVC does


def _is_in(root: Path, pid: int) -> bool:
    """Whether `root` is the process's working directory. That of another user's process is hidden: True for a dvc."""
    try:
        return Path(psutil.Process(pid).cwd()) == root
    except psutil.AccessDenied:
        return is_dvc(pid)
    except psutil.Error:
        return False
