"""The stages of dvc.yaml, one module each; DVC runs `python -m tasks.<stage>`."""

import contextlib
import json
import os
import sys
import time
import traceback
from types import TracebackType

from atelier.parent_death import die_with_starter
from atelier.paths import FAILED


def record_failure(stage: str, message: str) -> None:
    """Write why a stage failed to `.atelier/failed/<stage>.json`, for the flow that runs it."""
    with contextlib.suppress(OSError):  # a full disk, or a folder of another user's: the message was printed
        FAILED.mkdir(parents=True, exist_ok=True)
        outcome = {"run": os.environ.get("ATELIER_RUN", ""), "message": message}
        (FAILED / f"{stage}.json").write_text(json.dumps(outcome), encoding="utf-8")


def _record_mistake(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that no code expected, as Python does, and record it."""
    sys.__excepthook__(kind, error, trace)
    last = traceback.format_exception_only(kind, error)[-1].strip()
    record_failure(os.environ["DVC_STAGE"], f"a mistake in its code: {last} (traceback above)")


if "DVC_STAGE" in os.environ:
    die_with_starter()  # before a stage's own imports, which take seconds in which dvc may be killed
    sys.excepthook = _record_mistake

STARTED_NS = time.time_ns()  # before a stage's code is imported: tasks.stage finds edits made after this
