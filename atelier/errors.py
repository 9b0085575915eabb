"""Messages for people: errors that are shown without a traceback, how a command ends, findings, and words for numbers.

Imports the standard library only, so that every part of Atelier can use it at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast


class AtelierError(Exception):
    """A mistake or trouble that is shown without a traceback: what is wrong, where (file, key, line) and what to do."""


class TransientError(AtelierError):
    """Trouble with a site or a network that may pass: the same work, run again later, may succeed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of `atelier doctor`: what was checked, its state, details, and how to fix it."""

    what: str
    state: Literal["ok", "warning", "wrong"]
    message: str
    fix: str = ""


def run_for_exit_code(work: Callable[[], int], resume_hint: str) -> int:
    """Run `work` and return its exit code, turning errors for people into messages on stderr.

    Returns 1 after an AtelierError or an OSError, 130 after Ctrl-C, with `resume_hint`. SIGTERM raises SystemExit(143).
    """
    ignore_output_errors()
    signal.signal(signal.SIGTERM, exit_on_signal)
    try:
        return work()
    except (AtelierError, OSError) as error:
        if (sentence := describe_error(error)) is None:
            raise
        print(sentence, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {resume_hint}" if resume_hint else "stopped", file=sys.stderr)
        return 130


def exit_on_signal(number: int, frame: object) -> None:
    """A signal handler that ends the process with the status that a shell gives to the signal."""
    sys.exit(128 + number)


def describe_error(error: Exception) -> str | None:
    """Return an error's message, of an OSError what failed and where; None if that has no errno and no file name."""
    if not isinstance(error, OSError):
        return str(error)
    if error.filename is None and error.errno is None:
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename2 or error.filename or Path.cwd()  # of a copy, where it goes
        return f"{error.strerror}: {place}: free some space, then run again"
    return f"{error.strerror}: {error.filename or 'the disk or network'}"


def ignore_output_errors(line_buffering: bool = False) -> None:
    """Make printing never fail, whatever happens to the terminal; with `line_buffering` each line is sent at once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process; a file that is opened later would get its number
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open until the process ends
            setattr(sys, name, stream)
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(
                errors="backslashreplace" if name == "stderr" else "replace",
                line_buffering=line_buffering or stream.line_buffering,
            )
        if not isinstance(stream, _UnfailingStream):
            setattr(sys, name, cast(TextIO, _UnfailingStream(stream)))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 work", "1,374 works"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_size(count: int) -> str:
    """Return a number of bytes with its unit; empty for 0."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} B" if count else ""


def join_with_or(values: Sequence[Any]) -> str:
    """Return the values as a choice: "a, b or c"."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


class _UnfailingStream:
    """Wraps a text stream so that `write` and `flush` never raise an OSError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BlockingIOError:  # a non-blocking pipe that is full
            return len(text)
        except OSError:
            self._redirect_to_devnull()
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
            self._redirect_to_devnull()

    def _redirect_to_devnull(self) -> None:
        """Discard what is buffered and all later output, that of child processes included."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self._stream.fileno())
        os.close(devnull)
