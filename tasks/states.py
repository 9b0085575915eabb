"""Resumable states in `.atelier/<stage>/<key>`: which one a stage goes on from, why not another, and what is kept.

The key is a hash of everything that decides the bytes of the result, which `inputs.json` in the directory lists.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from atelier.files import size_bytes, write_json
from tasks.inputs import NAMED
from tasks.stage import FINISHED, Stage

INPUTS = "inputs.json"
TORCH = "torch"
MOST_UNFINISHED = 2  # trainings of other settings that were not finished and are kept, the last ones
Facts = Mapping[str, Any]


def key_of(facts: Facts) -> str:
    """16 hex digits that change with any of these JSON-able facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def facts_of(stage: Stage, settings: Facts) -> dict[str, Any]:
    """`settings`, with the code that decides the stage's bytes (as dvc.yaml lists it) and torch's version.

    A patch release of torch is no other version: it may round differently, and a state of days is worth more.
    """
    return {**settings, **stage.code, TORCH: _minor(torch.__version__)}


@dataclass(frozen=True)
class States:
    """The directory of the states of one training, `.atelier/<stage>/<key>`, among those of others."""

    directory: Path
    facts: Facts

    @classmethod
    def of(cls, stage: Stage, settings: Facts) -> Self:
        """Those of a training with `settings`, by names that a person knows, and the present code."""
        facts = facts_of(stage, settings)
        return cls(stage.state_of(key_of(facts)), facts)

    @classmethod
    def latest(cls, stage: Stage) -> Self:
        """Those of the training that began last, perhaps in another process."""
        directory = max(stage.state.glob(f"*/{INPUTS}"), key=lambda path: path.stat().st_mtime_ns).parent
        return cls(directory, _read(directory).get("facts", {}))

    def begin(self) -> None:
        """Write down what the states are made with."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / FINISHED).unlink(missing_ok=True)
        if _read(self.directory):
            (self.directory / INPUTS).touch()
        else:
            write_json(self.directory / INPUTS, {"facts": self.facts, TORCH: torch.__version__})

    def another_torch(self) -> str:
        """A sentence where the states were begun with another patch release of torch; else empty."""
        began = _read(self.directory).get(TORCH, torch.__version__)
        if began == torch.__version__:
            return ""
        return f"begun with torch {began}, goes on with {torch.__version__}: the result may be rounded differently"

    def not_taken(self) -> str:
        """Why the training most like this one, which was not finished, is not gone on with, and where it lies.

        Empty where there is none.
        """
        others = {other: self._differences(_read(other)) for other in self._unfinished()}
        if not others:
            return ""
        other, differences = min(others.items(), key=lambda item: len(item[1]))
        shown = "; ".join(differences[:NAMED])
        more = f"; and {len(differences) - NAMED:,} more" if len(differences) > NAMED else ""
        return f"a training that was not finished lies in {other} and is not gone on with: {shown}{more}"

    def finish(self) -> str:
        """Mark this training as finished and remove what is of no more use; a sentence about that, or empty.

        Of other trainings that is: what was finished (DVC has the result), what other code or another torch began,
        which no setting brings back, and all but the last few that were stopped.
        """
        (self.directory / FINISHED).touch()
        kept = [other for other in self._unfinished() if self._same_code(_read(other))][:MOST_UNFINISHED]
        gone = [other for other in self._others() if other not in kept]
        freed = sum(size_bytes(other) for other in gone)
        for other in gone:
            shutil.rmtree(other)
        if not gone:
            return ""
        count = "another training" if len(gone) == 1 else f"{len(gone):,} other trainings"
        return f"removed the states of {count} from {self.directory.parent}, {freed / 1e6:,.1f} MB"

    def _others(self) -> list[Path]:
        return [
            other for other in self.directory.parent.iterdir() if other != self.directory and other.is_dir()
        ]

    def _unfinished(self) -> list[Path]:
        """The other trainings that were not finished, the one at work last first."""
        found = [
            other
            for other in self._others()
            if not (other / FINISHED).exists() and any(other.glob("state*.safetensors"))
        ]
        return sorted(found, key=_last_write_ns, reverse=True)

    def _same_code(self, inputs: Facts) -> bool:
        theirs = inputs.get("facts", {})
        return {*_code(theirs)} == {*_code(self.facts)} and theirs.get(TORCH) == self.facts[TORCH]

    def _differences(self, inputs: Facts) -> list[str]:
        theirs = inputs.get("facts")
        if theirs is None:
            return ["it was made by another version of Atelier"]
        return [
            _difference(name, theirs.get(name), self.facts.get(name))
            for name in sorted(self.facts.keys() | theirs.keys())
            if theirs.get(name) != self.facts.get(name)
        ]


def _code(facts: Facts) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in facts.items() if name.endswith(".py"))


def _difference(name: str, theirs: Any, ours: Any) -> str:
    if name.endswith(".py") or name.startswith("data/"):
        return f"{name} has changed since"
    return f"{name} was {_shown(theirs)} and is {_shown(ours)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_write_ns(directory: Path) -> int:
    return max(path.stat().st_mtime_ns for path in directory.glob("state*.safetensors"))


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
