"""Jobs for a painting process: what it is asked to paint, starting it, and reading its answers.

A painting process runs `python -m atelier.provenance.repaint`, with the present code or with earlier code from git.
A picture's provenance is passed to it unchanged; only the paths of the networks' files are added, found by digest.
"""

import contextlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.paths import REPRODUCE
from atelier.provenance.facts import FORMAT, MURAL_LOCK, REPAINT_MODULE, Answer, Job, Jobs, ModelFacts, Provenance
from flows.records.history import NetworkKey, Networks
from flows.repaint import past_code
from flows.repaint.past_code import Code
from flows.repaint.picture import OutputFolder
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child

Log = Callable[[str], None]

MURALS = REPRODUCE / "murals"  # partly painted murals, removed when a command ends
KEPT_LINES = 20  # last lines of a painting process's output, searched for the reason of a failure
NO_REASON = "the painting process gave no reason"


@dataclass(frozen=True, slots=True)
class Workspace:
    """What all jobs of a command share. `scratch` is a folder for painted arrays until they are compared."""

    root: Path
    scratch: Path
    networks: Networks
    output: OutputFolder
    device: str
    log: Log

    def job(self, name: str, provenance: Provenance, code: Code | None) -> Job:
        """The job that paints a picture. Raises AtelierError if one of its networks was not found."""
        upscaler = upscaler_key(provenance)
        return Job(
            name=name,
            # only the keys that are set: earlier code rejects keys that later formats added
            provenance=provenance.model_dump(mode="json", exclude_unset=True),
            generator=self.networks.path(generator_key(provenance.model)),
            upscaler=self.networks.path(upscaler) if upscaler else None,
            to=self.array_path(name, code),
            kept=self.root / MURALS,
        )

    def array_path(self, name: str, code: Code | None) -> Path:
        """The .npy file into which a job's picture is painted."""
        return self.scratch / f"{name}-{code.tree[:12] if code else 'present'}.npy"


class PaintingProcess(Child):
    """A process that works on jobs, with this code; None is the present code. Leaving the `with` block ends it."""

    def __init__(self, workspace: Workspace, jobs: Sequence[Job], code: Code | None) -> None:
        path = workspace.scratch / "jobs.json"
        write_bytes(path, Jobs(device=workspace.device, jobs=list(jobs)).model_dump_json().encode())
        environment = work_tree.environment()
        folder = past_code.extract(workspace.root, code) if code else None
        if folder is not None:  # first on the path, before any installed atelier
            paths = (str(folder), environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        super().__init__([sys.executable, "-m", REPAINT_MODULE, str(path)], environment, folder)

    def answers(self, log: Log) -> Iterator[Answer]:
        """Yield each job's answer when it is done; log other lines. Raises AtelierError if the process fails."""
        last: deque[str] = deque(maxlen=KEPT_LINES)
        for line in self.lines(TICK_S):
            if not line:
                continue
            try:
                answer = Answer.model_validate_json(line)
            except ValidationError:
                last.append(line)
                log(line)
            else:
                yield answer
        if status := self.wait():
            raise AtelierError(_reason(status, last))


def remove_murals(root: Path) -> None:
    """Remove partly painted murals, except those on which another process is working."""
    for folder in (root / MURALS).glob("*/"):
        with contextlib.suppress(Timeout), FileLock(folder / MURAL_LOCK, timeout=0):
            shutil.rmtree(folder)


def painted_now(provenance: Provenance, answer: Answer) -> Provenance:
    """The provenance of a picture that was painted now, after the recipe in `provenance`."""
    return provenance.model_copy(update={"software": answer.software, "pixels": None, "format": FORMAT})


def network_keys(provenance: Provenance) -> set[NetworkKey]:
    """The networks that are needed to paint a picture."""
    upscaler = upscaler_key(provenance)
    return {generator_key(provenance.model), *([upscaler] if upscaler else [])}


def generator_key(model: ModelFacts) -> NetworkKey:
    """The generator's file, by its digests."""
    return NetworkKey("generator", model.sha256, model.md5)


def upscaler_key(provenance: Provenance) -> NetworkKey | None:
    """The file of the network that enlarged a print; None if no network did."""
    facts = provenance.print.upscale if provenance.print else None
    if facts is None or facts.upscaler_sha256 is None:
        return None
    kind = "external network" if facts.method == "external" else "upscaler"
    return NetworkKey(kind, facts.upscaler_sha256, facts.upscaler_md5)


def _reason(status: int, lines: Sequence[str]) -> str:
    if status < 0:
        memory = "; if you did not send it, the machine ran out of memory" if status == -9 else ""
        return f"the painting process was killed by signal {-status}{memory}"
    last = next((line for line in reversed(lines) if line.strip()), f"it ended with exit code {status}")
    if any(line.startswith("Traceback") for line in lines):
        return f"a mistake in the painting code: {last}"
    return last
