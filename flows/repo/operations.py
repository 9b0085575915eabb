"""Run one DVC operation in a child process, and say in sentences why one failed.

The child (flows.repo.worker) is a process of its own because DVC's locks belong to a process, and because it must end
with this one, together with the stage that it runs. Output arrives line by line, results and errors as data.

Each kind of DVC remote (S3, Google Cloud, Azure, SSH, WebDAV, ...) raises its own library's exceptions, most of which
derive from Exception alone. They are distinguished by built-in type, by HTTP status and by the names of their classes,
so that no library has to be installed to recognise its exceptions.
"""

import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from atelier.errors import AtelierError, TransientError
from atelier.paths import FAILED
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child

if TYPE_CHECKING:
    from dvc.repo import Repo

CODE_ROOT = Path(__file__).resolve().parents[2]  # the child runs this code, whatever the working directory contains
NO_SCM = {"core": {"no_scm": True}}  # what concerns the cache and the remote alone needs no git
SIGKILL, SHELLS_SIGKILL = -9, 137

# names of exception classes
REFUSED = re.compile(r"Auth|Credential|Permission|Forbidden|AccessDenied|Token|Login|HostKey|CertVerification")
UNREACHABLE = re.compile(r"Connect|Disconnect|Timeout|Transport|ServiceRe(quest|sponse)|HTTPClientError|Unavailable")
MAX_TEXT = 300

Kind = Literal["busy", "stage", "remote", "refused", "dvc", "killed"]


class Watcher(Protocol):
    """Follows an operation at work. An exception raised by one of the methods stops the operation."""

    def line(self, text: str) -> None:
        """Take a line of the stage's or DVC's output."""

    def tick(self) -> None:
        """Called about once a second, and after each line."""


class Lines:
    """A watcher that passes lines to a function, if any, and ignores ticks."""

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
    run_id: str = "",
    **arguments: Any,
) -> Any:
    """Run an operation of flows.repo.worker in the repository at `root`; return its result.

    `watcher` receives the lines. `on_stage` is called when a stage's command starts and returns the watcher for what
    follows. A stage that fails records `run_id` with its message. Raises OperationError where the operation fails.
    """
    watcher = watcher or Lines()
    last_line = ""
    answer: dict[str, Any] = {}
    environment = work_tree.environment() | {"ATELIER_RUN": run_id}
    # the worker removes the first path again
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CODE_ROOT), environment.get("PYTHONPATH"))))
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(f"{json.dumps(arguments)}\n".encode())
        events = _appended(file.fileno(), file.tell())
        command = [sys.executable, "-P", "-m", "flows.repo.worker", str(file.fileno()), "dvc", operation]
        with Child(command, environment, root, pass_fds=[file.fileno()]) as child:
            for line in child.lines(TICK_S):
                for event in next(events):
                    answer |= event
                    if "stage" in event and on_stage:
                        watcher = on_stage(event["stage"])
                if line is not None:
                    last_line = line.strip() or last_line
                    watcher.line(line)
                watcher.tick()
            status = child.wait()
        for event in next(events):
            answer |= event
    if "error" in answer:
        raise OperationError(**answer["error"])
    if status:
        reason = f"was killed by signal {-status}" if status < 0 else f"ended with {status}: {last_line}"
        raise OperationError(f"dvc {reason}", "killed")
    return answer["result"]


def _appended(file: int, start: int) -> Iterator[list[dict[str, Any]]]:
    """Yield, at each call, the JSON lines that were appended to a file since the last; the first begins at `start`."""
    while True:
        whole = os.pread(file, os.fstat(file).st_size, start).rpartition(b"\n")[0]
        start += len(whole) + 1 if whole else 0
        yield [json.loads(line) for line in whole.splitlines()]


def stage_failure(error: OperationError, stage: str, run_id: str) -> AtelierError:
    """Return the exception for a stage that could not be reproduced: the stage's own message, or else DVC's."""
    if error.status in (SIGKILL, SHELLS_SIGKILL):
        return AtelierError(f"{stage}: killed by signal 9, most likely because memory ran out")
    if error.status is not None and error.status < 0:
        return AtelierError(f"{stage}: killed by signal {-error.status}")
    kind = TransientError if error.status == os.EX_TEMPFAIL else AtelierError
    try:
        failed = json.loads((FAILED / f"{stage}.json").read_text(encoding="utf-8"))
        if error.status is not None and failed["run"] == run_id:
            return kind(f"{stage}: {failed['message']}")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # the command is not one of ours, or ended before it could write
    return kind(f"{stage}: {error}")


def default_remote(repo: "Repo") -> tuple[str, str] | None:
    """Return the name and the address of the default remote; None where none is set."""
    name = repo.config["core"].get("remote")
    return (name, str(repo.config["remote"].get(name, {}).get("url", name))) if name else None


@contextmanager
def errors_in_words(name: str, address: str) -> Iterator[None]:
    """Turn any exception of a remote into that of `remote_error`, except DvcException, whose message is a sentence."""
    from dvc.exceptions import DvcException

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # some libraries log each retry with a traceback
    try:
        yield
    except (AtelierError, DvcException):
        raise
    except Exception as error:  # noqa: BLE001
        raise remote_error(name, address, error) from None
    finally:
        logging.disable(before)


def remote_error(name: str, address: str, error: Exception) -> AtelierError:
    """Return the exception to raise for one of a remote's: TransientError where it may work later without a change."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    if isinstance(error, ImportError):
        # the package's name is in the message only
        package = re.search(r"dvc-\w+", text)
        remedy = f"`uv pip install {package[0]}` brings it" if package else "install what is missing"
        return AtelierError(f"{name}, {address}: {text}: {remedy}")
    if is_refused(error):
        return AtelierError(
            f"{name}, {address}, refuses access: {text}: set its credentials, see `dvc remote modify --local {name}`"
        )
    if _is_unreachable(error):
        return TransientError(f"{name}, {address}, cannot be reached: {text}")
    return AtelierError(f"{name}, {address}, cannot be used: {text}: see its settings in .dvc/config")


def is_refused(error: BaseException) -> bool:
    """Whether a remote refused the credentials."""
    return _status(error) in (401, 403) or any(REFUSED.search(kind.__name__) for kind in type(error).__mro__)


def _is_unreachable(error: BaseException) -> bool:
    """Judge by the exception or its cause. A missing local file, such as a key, is a matter of settings."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return False
    status = _status(error)
    if isinstance(error, OSError) or (status is not None and (status >= 500 or status in (408, 429))):
        return True
    if any(UNREACHABLE.search(kind.__name__) for kind in type(error).__mro__):
        return True
    cause = error.__cause__
    return cause is not None and not is_refused(cause) and _is_unreachable(cause)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    values = (metadata.get("HTTPStatusCode"), *(getattr(error, key, None) for key in ("status_code", "status", "code")))
    return next((value for value in values if isinstance(value, int)), None)
