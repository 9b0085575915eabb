"""The exceptions whose messages are written for the person at the keyboard.

How a command ends: an exit code and a sentence, no traceback for a mistake, a Ctrl-C or a failing terminal.

What the doctor says of one thing. Imports nothing, so that a flow may hold it without torch.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, cast


class AtelierError(Exception):
    """What was wrong, where (file, key, line), and what to do; shown without a traceback."""


class TransientError(AtelierError):
    """A site or a network in trouble that may be over by itself: the same again, later, may succeed."""


def run_for_exit_code(work: Callable[[], int], goes_on: str) -> int:
    """Run `work` for its exit code; 1 with the sentence of a mistake, 130 after Ctrl-C, 143 after SIGTERM.

    `goes_on` says how to go on after a Ctrl-C, empty where there is nothing to go on with.
    """
    ignore_output_errors()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return work()
    except AtelierError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if (sentence := describe_os_error(error)) is None:
            raise
        print(sentence, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {goes_on}" if goes_on else "stopped", file=sys.stderr)
        return 130


def describe_os_error(error: OSError) -> str | None:
    """What the operating system refused, and where; None for an OSError that says neither."""
    if error.filename is None and error.errno is None:
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: {error.filename or Path.cwd()}: free some space, then run again"
    return f"{error.strerror}: {error.filename or 'the disk or network'}"


def ignore_output_errors(line_buffering: bool = False) -> None:
    """From now on nothing that is printed raises: characters that stdout cannot encode become `?`, and what is printed
    to a closed pipe, a full disk or a lost terminal is dropped. Every entry point calls this first.

    With `line_buffering` each line reaches a pipe at once.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us; a file opened later would take its place
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # stays open as long as we run
            setattr(sys, name, stream)
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(
                errors="backslashreplace" if name == "stderr" else "replace",
                line_buffering=line_buffering or stream.line_buffering,
            )
        if not isinstance(stream, _Unfailing):
            setattr(sys, name, cast(TextIO, _Unfailing(stream)))


class _Unfailing:
    """A text stream whose `write` and `flush` never raise an OSError; all else is the wrapped stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BlockingIOError:  # a pipe that is full and does not wait
            return len(text)
        except OSError:
            self._drop()
            return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BlockingIOError:
            pass
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Send what is still buffered, and all that follows, also from child processes, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it is, and where it is not well, what to do."""

    what: str
    state: State
    message: str
    fix: str = ""
