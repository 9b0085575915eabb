"""Kill a process when the one that started it ends, even by SIGKILL.

On Linux the kernel does this. Elsewhere (macOS) a thread of the process checks twice a second whether its parent still
exists; for a command that is not ours, this file runs as a script that checks: `parent_death.py PARENT COMMAND…`.

Imports only the standard library at module level, because the script runs without packages.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SHELLS = {"sh", "dash", "bash", "ash", "busybox", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "nu", "xonsh"}
CHECK_INTERVAL_S = 0.5


def die_with_starter() -> None:
    """Have this process killed when the one that started it ends, even if a shell runs between the two.

    DVC runs a stage through $SHELL: bash replaces itself by the stage, dash stays its parent and outlives dvc. Exits
    at once where the starter has already ended.
    """
    import psutil

    parent = starter = os.getppid()
    die_with(parent)
    with contextlib.suppress(psutil.Error):
        if psutil.Process(parent).name().lstrip("-") in SHELLS:  # a login shell's name begins with a dash
            starter = _parent_of(parent)
            threading.Thread(target=_die_after_change, args=(parent, starter), daemon=True).start()
    if starter == 1:  # pid 1 adopts orphans, but in a container it may be dvc itself
        command: list[str] = []
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(1).cmdline()
        if not any("dvc" in word for word in command):
            sys.exit(1)


def die_with(parent: int) -> None:
    """Have this process killed when its parent ends (on Linux, the parent's thread). Exits if `parent` has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_die_after_change, args=(os.getpid(), parent), daemon=True).start()
    if os.getppid() != parent:  # it ended before the call above
        sys.exit(1)


def _die_after_change(pid: int, parent: int) -> None:
    """Kill this process when `pid` gets another parent than `parent`, which means that `parent` has ended."""
    while _parent_of(pid) == parent:
        time.sleep(CHECK_INTERVAL_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 where the process has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).ppid())
    except psutil.Error:
        return 0


def _fork_and_watch(parent: int) -> None:
    """Fork. The first process ends as its child ends; when `parent` has ended, it kills its process group.

    The script must be started in a session of its own. SIGINT must be sent to the whole group.
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
        time.sleep(CHECK_INTERVAL_S / 10)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background processes inherit an ignored SIGINT
    if sys.platform == "linux":
        die_with(int(sys.argv[1]))
    else:
        _fork_and_watch(int(sys.argv[1]))  # returns in the child process, which becomes the command
    os.execv(sys.argv[2], sys.argv[2:])
