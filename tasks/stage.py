"""What every stage does around its work: params, signals, errors for people, the note that it ran."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from atelier.errors import AtelierError, PassingError
from atelier.params import Params, load_params
from atelier.progress import Progress

PARAMS = Path("params.yaml")
DATA = Path("data")
STATE = Path(".atelier")  # what outlives DVC's deletion of outs: resumable states, arrived bytes, progress


class Stage:
    """A running stage: its name, the whole of params.yaml, and where its long-lived state goes."""

    def __init__(self, name: str, params: Params) -> None:
        self.name, self.params = name, params

    @property
    def state(self) -> Path:
        """`.atelier/<stage>/`, created on demand, never deleted by DVC."""
        path = STATE / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, total: float, unit: str, start: float = 0, silent: bool = False) -> Progress:
        """The stage's progress: bar or lines, and `.atelier/progress/<stage>.json` unless it is to be silent."""
        return Progress(self.name, total, unit, None if silent else STATE / "progress", start)


def main(name: str, work: Callable[[Stage], str]) -> None:
    """Run one stage and exit: 0 after its summary line, 1 with a sentence for a mistake, 75 (EX_TEMPFAIL) with one for
    trouble that may pass by itself, 130 or 143 if stopped.

    `work` does the stage and returns its one-line summary.
    """
    signal.signal(signal.SIGTERM, _stop)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    began_s = time.monotonic()
    try:
        params = load_params(PARAMS)
        summary = work(Stage(name, params))
        _refuse_edited(name, params)
    except AtelierError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL if isinstance(error, PassingError) else 1)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"{name}: {error.strerror}: {error.filename or 'the disk or network'}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: stopped; `dvc repro` goes on from here", file=sys.stderr)
        sys.exit(130)
    _note_executed(name)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)")


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _refuse_edited(name: str, used: Params) -> None:
    """DVC reads params.yaml again when a stage ends, and would record new values for what the old ones made."""
    if getattr(load_params(PARAMS), name, None) != getattr(used, name, None):
        raise AtelierError(
            f"{PARAMS}: the section {name} was edited while the stage ran, so its result is not what the file says "
            "now: run again (with the old values back, it goes on from where it was)"
        )


def _note_executed(name: str) -> None:
    """Tell a watching flow, by its run id, that this stage ran rather than being restored."""
    directory = STATE / "executed"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"run": os.environ.get("ATELIER_RUN", "")}))
