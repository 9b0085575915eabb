"""The process that paints pictures again, with the present code or an earlier one's: asked by file, heard by line."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.provenance import contract
from atelier.provenance.contract import Answer, Job, Jobs
from flows.runtime import work_tree
from flows.runtime.process import Child

TICK_S = 1.0
REMEMBERED = 20  # last lines, among which is why it failed


class Painter:
    """A process at work on jobs; leaving the `with` block ends it, entering it again changes nothing.

    `code` is the folder whose `atelier/` paints; None is the present one. `place` is for what is asked.
    """

    def __init__(self, jobs: Sequence[Job], device: str, place: Path, code: Path | None = None) -> None:
        asked = place / "jobs.json"
        write_bytes(asked, Jobs(device=device, jobs=list(jobs)).model_dump_json().encode())
        environment = work_tree.environment()
        if code is not None:  # before anything else, whatever is installed
            paths = (str(code), environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._child = Child([sys.executable, "-m", contract.MODULE, str(asked)], environment, code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__()

    def answers(self, say: Callable[[str], None]) -> Iterator[Answer]:
        """An answer a job, as each is done; `say` hears what else the process prints.

        Raises AtelierError where it fails: all that has been answered before stands.
        """
        last: deque[str] = deque(maxlen=REMEMBERED)
        for line in self._child.lines(TICK_S):
            if not line:
                continue
            if (answer := _answer(line)) is not None:
                yield answer
            else:
                last.append(line)
                say(line)
        if status := self._child.wait():
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
