"""Run one DVC operation in a child process: its output arrives line by line, its result and errors as data.

The child (flows.repo.worker) is a process of its own because DVC's locks belong to a process, and because it must end
with this one, together with the stage that it runs.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from atelier.errors import AtelierError
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child

CODE_ROOT = Path(__file__).resolve().parents[2]  # the child runs this code, whatever the working directory contains

Kind = Literal["busy", "stage", "remote", "refused", "dvc", "killed"]


class Watcher(Protocol):
    """Follows an operation at work. An exception raised by one of the methods stops the operation."""

    def line(self, text: str) -> None:
        """Take a line of the stage's or DVC's output."""

    def tick(self) -> None:
        """Called about once a second, and after each line."""


class Lines:
    """A watcher that passes lines to a function and ignores ticks; without a function it ignores both."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say

    def line(self, text: str) -> None:
        if self._say and text.strip():
            self._say(text)

    def tick(self) -> None:
        pass


class OperationError(AtelierError):
    """A DVC operation that failed, with DVC's message.

    `kind` is `busy` (another DVC process holds a lock), `stage` (a stage could not be reproduced), `remote` (out of
    reach, may work later), `refused` (credentials), `dvc` (any other exception) or `killed`. `stage` is the stage that
    was being reproduced, `status` the exit status of its command: negative for a signal, None where it did not fail.
    """

    def __init__(self, message: str, kind: Kind, stage: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.stage, self.status = kind, stage, status


def run(
    operation: str,
    *,
    root: Path = Path(),
    watcher: Watcher | None = None,
    on_stage: Callable[[str], Watcher] | None = None,
    variables: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Run an operation of flows.repo.worker in the repository at `root`; return its result.

    `watcher` receives the lines. `on_stage` is called when a stage's command starts and returns the watcher for what
    follows. `variables` are added to the environment. Raises OperationError where the operation fails.
    """
    watcher = watcher or Lines()
    last_line = ""
    answer: dict[str, Any] = {}
    with tempfile.TemporaryFile(buffering=0) as file:
        events = _Events(file, arguments)
        command = [sys.executable, "-P", "-m", "flows.repo.worker", str(file.fileno()), "dvc", operation]
        with Child(command, _environment(variables or {}), root, pass_fds=[file.fileno()]) as child:
            for line in child.lines(TICK_S):
                for event in events.new():
                    if "stage" in event and on_stage:
                        watcher = on_stage(event["stage"])
                if line is not None:
                    last_line = line.strip() or last_line
                    watcher.line(line)
                watcher.tick()
            status = child.wait()
        for event in events.all():
            answer |= event
    if "error" in answer:
        raise OperationError(**answer["error"])
    if status:
        reason = f"was killed by signal {-status}" if status < 0 else f"ended with {status}: {last_line}"
        raise OperationError(f"dvc {reason}", "killed")
    return answer["result"]


class _Events:
    """A file that holds the arguments of an operation, followed by its events, as JSON, one a line."""

    def __init__(self, file: IO[bytes], arguments: Mapping[str, Any]) -> None:
        self._file = file.fileno()
        os.write(self._file, f"{json.dumps(arguments)}\n".encode())
        self._start = self._read = os.lseek(self._file, 0, os.SEEK_CUR)

    def new(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        size = os.fstat(self._file).st_size - self._read
        whole = os.pread(self._file, size, self._read).rpartition(b"\n")[0] if size else b""
        self._read += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]

    def all(self) -> list[dict[str, Any]]:
        """Return all events so far."""
        self._read = self._start
        return self.new()


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    environment = work_tree.environment()
    paths = (str(CODE_ROOT), environment.get("PYTHONPATH"))  # the worker removes the first again
    return {**environment, **variables, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
