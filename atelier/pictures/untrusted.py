"""A file that anybody may have made and named: opened so that nothing hangs, named so that no terminal is moved.

Knows no format.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from atelier.errors import AtelierError

WHAT_INSTEAD = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def shown(name: Path | str) -> str:
    """A name as it is, but for what is no letter, sign or space: line ends, escape codes, bytes of no encoding."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(name)
    )


def opened(path: Path, hint: str) -> BufferedReader:
    """A plain file, opened to be read. `hint` says what to name instead.

    Raises AtelierError where there is none, it may not be read, or it is something else; never waits, as a pipe would.
    """
    try:
        # looked at before it is opened, for opening alone does something to a device; and again, for it may be changed
        _check(path, path.stat().st_mode, hint)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(handle, "rb")
    except FileNotFoundError:
        raise AtelierError(f"{shown(path)} is missing: {hint}") from None
    except PermissionError:
        raise AtelierError(
            f"{shown(path)} may not be read: `chmod +r` makes it readable, or {hint}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        loops = isinstance(error, OSError) and error.errno == errno.ELOOP
        said = "a link that leads back to itself" if loops else getattr(error, "strerror", None) or str(error)
        raise AtelierError(f"{shown(path)} cannot be opened ({said}): {hint}") from None
    try:
        _check(path, os.fstat(file.fileno()).st_mode, hint)
    except AtelierError:
        file.close()
        raise
    return file


def _check(path: Path, mode: int, hint: str) -> None:
    if not stat.S_ISREG(mode):
        raise AtelierError(f"{shown(path)} is {WHAT_INSTEAD.get(stat.S_IFMT(mode), 'no file')}: {hint}")
