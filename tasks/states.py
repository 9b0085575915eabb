"""The folders of resumable training states, `.atelier/<stage>/<key>`: which is resumed, and which are deleted.

The key is a hash of all facts that decide the bytes of the result; `inputs.json` in the folder lists them.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from atelier.files import size_bytes, write_json
from tasks.stage import FINISHED, MAX_NAMED, Stage

INPUTS = "inputs.json"
TORCH = "torch"
MAX_UNFINISHED = 2  # unfinished trainings with other settings that are kept, the latest ones
Facts = Mapping[str, Any]


def key_of(facts: Facts) -> str:
    """Return 16 hex digits that identify these facts, which JSON can represent."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def facts_of(stage: Stage, settings: Facts) -> dict[str, Any]:
    """Return `settings`, the digests of the stage's code and torch's version without the patch number.

    A patch release of torch may round differently, but that is better than to lose a training of days.
    """
    version = torch.__version__.split("+")[0].split(".")
    return {**settings, **stage.code, TORCH: ".".join(version[:2])}


@dataclass(frozen=True)
class States:
    """The folder of one training's states, `.atelier/<stage>/<key>`; other trainings' folders are beside it."""

    directory: Path
    facts: Facts

    @classmethod
    def of(cls, stage: Stage, settings: Facts) -> Self:
        """Return the states of a training with `settings`, by their names in params.yaml, and the present code."""
        facts = facts_of(stage, settings)
        return cls(stage.state_of(key_of(facts)), facts)

    @classmethod
    def latest(cls, stage: Stage) -> Self:
        """Return the states of the training that began last, perhaps in another process."""
        directory = max(stage.state.glob(f"*/{INPUTS}"), key=lambda path: path.stat().st_mtime_ns).parent
        return cls(directory, _read(directory).get("facts", {}))

    def begin(self) -> None:
        """Create the folder and record the facts of this training in it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / FINISHED).unlink(missing_ok=True)
        if _read(self.directory):
            (self.directory / INPUTS).touch()
        else:
            write_json(self.directory / INPUTS, {"facts": self.facts, TORCH: torch.__version__})

    def print_resumed(self, stage: str, resumed: bool, place: str) -> None:
        """Print the place that a training goes on from, or why it begins anew although there are states."""
        if resumed:
            print(f"{stage}: goes on from {place} ({self.directory})")
            if said := self.another_torch():
                print(f"{stage}: {said}")
        elif said := self.not_taken():
            print(f"{stage}: begins anew; {said}")

    def another_torch(self) -> str:
        """Return a sentence if the training began with another patch release of torch, else an empty text."""
        began = _read(self.directory).get(TORCH, torch.__version__)
        if began == torch.__version__:
            return ""
        return f"begun with torch {began}, goes on with {torch.__version__}: the result may be rounded differently"

    def not_taken(self) -> str:
        """Say why the most similar unfinished training is not resumed and where it is; empty if there is none."""
        others = {other: self._differences(_read(other)) for other in self._unfinished()}
        if not others:
            return ""
        other, differences = min(others.items(), key=lambda item: len(item[1]))
        shown = "; ".join(differences[:MAX_NAMED])
        more = f"; and {len(differences) - MAX_NAMED:,} more" if len(differences) > MAX_NAMED else ""
        return f"an unfinished training in {other} is not resumed: {shown}{more}"

    def finish(self, stage: str) -> None:
        """Mark this training as finished, delete states of others and print a line about that.

        Deleted are finished trainings, whose results DVC has, unfinished ones with other code or another torch, which
        no setting resumes, and all but the latest MAX_UNFINISHED of the rest.
        """
        (self.directory / FINISHED).touch()
        ours = _code(self.facts)
        kept = [other for other in self._unfinished() if _code(_read(other).get("facts", {})) == ours][:MAX_UNFINISHED]
        gone = [other for other in self._others() if other not in kept]
        freed = sum(size_bytes(other) for other in gone)
        for other in gone:
            shutil.rmtree(other)
        if gone:
            count = "another training" if len(gone) == 1 else f"{len(gone):,} other trainings"
            print(f"{stage}: removed the states of {count} from {self.directory.parent}, {freed / 1e6:,.1f} MB")

    def _others(self) -> list[Path]:
        return [other for other in self.directory.parent.iterdir() if other != self.directory and other.is_dir()]

    def _unfinished(self) -> list[Path]:
        """Return the folders of other unfinished trainings, the latest first."""
        written_ns = {}
        for other in self._others():
            states = [path.stat().st_mtime_ns for path in other.glob("state*.safetensors")]
            if states and not (other / FINISHED).exists():
                written_ns[other] = max(states)
        return sorted(written_ns, key=written_ns.__getitem__, reverse=True)

    def _differences(self, inputs: Facts) -> list[str]:
        theirs = inputs.get("facts")
        if theirs is None:
            return ["it was made by another version of Atelier"]
        return [
            _difference(name, theirs.get(name), self.facts.get(name))
            for name in sorted(self.facts.keys() | theirs.keys())
            if theirs.get(name) != self.facts.get(name)
        ]


def _code(facts: Facts) -> Facts:
    """The digests of the code, and torch's version."""
    return {name: value for name, value in facts.items() if name.endswith(".py") or name == TORCH}


def _difference(name: str, theirs: Any, ours: Any) -> str:
    if name.endswith(".py") or name.startswith("data/"):
        return f"{name} has changed since"
    before, now = (value if isinstance(value, str) else json.dumps(value) for value in (theirs, ours))
    return f"{name} was {before} and is {now}"


def _read(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
