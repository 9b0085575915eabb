"""What every stage does around its work: read params, handle signals, print errors for people, record its outcome."""

import errno
import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from atelier.errors import AtelierError, TransientError, describe_os_error, ignore_output_errors
from atelier.files import write_bytes, write_json
from atelier.progress import Progress
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from tasks import FAILED, record_failure
from tasks.inputs import CODE_ROOT, PARAMS, Inputs, refuse_changed, refuse_edited_at_start

DATA = Path("data")
FINISHED = "finished"  # a file beside the resumable states of a training that has succeeded
LOCK_FILE = Path("dvc.lock")
STATE = Path(".atelier")  # what outlives DVC's deletion of outs: resumable states, arrived bytes, progress
PROGRESS, EXECUTED = STATE / "progress", STATE / "executed"


class Stage:
    """A running stage: its name, the whole of params.yaml, and where its long-lived state goes.

    `after_success` has what is to be done once the stage has succeeded and its inputs are still what they were.
    """

    def __init__(self, name: str, params: Params, inputs: Inputs | None = None) -> None:
        self.name, self.params, self._inputs = name, params, inputs
        self.after_success: list[Callable[[], object]] = []

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The SHA-256 of each file of code that decides this stage's bytes, as dvc.yaml lists them, by path."""
        return (self._inputs and self._inputs.code) or Inputs.read(self.name, CODE_ROOT).code

    @property
    def state(self) -> Path:
        """`.atelier/<stage>/`, created on demand, never deleted by DVC."""
        return _writable(STATE / self.name)

    def state_of(self, key: str) -> Path:
        """`.atelier/<stage>/<key>/`, which need not be there; AtelierError where it is and may not be written to."""
        path = self.state / key
        return _writable(path) if path.exists() else path

    def refuse_changed(self) -> None:
        """Raise AtelierError where what the stage depends on has changed since it began; before a state is removed."""
        if self._inputs:
            refuse_changed(self._inputs)

    def progress(self, total: float, unit: str, start: float = 0, silent: bool = False) -> Progress:
        """The stage's progress: bar or lines, and `.atelier/progress/<stage>.json` unless it is to be silent."""
        return Progress(self.name, total, unit, None if silent else PROGRESS, start)


def main(name: str, work: Callable[[Stage], str]) -> None:
    """Run one stage and exit: 0 after its summary line, 1 with a sentence for a mistake, 75 (EX_TEMPFAIL) with one for
    trouble that may pass by itself, 130 or 143 if stopped.

    `work` does the stage and returns its one-line summary.
    """
    signal.signal(signal.SIGTERM, _stop)
    ignore_output_errors(line_buffering=True)
    began_s = time.monotonic()
    try:
        inputs = Inputs.read(name)  # before params.yaml is read: an edit between the two is found at the end
        refuse_edited_at_start(inputs)
        stage = Stage(name, load_params(PARAMS), inputs)
        _tell_defaults(stage.params, inputs)
        for folder in (PROGRESS, EXECUTED):  # found out now, not after hours of work
            _writable(folder)
        _copy_lock_file()
        summary = work(stage)
        stage.refuse_changed()
        for act in stage.after_success:
            act()
        _record_success(name, summary)
    except AtelierError as error:
        _fail(name, str(error), os.EX_TEMPFAIL if isinstance(error, TransientError) else 1)
    except OSError as error:
        if (sentence := describe_os_error(error)) is None:
            raise
        _fail(name, sentence, 1)
    except KeyboardInterrupt:
        _fail(name, "stopped; `dvc repro` goes on from here", 130)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)")


def _copy_lock_file() -> None:
    """Copy dvc.lock to `.atelier/dvc.lock`: DVC writes it in place, and one that is killed then leaves half of it.

    The next flow puts the copy back (flows.repo.locks.mend).
    """
    if "DVC_STAGE" in os.environ and LOCK_FILE.is_file():
        write_bytes(STATE / LOCK_FILE, LOCK_FILE.read_bytes())


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _tell_defaults(params: Params, inputs: Inputs) -> None:
    """Print which keys of the stage's sections params.yaml leaves out: DVC sees no change of what is not written."""
    if left_out := inputs.left_out(params.model_dump()):
        print(
            f"{inputs.stage}: {PARAMS} leaves {', '.join(left_out)} to the default; write it there if it is to stay"
        )


def _record_success(name: str, summary: str) -> None:
    """Write `.atelier/executed/<stage>.json`; a stage that DVC restores from its cache writes none."""
    write_json(EXECUTED / f"{name}.json", {"run": os.environ.get("ATELIER_RUN", ""), "summary": summary})
    (STATE / FAILED / f"{name}.json").unlink(missing_ok=True)


def _fail(name: str, message: str, status: int) -> NoReturn:
    """Print a message, record it for a flow that runs this stage, and exit."""
    print(f"{name}: {message}", file=sys.stderr)
    record_failure(name, message)
    sys.exit(status)


def _writable(folder: Path) -> Path:
    """The folder, made where it is not there and written to once. Raises AtelierError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise AtelierError(
            f"{folder} cannot be written: {error.strerror}: `atelier doctor` says what belongs to another user"
        ) from None
