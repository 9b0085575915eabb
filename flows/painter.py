"""The process that paints pictures again, with the present code or an earlier one's: asked by file, heard by line."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from atelier import repaint_contract
from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.repaint_contract import Answer, Job, Jobs
from flows import tree
from flows.processes import Child

TICK_S = 1.0
REMEMBERED = 20  # last lines, among which is why it failed


def paint(
    jobs: Sequence[Job], device: str, place: Path, say: Callable[[str], None], code: Path | None = None
) -> Iterator[Answer]:
    """An answer a job, as each is done. `code` is the folder whose `atelier/` paints; None is the present one.

    `place` is for what is asked, and for what is painted. Raises AtelierError where the process fails: all that has
    been answered before stands.
    """
    asked = place / "jobs.json"
    write_bytes(asked, Jobs(device=device, jobs=list(jobs)).model_dump_json().encode())
    environment = tree.environment()
    if code is not None:  # before anything else, whatever is installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(code), environment.get("PYTHONPATH"))))
    command = [sys.executable, "-m", repaint_contract.MODULE, str(asked)]
    last: deque[str] = deque(maxlen=REMEMBERED)
    with Child(command, environment, code) as child:
        for line in child.lines(TICK_S):
            if not line:
                continue
            if (answer := _answer(line)) is not None:
                yield answer
            else:
                last.append(line)
                say(line)
        status = child.wait()
    if status:
        raise AtelierError(_why(status, last))


def _answer(line: str) -> Answer | None:
    if not line.startswith("{"):
        return None
    try:
        return Answer.model_validate_json(line)
    except ValidationError:
        return None


def _why(status: int, lines: Sequence[str]) -> str:
    if status < 0:
        unasked = "; unasked, that is memory running out" if status == -9 else ""
        return f"the painting process was killed by signal {-status}{unasked}"
    said = next((line for line in reversed(lines) if line.strip()), f"it ended with {status}")
    if any(line.startswith("Traceback") for line in lines):
        return f"a mistake in the painting code: {said}"
    return said
