"""Write files and directories so that each is either whole or absent: temporary name, fsync, rename.

Digests of files, and JSON text as outputs contain it: a change here changes outputs.
"""

import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def json_bytes(content: Any) -> bytes:
    """Indented JSON with sorted keys and a final newline, in UTF-8."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in pieces; `algorithm` is any name of hashlib's."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_tree(directory: Path) -> str:
    """SHA-256 over the names and contents of a directory's files, which has no subdirectories."""
    lines = [f"{path.name} {digest(path)}\n" for path in sorted(directory.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


FILLING, FINISHED, OLD = ".tmp", ".new", ".old"  # suffixes of a directory on its way into or out of its place


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on success it is fsynced and renamed to `path`.

    On any exception the temporary file is removed and what stood at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the result from other users of the machine
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """An empty directory beside `path` to fill; on success it takes the place of `path` and of all that was in it.

    On any exception in the block the directory that stood at `path` stays. A process that is killed loses nothing
    either: what it leaves beside `path` is put in its place, or deleted, by the next call for the same `path`. Several
    processes may do this at once; the last one to finish wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    filling = path.with_name(f".{path.name}.{secrets.token_hex(4)}{FILLING}")
    with _locked(path.parent):
        _recover(path)
        filling.mkdir()
        in_use = _lock(filling)
    try:
        yield filling
        _fsync_tree(filling)
        with _locked(path.parent):
            finished, old = filling.with_suffix(FINISHED), filling.with_suffix(OLD)
            filling.rename(finished)
            if os.path.lexists(path):
                path.rename(old)
            finished.rename(path)
            _fsync_directory(path.parent)
    finally:
        os.close(in_use)
        with _locked(path.parent):
            _recover(path)


def _recover(path: Path) -> None:
    """Finish or undo what processes that are gone have left beside `path`. Call it with `path.parent` locked.

    The steps are: fill X.tmp, rename it to X.new, rename `path` to X.old, rename X.new to `path`, delete X.old.
    """

    def left(suffix: str) -> list[Path]:
        beside = path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}{suffix}")
        return sorted(beside, key=lambda left: left.lstat().st_mtime_ns)

    complete = [*left(OLD), *left(FINISHED)]
    if complete and not os.path.lexists(path):
        complete.pop().rename(path)  # the newest result, else what stood here before
        _fsync_directory(path.parent)
    for directory in [*complete, *(filling for filling in left(FILLING) if not _is_locked(filling))]:
        if directory.is_symlink() or not directory.is_dir():
            directory.unlink(missing_ok=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Wait for the lock on a directory and hold it."""
    handle = _lock(directory)
    try:
        yield
    finally:
        os.close(handle)


def _lock(directory: Path) -> int:
    """An open handle that holds the lock on a directory; the kernel releases it when the process ends."""
    handle = os.open(directory, os.O_RDONLY)
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _is_locked(directory: Path) -> bool:
    """Whether another process holds the lock on a directory, or may hold it where there are no locks."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON with sorted keys and a final newline."""
    write_bytes(path, json_bytes(content))


def size_bytes(place: Path) -> int:
    """The size of a file, or of all files below a directory; what goes while it is counted counts as nothing."""
    sizes = []
    for path in place.rglob("*") if place.is_dir() else [place]:
        with suppress(OSError):
            found = path.lstat()
            sizes.append(found.st_size if stat.S_ISREG(found.st_mode) else 0)
    return sum(sizes)


def link_or_copy(path: Path, to: Path) -> None:
    """The same file under a second name, or a copy of it where the disk knows no links."""
    try:
        to.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, to)


def _fsync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            if not (path := Path(folder, name)).is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        _fsync_directory(Path(folder))


def _fsync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
