"""Child processes that end with this one, and the errors with which a flow's command ends.

Each child has a session of its own; its output arrives line by line; it is stopped by Ctrl-C first, then by SIGKILL.
"""

import codecs
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil

from atelier import parent_death
from atelier.errors import AtelierError, describe_error

CHECK_EVERY_S = 0.5
TICK_S = 1.0  # the longest time between two ticks of a command that prints nothing
GRACE_S = 6.0  # for a stage to write its state before SIGKILL; below 10 s together with Prefect's own end
FULL_DISK_BYTES = 1e6  # free space with which SQLite cannot write any more

Log = Callable[[str], None]  # takes a sentence for the person who runs a command, as `print_error` does


class Child:
    """A running command whose stdout and stderr are read as one stream of lines; leaving the `with` block ends it.

    It inherits the file descriptors `pass_fds`. Linux kills it when the thread that started it ends: use the main one.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        root: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            leashed(command),
            cwd=root,
            env={**environment, "PYTHONIOENCODING": "utf-8:replace"},  # `lines` decodes UTF-8
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches only this process, which passes it on
            pass_fds=pass_fds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._process.stdout
        self._process.stdout.close()

    def lines(self, tick_s: float) -> Iterator[str | None]:
        """Yield each line when it arrives, and None after `tick_s` without one, until the command ends."""
        assert self._process.stdout
        pipe = self._process.stdout.fileno()
        os.set_blocking(pipe, False)
        decoder, pending = codecs.getincrementaldecoder("utf-8")("replace"), ""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                # before reading, so that all output of a command that has ended is read
                ended = self._process.poll() is not None
                ready = selector.select(0 if ended else tick_s)
                chunk = os.read(pipe, 65536) if ready else b""
                if not chunk and (ended or ready):
                    break
                *whole, pending = (pending + decoder.decode(chunk)).split("\n")
                yield from map(_last_state, whole)
                if not chunk:
                    yield None
        if pending:
            yield _last_state(pending)

    def wait(self) -> int:
        """Wait for the command and return its exit status; negative for a signal."""
        return self._process.wait()

    def stop(self) -> None:
        """Send SIGINT to all processes of the session, and SIGKILL to those that are left after GRACE_S."""
        if self._process.poll() is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command from the main thread and return its exit code. Ctrl-C and SIGTERM are passed on to it."""
    child = subprocess.Popen(leashed(command), env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True)

    def pass_on(number: int, _: object) -> None:
        if child.poll() is None:
            if sys.platform == "linux" or number != signal.SIGINT:
                child.send_signal(number)
            else:  # the process of `leashed` stands between
                os.killpg(child.pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def is_dvc(pid: int) -> bool:
    """Whether a process is `dvc`, or flows.repo.worker, whose command line has that word as well."""
    try:
        process = psutil.Process(pid)
        try:
            words = process.cmdline()
        except psutil.AccessDenied:  # macOS hides other users' command lines: any of their Python processes counts
            words = [process.name().lower().replace("python", "dvc")]
        return any("dvc" in word for word in words)
    except psutil.Error:  # it is gone
        return False


def leashed(command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` and ends it when this process ends, however that happens."""
    return [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), *command]


def end_with_starter() -> None:
    """Send this process SIGTERM, and later SIGKILL, as soon as the process that started it has ended.

    Otherwise the flows of a Prefect runner that was killed would continue beside those of the next runner.
    """
    starter = os.getppid()

    def end() -> None:
        while os.getppid() == starter:
            time.sleep(CHECK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True, name="leash").start()


def _last_state(line: str) -> str:
    """Return what is visible of a line that a progress bar has redrawn with carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2]


@contextmanager
def server_needed(goes_on: str) -> Iterator[None]:
    """Raise AtelierError if Prefect's server ends or fails for longer than its client retries in the `with` block."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        full = " because the disk is full" if shutil.disk_usage(Path()).free < FULL_DISK_BYTES else ""
        trouble = f"fails{full} (HTTP {error.response.status_code})"
        raise AtelierError(f"Prefect's server {trouble}: what is finished is kept, and {goes_on}") from None
    except httpx.TransportError as error:
        raise AtelierError(f"Prefect's server is gone ({error}): what is finished is kept, and {goes_on}") from None


def in_words(error: Exception) -> str:
    """Return the message of an error; of an OSError, what is wrong and with which file."""
    return describe_error(error) or str(error)


def print_error(sentence: object) -> None:
    """Print to standard error."""
    print(sentence, file=sys.stderr)
