"""Child processes that never outlive us: a session of their own, a leash, lines as they come, a gentle stop.

How a flow's command ends for a person: as any command does, and with a sentence where Prefect's server goes away.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil

from atelier import parent_death
from atelier.errors import AtelierError
from atelier.errors import run_for_exit_code as run_for_exit_code

LOOK_EVERY_S = 0.5
TICK_S = 1.0  # between two looks at a running command that prints nothing

GRACE_S = 6.0  # a stage that is asked to stop may write its state first; with Prefect's farewell, below 10 s


class Child:
    """A running command, its stdout and stderr as one stream of lines; leaving the `with` block ends it.

    Start it in the main thread: the kernel ends it with the thread that started it.
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
            start_new_session=True,  # Ctrl-C reaches us alone, and we hand it on in order
            pass_fds=pass_fds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._process.stdout
        self._process.stdout.close()

    def lines(self, tick_s: float) -> Iterator[str | None]:
        """Each line as it comes, None whenever `tick_s` passed without one; ends when the command does."""
        assert self._process.stdout
        pipe = self._process.stdout.fileno()
        os.set_blocking(pipe, False)
        decoder, pending = codecs.getincrementaldecoder("utf-8")("replace"), ""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                # asked before reading: what an ended command left in the pipe is then read to the end
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
        """The exit status; negative for a signal."""
        return self._process.wait()

    def stop(self) -> None:
        """Ctrl-C for the whole session, then SIGKILL for what is left of it after GRACE_S."""
        if self._process.poll() is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command on our terminal for its exit code, as a shell has it; a Ctrl-C or SIGTERM is handed on to it.

    What it then says, and how it tidies up, is its own: we wait for that. Call it in the main thread.
    """
    child = subprocess.Popen(
        leashed(command), env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True
    )
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: _hand_on(child, number)) for number in numbers]
    try:
        status = child.wait()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _hand_on(child: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a leashed command; elsewhere than on Linux the leash is a process of its own before it."""
    if child.poll() is None:
        if sys.platform == "linux" or number != signal.SIGINT:
            child.send_signal(number)
        else:
            os.killpg(child.pid, number)


def is_dvc(pid: int) -> bool:
    """Whether a process is `dvc`, or flows.repo.worker, whose command line has that word as well.

    macOS hides the command lines of other users' processes; there any of their Python processes counts.
    """
    try:
        process = psutil.Process(pid)
        try:
            words = process.cmdline()
        except psutil.AccessDenied:
            words = [process.name().lower().replace("python", "dvc")]
        return any("dvc" in word for word in words)
    except psutil.Error:  # it is gone
        return False


def leashed(command: Sequence[str]) -> list[str]:
    """`command`, to be started by this process, as one that ends with it."""
    return [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid()), *command]


def end_with_starter() -> None:
    """From now on, when the process that started this one is gone: SIGTERM to ourselves, then SIGKILL.

    A runner that is killed leaves its flows at work, and its successor would start others beside them.
    """
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True, name="leash").start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2 * GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _last_state(line: str) -> str:
    """A bar redraws its line with carriage returns: its last state is the line."""
    return line.rstrip("\r").rpartition("\r")[2]


FULL_BYTES = 1e6  # free space with which SQLite can write no more


@contextmanager
def server_needed(goes_on: str) -> Iterator[None]:
    """Around a flow: raise AtelierError where Prefect's server goes away or fails for longer than its client waits."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        full = " because the disk is full" if shutil.disk_usage(Path()).free < FULL_BYTES else ""
        status = error.response.status_code
        raise AtelierError(
            f"Prefect's server fails{full} (HTTP {status}): what is finished is kept, and {goes_on}"
        ) from None
    except httpx.TransportError as error:
        raise AtelierError(
            f"Prefect's server has gone ({error}): what is finished is kept, and {goes_on}"
        ) from None


def in_words(error: Exception) -> str:
    """The sentence for a flow's message: of an OSError, what is wrong and with which file; else the error's own."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
