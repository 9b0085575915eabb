"""Files that anybody may have made: open them without blocking.

A module of its own so that a change of its messages makes no stage stale.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from atelier.errors import AtelierError
from atelier.text import escaped

WHAT_INSTEAD = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def open_regular(path: Path, hint: str) -> BufferedReader:
    """Open a regular file for reading, without ever blocking as a pipe would.

    Raises AtelierError, which ends with `hint`, if there is no file, it may not be read, or it is a folder, pipe,
    socket or device.
    """
    try:
        # checked before opening, which may already have an effect on a device, and after it, as files may be replaced
        _refuse_irregular(path, path.stat().st_mode, hint)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(handle, "rb")
    except FileNotFoundError:
        raise AtelierError(f"{escaped(path)} is missing: {hint}") from None
    except PermissionError:
        raise AtelierError(f"{escaped(path)} may not be read: `chmod +r` makes it readable, or {hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        loops = isinstance(error, OSError) and error.errno == errno.ELOOP
        why = "a link that leads back to itself" if loops else getattr(error, "strerror", None) or str(error)
        raise AtelierError(f"{escaped(path)} cannot be opened ({why}): {hint}") from None
    try:
        _refuse_irregular(path, os.fstat(file.fileno()).st_mode, hint)
    except AtelierError:
        file.close()
        raise
    return file


def _refuse_irregular(path: Path, mode: int, hint: str) -> None:
    if not stat.S_ISREG(mode):
        raise AtelierError(f"{escaped(path)} is {WHAT_INSTEAD.get(stat.S_IFMT(mode), 'no file')}: {hint}")
