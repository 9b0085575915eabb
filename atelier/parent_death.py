"""Processes that end with the one that started them, even by SIGKILL.

Linux's kernel does that by itself. Elsewhere (macOS) the process or, for a command that is not ours, this script looks
twice a second whether its parent is still there.

Standard library only at module level: it is also a script, `leash.py PARENT COMMAND…`, which starts without packages.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SHELLS = {"sh", "dash", "bash", "ash", "busybox", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "nu", "xonsh"}
LOOK_EVERY_S = 0.5


def die_with_starter() -> None:
    """Be killed when the process that started us ends, also where a shell that it started stands between.

    DVC runs a stage through $SHELL: bash becomes the stage, dash stays as its parent and outlives dvc.
    Exits at once where the starter is already gone.
    """
    import psutil

    parent = os.getppid()
    die_with(parent)
    starter = parent
    if _name(parent) in SHELLS:
        starter = _parent(parent)
        threading.Thread(target=_watch, args=(parent, starter), daemon=True).start()
    if starter == 1:  # pid 1 adopts orphans; in a container it may be dvc
        try:
            command = psutil.Process(1).cmdline()
        except psutil.Error:
            command = []
        if not any("dvc" in word for word in command):
            sys.exit(1)


def die_with(parent: int) -> None:
    """Be killed when our parent ends (on Linux, its thread); exit where `parent` is no longer our parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_die_after, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


def _die_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(shell: int, starter: int) -> None:
    """An orphaned shell gets another parent: the sign that the starter is gone."""
    while _parent(shell) == starter:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _name(pid: int) -> str:
    """The program's name; empty where `pid` is gone."""
    import psutil

    try:
        return str(psutil.Process(pid).name()).lstrip("-")  # a login shell's begins with a dash
    except psutil.Error:
        return ""


def _parent(pid: int) -> int:
    """The parent's pid; 0 where `pid` is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).ppid())
    except psutil.Error:
        return 0


def _become(command: list[str], parent: int) -> NoReturn:
    """Replace this process by `command`, which ends with `parent`."""
    if sys.platform == "linux":
        die_with(parent)
    else:
        _watch_over(parent)  # returns in a child, which becomes the command
    os.execv(command[0], command)


def _watch_over(parent: int) -> None:
    """Fork. The first process stays and ends as its child ends; when `parent` is gone, it kills its whole group.

    The group is ours alone: whoever starts this script gives it a session of its own, and sends SIGINT to all of it.
    """
    child = os.fork()
    if not child:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if os.getppid() != parent:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        time.sleep(LOOK_EVERY_S / 10)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background shell hands on an ignored SIGINT
    _become(sys.argv[2:], int(sys.argv[1]))
