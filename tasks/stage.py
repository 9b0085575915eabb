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

from atelier.errors import AtelierError, TransientError, describe_os_error, exit_on_signal, ignore_output_errors
from atelier.files import write_bytes, write_json
from atelier.paths import EXECUTED, FAILED, LOCK_FILE, LOCK_FILE_COPY, PARAMS, PROGRESS, STATE
from atelier.progress import Progress
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from tasks import record_failure
from tasks.inputs import CODE_ROOT, Inputs

FINISHED = "finished"  # an empty file that marks the resumable states of a training that succeeded


class Stage:
    """A running stage: its name, all params, its code, and the folder of its resumable state.

    The functions in `after_success` are called once the stage has succeeded and its inputs have not changed.
    """

    def __init__(self, name: str, params: Params, inputs: Inputs | None = None) -> None:
        self.name, self.params, self._inputs = name, params, inputs
        self.after_success: list[Callable[[], object]] = []

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The SHA-256 of each file of code that dvc.yaml lists for this stage, by path."""
        return (self._inputs and self._inputs.code) or Inputs.read(self.name, CODE_ROOT).code

    @property
    def state(self) -> Path:
        """The folder `.atelier/<stage>/`, created on demand, which DVC never deletes."""
        return _writable(STATE / self.name)

    def state_of(self, key: str) -> Path:
        """Return `.atelier/<stage>/<key>/`, which may not exist. Raises AtelierError where it cannot be written to."""
        path = self.state / key
        return _writable(path) if path.exists() else path

    def refuse_changed(self) -> None:
        """Raise AtelierError if an input has changed since the stage began."""
        if self._inputs:
            self._inputs.refuse_changed()

    def progress(self, total: float, unit: str, start: float = 0, silent: bool = False) -> Progress:
        """Return a progress bar that also writes `.atelier/progress/<stage>.json`, unless it is `silent`."""
        return Progress(self.name, total, unit, None if silent else PROGRESS, start)


def main(name: str, work: Callable[[Stage], str]) -> None:
    """Run one stage and exit the process.

    `work` runs the stage and returns a one-line summary. The exit status is 0 on success, 1 after an error, 75
    (EX_TEMPFAIL) after an error that may pass by itself, 130 after Ctrl-C and 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, exit_on_signal)
    ignore_output_errors(line_buffering=True)
    began_s = time.monotonic()
    try:
        inputs = Inputs.read(name)  # before params.yaml is read: an edit between the two is found at the end
        inputs.refuse_edited_at_start()
        stage = Stage(name, load_params(PARAMS), inputs)
        if left_out := inputs.left_out(stage.params.model_dump()):  # DVC does not notice when their defaults change
            print(f"{name}: {PARAMS} leaves {', '.join(left_out)} to the default; write it there if it is to stay")
        for folder in (PROGRESS, EXECUTED):  # fails now rather than after hours of work
            _writable(folder)
        if "DVC_STAGE" in os.environ and LOCK_FILE.is_file():
            # flows.repo.locks restores it: a DVC process that is killed while it writes it in place leaves half of it
            write_bytes(LOCK_FILE_COPY, LOCK_FILE.read_bytes())
        summary = work(stage)
        stage.refuse_changed()
        for act in stage.after_success:
            act()
        # a stage that DVC restores from its cache writes none
        write_json(EXECUTED / f"{name}.json", {"run": os.environ.get("ATELIER_RUN", ""), "summary": summary})
        (FAILED / f"{name}.json").unlink(missing_ok=True)
    except AtelierError as error:
        _fail(name, str(error), os.EX_TEMPFAIL if isinstance(error, TransientError) else 1)
    except OSError as error:
        if (sentence := describe_os_error(error)) is None:
            raise
        _fail(name, sentence, 1)
    except KeyboardInterrupt:
        _fail(name, "stopped; `dvc repro` goes on from here", 130)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)")


def _writable(folder: Path) -> Path:
    """Create the folder and write to it once; return it. Raises AtelierError where that is not permitted."""
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


def _fail(name: str, message: str, status: int) -> NoReturn:
    print(f"{name}: {message}", file=sys.stderr)
    record_failure(name, message)
    sys.exit(status)
