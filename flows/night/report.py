"""A night's result as data and as text: its date and outcome, the contest's verdict, the report.

The command that holds two models against each other, with what params.yaml says of judging.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self

from atelier.files import write_json
from atelier.settings.edit import Change
from atelier.settings.messages import counted
from atelier.settings.schema import Params

LAST = Path(".atelier/last_night.json")  # in the user's tree: what the last finished night came to

DISTANCES = ("kid", "kid_coarse")  # the contest's, as atelier.metrics.bootstrap names them

Outcome = Literal["Promoted", "Kept", "Nothing new"]


@dataclass(frozen=True, slots=True)
class Night:
    """A finished night. `started` says when it really began, whatever it had been scheduled for."""

    night: date
    outcome: Outcome
    message: str
    started: datetime

    @classmethod
    def last(cls, user: Path) -> Self | None:
        """The last one of the studio at `user`, None before the first."""
        try:
            told = json.loads((user / LAST).read_text())
            return cls(
                date.fromisoformat(told["night"]),
                told["outcome"],
                told["message"],
                datetime.fromisoformat(told["started"]),
            )
        except (OSError, ValueError, KeyError, TypeError):  # absent, or another version's
            return None

    def write(self, user: Path) -> None:
        """Be the last one of the studio at `user`."""
        told = asdict(self) | {"night": self.night.isoformat(), "started": self.started.isoformat()}
        write_json(user / LAST, told)


@dataclass(frozen=True, slots=True)
class Gain:
    """One distance of both models to the paintings, and the bootstrap interval of champion − challenger."""

    name: str
    champion: float
    challenger: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A contest's result, read from the file that `atelier.metrics.compare` writes."""

    wins: bool
    reason: str
    gains: tuple[Gain, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        told = json.loads(path.read_text(encoding="utf-8"))
        gains = (Gain(name, **told[name]) for name in DISTANCES)
        return cls(told["wins"], told["reason"], tuple(gains))

    @property
    def short(self) -> str:
        """For example `kid 11.7 -> 6.35 (better), kid_coarse 3.75 -> 3.6 (even)`."""
        return ", ".join(
            f"{gain.name} {gain.champion:.3g} -> {gain.challenger:.3g} ({gain.verdict})"
            for gain in self.gains
        )


@dataclass(frozen=True, slots=True)
class Harvest:
    """What the source gave: works in the catalog, pictures that arrived, paintings trained on and held out.

    `champion_train` is the number of paintings that the champion was trained on, None where there is none yet;
    `incomplete` says why the catalog lacks works that the source has.
    """

    catalogued: int
    arrived: int
    train: int
    held_out: int
    champion_train: int | None
    incomplete: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All that a night's page says."""

    night: date
    outcome: Outcome
    message: str
    base: str
    harvest: Harvest
    changes: Sequence[Change]
    champion: str | None
    verdict: Verdict | None
    where: Mapping[str, str]
    uncommitted: Sequence[str]

    def markdown(self) -> str:
        """The page."""
        return "\n\n".join(part for part in self._parts() if part) + "\n"

    def _parts(self) -> Sequence[str]:
        return (
            f"# {self.outcome}, night of {self.night.isoformat()}",
            self.message,
            self._contest(),
            self._harvest(),
            self._params(),
            _table(("what", "where"), [(what, f"`{where}`") for what, where in self.where.items()]),
        )

    def _contest(self) -> str:
        if self.verdict is None:
            return ""
        rows = [
            (
                gain.name,
                f"{gain.champion:.4g}",
                f"{gain.challenger:.4g}",
                f"{gain.low:.3g} to {gain.high:.3g}",
                gain.verdict,
            )
            for gain in self.verdict.gains
        ]
        head = ("distance", f"champion {self.champion}", "challenger", "gain", "verdict")
        words = (
            "Distances to the held-out paintings; smaller is better. `kid` sees detail and grain, `kid_coarse` "
            "forms and colours. The gain is an interval: better or worse means that 0 lies outside it."
        )
        return f"## Champion and challenger\n\n{_table(head, rows)}\n\n{words}"

    def _harvest(self) -> str:
        got = self.harvest
        before = f" ({got.champion_train:,} for the champion)" if got.champion_train is not None else ""
        incomplete = f" The catalog is incomplete: {'; '.join(got.incomplete)}." if got.incomplete else ""
        return (
            f"## Harvest\n\n{counted(got.catalogued, 'work')} in the catalog, "
            f"{counted(got.arrived, 'picture')} arrived; "
            f"{counted(got.train, 'painting')} to train on{before}, {got.held_out:,} held out.{incomplete}"
        )

    def _params(self) -> str:
        rows = [(f"`{change.key}`", f"`{change.before}`", f"`{change.after}`") for change in self.changes]
        table = _table(("params.yaml", f"commit {self.base[:10]}", "this night"), rows)
        if not self.uncommitted:
            return f"## Settings\n\n{table}"
        names = ", ".join(f"`{name}`" for name in self.uncommitted)
        return f"## Settings\n\n{table}\n\nNot committed, so no part of this night: {names}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def command(champion: Path, challenger: Path, params: Params, *, sheet: Path | None = None) -> list[str]:
    """`python -m atelier.metrics.compare …`: a process of its own, since it needs torch and a flow does not."""
    judge = params.evaluate
    words = [sys.executable, "-m", "atelier.metrics.compare", str(champion), str(challenger)]
    words += [f"--samples={judge.samples}", f"--seed={judge.seed}", f"--device={judge.device}"]
    words += [f"--confidence={params.nightly.gate}"]
    return [*words, f"--sheet={sheet}"] if sheet else words
