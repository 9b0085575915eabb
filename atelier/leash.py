"""Processes that end with the one that started them, even by SIGKILL (Linux; elsewhere nothing happens).

Standard library only: it is also a script, `leash.py PARENT COMMAND…`, which becomes COMMAND on a leash.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SHELLS = {"sh", "dash", "bash", "ash", "busybox", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "nu", "xonsh"}
LOOK_EVERY_S = 0.5


def die_with_starter() -> None:
    """Be killed when the process that started us ends, also where a shell that it started stands between.

    DVC runs a stage through $SHELL: bash becomes the stage, dash stays as its parent and outlives dvc.
    Exits at once where the starter is already gone.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    die_with(parent)
    if _name(parent) not in SHELLS:
        starter = parent
    else:
        starter = _parent(parent)
        threading.Thread(target=_watch, args=(parent, starter), daemon=True).start()
    if starter == 1 and b"dvc" not in Path("/proc/1/cmdline").read_bytes():  # pid 1 adopts orphans
        sys.exit(1)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when our parent's thread ends; exit where `parent` is no longer our parent."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


def _watch(shell: int, starter: int) -> None:
    """An orphaned shell gets another parent: the sign that the starter is gone."""
    while _parent(shell) == starter:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    """The parent's pid; 0 where `pid` is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return 0
    return int(after_name.split()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background shell hands on an ignored SIGINT
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
