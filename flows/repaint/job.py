"""What is asked of a painting process for a picture, and where its answer lies. Knows no verdict.

What a picture says travels word for word: only the networks' files are ours to name, found by their digests.

The process that paints pictures again, with the present code or an earlier one's: asked by file, heard by line.
"""

import contextlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.pictures import Samples
from atelier.provenance import contract
from atelier.provenance.contract import LOCK, Answer, Job, Jobs
from atelier.provenance.facts import FORMAT, ModelFacts, Provenance
from flows.records.networks import Networks, Wanted
from flows.repaint import past_code
from flows.repaint.destination import Shelf
from flows.repaint.past_code import Code
from flows.repaint.picture import Changes
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child

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


Say = Callable[[str], None]

MURALS = Path(".atelier/reproduce/murals")  # what is painted of them, until a command has come to its end

UNANSWERED = "the painting process gave no reason"


@dataclass(frozen=True, slots=True)
class Studio:
    """What all sittings share. `place` is a folder for what is painted until it is judged."""

    root: Path
    place: Path
    networks: Networks
    shelf: Shelf
    changes: Changes
    device: str
    say: Say


def job(studio: Studio, name: str, made: Provenance, code: Code | None) -> Job:
    """A picture to be painted. Raises AtelierError where one of its networks is nowhere."""
    upscaler = wanted_upscaler(made)
    return Job(
        name=name,
        # without what later formats have added: earlier code knows no such keys
        provenance=made.model_dump(mode="json", exclude_unset=True),
        generator=studio.networks.path(wanted_generator(made.model)),
        upscaler=studio.networks.path(upscaler) if upscaler else None,
        to=place(studio, name, code),
        kept=studio.root / MURALS,
    )


def forget_murals(root: Path) -> None:
    """Remove what is painted of murals, but for those that another process is at."""
    for folder in (root / MURALS).glob("*/"):
        with contextlib.suppress(Timeout), FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder)


def painter(studio: Studio, jobs: Sequence[Job], code: Code | None) -> Painter:
    """The process that paints them with this code; None is the present one."""
    folder = past_code.lay_out(studio.root, code) if code else None
    return Painter(jobs, studio.device, studio.place, folder)


def paint(studio: Studio, jobs: Sequence[Job], code: Code | None) -> Iterator[Answer]:
    """An answer a job. Raises AtelierError where the process fails."""
    with painter(studio, jobs, code) as process:
        yield from process.answers(studio.say)


def place(studio: Studio, name: str, code: Code | None) -> Path:
    """Numpy's file of a picture that was painted."""
    return studio.place / f"{name}-{code.tree[:12] if code else 'present'}.npy"


def painted(path: Path) -> Samples:
    """Its pixels, mapped."""
    pixels: Samples = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels


def by(answer: Answer, made: Provenance) -> Provenance:
    """What a picture says of itself that was painted now, as `made` says."""
    new: dict[str, Any] = {"software": answer.software, "pixels": None, "format": FORMAT}
    return made.model_copy(update=new)


def wanted_generator(model: ModelFacts) -> Wanted:
    """The file of the model that a picture names."""
    return Wanted("generator", model.sha256, model.md5)


def wanted_upscaler(made: Provenance) -> Wanted | None:
    """The file of the network that a print was enlarged by; None where there was none."""
    facts = made.print.upscale if made.print else None
    if facts is None or facts.upscaler_sha256 is None:
        return None
    kind = "external network" if facts.method == "external" else "upscaler"
    return Wanted(kind, facts.upscaler_sha256, facts.upscaler_md5)
