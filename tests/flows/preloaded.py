"""Commands of flows, each in a fork of one process that has imported Prefect and DVC once, which takes two seconds.

A fork is a process like any other: it has its own environment and directory, signals reach it, it ends with an exit
code. Only its command line is this module's, so what others recognise by it, such as `dvc`, is started as usual.

As a program this reads a JSON object a line from stdin, and answers each with a line, the process id of the fork.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOADED = (
    "flows.orchestration.server", "flows.orchestration.stage_tasks", "prefect.flow_engine", "prefect.task_engine",
    "fastapi.encoders", "dvc.repo.status", "scmrepo.git", "flows.explore", "flows.repaint.session", "rich.table",
)  # fmt: skip


class Preloaded:
    """The process that forks; `home` is an empty directory, in which it runs."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._home = home
        command = [sys.executable, "-m", "tests.flows.preloaded"]
        self._process = subprocess.Popen(
            command, cwd=home, env={**environment, "PREFECT_HOME": str(home)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(
        self, command: list[str], root: Path, environment: dict[str, str], log: Path, errors: Path | None = None
    ) -> int:
        """Start a module with its arguments, or `-c` and a script; returns its PID.

        Its output goes to `log`, stderr to `errors` if that is given, and its exit code, when it has ended, to a file
        named as `log` with `.status`.
        """
        assert self._process.stdin and self._process.stdout
        files = {"log": str(log), "errors": str(errors or log)}
        request = {"command": command, "root": str(root), "environment": environment, **files}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def run(self, command: list[str], root: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        with tempfile.TemporaryDirectory(dir=self._home) as place:
            log, errors = Path(place, "log"), Path(place, "errors")
            for file in (log, errors):
                file.touch()
            self.start(command, root, environment, log, errors)
            return subprocess.CompletedProcess(command, ended(log), log.read_text(), errors.read_text())

    def end(self) -> None:
        self._process.communicate()


def status(log: Path) -> int | None:
    """The exit code of a fork whose output goes to `log`; None while it runs."""
    file = Path(f"{log}.status")
    return int(file.read_text()) if file.exists() else None


def ended(log: Path, timeout_s: float = 300) -> int:
    """Wait for a fork's end; return its exit code."""
    deadline_s = time.monotonic() + timeout_s
    while (code := status(log)) is None:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.02)
    return code


def _requested() -> dict[str, Any] | None:
    """In a fork, return what it is to run; None when no more requests come."""
    watching: set[int] = set()
    for line in sys.stdin:
        watching = {pid for pid in watching if not os.waitpid(pid, os.WNOHANG)[0]}
        if watcher := os.fork():
            watching.add(watcher)
            continue
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            return request
        print(child, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file = Path(f"{request['log']}.status")
        file.with_suffix(".part").write_text(str(code))
        file.with_suffix(".part").rename(file)
        os._exit(0)
    for pid in watching:
        os.waitpid(pid, 0)
    return None


def _run(command: list[str], root: str, environment: dict[str, str], log: str, errors: str) -> None:
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate((os.devnull, log, errors)):
        os.dup2(os.open(file, os.O_RDWR | os.O_APPEND), number)
    sys.modules["prefect.context"].refresh_global_settings_context()
    if command[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = root
        sys.argv = command
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    if request := _requested():
        _run(**request)
