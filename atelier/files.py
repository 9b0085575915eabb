"""Files that are either whole or absent: temporary name, fsync, rename. Knows no format."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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

    On any exception what stood at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        _fsync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON with sorted keys and a final newline."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def linked(path: Path, to: Path) -> None:
    """The same file under a second name, or a copy of it where the disk knows no links."""
    try:
        to.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, to)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in pieces; `algorithm` is any name of hashlib's."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_tree(directory: Path) -> str:
    """SHA-256 over the names and contents of a directory's files, which has no subdirectories."""
    lines = [f"{path.name} {digest(path)}\n" for path in sorted(directory.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fsync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
