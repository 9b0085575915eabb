"""Processes that are killed with their starter, in the way of macOS, which also works on Linux."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from atelier import parent_death

ELSEWHERE = f"""
import os, runpy, sys
sys.platform = "darwin"
sys.argv = ["leash", *sys.argv[1:]]
runpy.run_path({parent_death.__file__!r}, run_name="__main__")
"""
STARTER = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), *sys.argv[2:]], start_new_session=True)
time.sleep(60)
"""


def leashed(*command: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", ELSEWHERE, str(os.getpid()), *command]
    return subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, text=True)


def until_gone(pids: list[int]) -> list[int]:
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s and any(map(is_alive, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_the_exit_code_is_that_of_the_command() -> None:
    assert leashed("/bin/sh", "-c", "exit 7").wait() == 7
    assert leashed("/bin/sh", "-c", "kill -9 $$").wait() == -9


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_reaches_the_command(number: int, whole_group: bool) -> None:
    with leashed("/bin/sh", "-c", "echo there; exec sleep 60") as process:
        assert process.stdout and process.stdout.readline() == "there\n"
        (os.killpg if whole_group else os.kill)(process.pid, number)
        assert process.wait(5) == -number


def test_a_command_and_its_children_are_killed_with_their_starter() -> None:
    command = ["/bin/sh", "-c", "sleep 60 & echo $$ $!; wait"]
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, ELSEWHERE, *command], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        pids = [int(word) for word in starter.stdout.readline().split()]
        assert all(map(is_alive, pids))
        starter.kill()
        assert until_gone(pids) == []


def test_die_with_starter_ends_a_python_process_behind_a_shell() -> None:
    ours = (
        "import os, psutil, sys, time; sys.platform = 'darwin'; from atelier.parent_death import die_with_starter; "
        "die_with_starter(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    command = f'{sys.executable} -c "{ours}"; true'  # the shell stays between the two
    starter_code = "import subprocess, sys; subprocess.run(['/bin/sh', '-c', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", starter_code, command], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pids = [int(starter.stdout.readline())]
        starter.kill()
        assert until_gone(pids) == []


@pytest.mark.parametrize("module", ["flows.cli", "flows.studio", "tasks.train", "atelier.doctor"])
def test_on_windows_a_message_says_to_use_wsl(module: str) -> None:
    code = f"import os, runpy, typer; os.name = 'nt'; runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Atelier runs on Linux and macOS. On Windows, run it inside WSL")
