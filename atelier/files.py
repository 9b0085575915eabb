"""Write files and directories so that each is either whole or absent (temporary name, fsync, rename); digests; JSON."""

import errno
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

FILLING, FINISHED, OLD = (".tmp", ".new", ".old")  # suffixes of a directory that is about to replace or was replaced


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; afterwards the file is fsynced and renamed to `path`.

    On an exception the temporary file is removed, and the file that was at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would make the result unreadable to other users
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _fsync_directory(path.parent)
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):  # of a write, which names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path` to fill; afterwards it replaces `path` and all that was in it.

    On an exception the directory that was at `path` stays. A killed process loses nothing either: the next call for the
    same `path` moves what it left into place, or deletes it. Of several processes at once, the last to finish wins.
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


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Replace the file at `path` by JSON with sorted keys and a final newline. A change here changes outputs."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file, which is read in pieces; `algorithm` is a name that hashlib has."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_tree(directory: Path) -> str:
    """Return a SHA-256 over the names and contents of the files in a directory without subdirectories."""
    lines = [f"{path.name} {digest(path)}\n" for path in sorted(directory.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a directory; files deleted meanwhile count as 0."""
    sizes = []
    for file in path.rglob("*") if path.is_dir() else [path]:
        with suppress(OSError):
            found = file.lstat()
            sizes.append(found.st_size if stat.S_ISREG(found.st_mode) else 0)
    return sum(sizes)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `source` to the new name `target`, or copy it where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _recover(path: Path) -> None:
    """Finish or undo what killed processes left beside `path`. `path.parent` must be locked.

    The steps are: fill X.tmp, rename it to X.new, rename `path` to X.old, rename X.new to `path`, delete X.old.
    """

    def left(suffix: str) -> list[Path]:
        beside = path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}{suffix}")
        return sorted(beside, key=lambda left: left.lstat().st_mtime_ns)

    complete = [*left(OLD), *left(FINISHED)]
    if complete and not os.path.lexists(path):
        complete.pop().rename(path)  # the newest result, else what was here before
        _fsync_directory(path.parent)
    for directory in [*complete, *(filling for filling in left(FILLING) if not _is_locked(filling))]:
        if directory.is_symlink() or not directory.is_dir():
            directory.unlink(missing_ok=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = _lock(directory)
    try:
        yield
    finally:
        os.close(handle)


def _lock(directory: Path) -> int:
    """Lock a directory and return the open handle; the kernel releases the lock when the process ends."""
    handle = os.open(directory, os.O_RDONLY)
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _is_locked(directory: Path) -> bool:
    """Return whether another process holds the lock on a directory; True where that cannot be known."""
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
