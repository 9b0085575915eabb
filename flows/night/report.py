"""A night's result: its record on disk, the comparison of two models, and the report in Markdown."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self

from atelier.errors import counted
from atelier.files import write_json
from atelier.metrics.comparison import Comparison
from atelier.paths import LAST_NIGHT
from atelier.settings.edit import Change
from atelier.settings.schema import Params

Outcome = Literal["Promoted", "Kept", "Nothing new"]


@dataclass(frozen=True, slots=True)
class Night:
    """A finished night. `started` is when it really began, which may be later than scheduled."""

    night: date
    outcome: Outcome
    message: str
    started: datetime

    @classmethod
    def last(cls, user: Path) -> Self | None:
        """Read the most recent night of the studio at `user`; None before the first."""
        try:
            record = json.loads((user / LAST_NIGHT).read_text())
            night, started = date.fromisoformat(record["night"]), datetime.fromisoformat(record["started"])
            return cls(night, record["outcome"], record["message"], started)
        except (OSError, ValueError, KeyError, TypeError):  # missing, or of another version
            return None

    def write(self, user: Path) -> None:
        """Record this as the most recent night of the studio at `user`."""
        record = asdict(self) | {"night": self.night.isoformat(), "started": self.started.isoformat()}
        write_json(user / LAST_NIGHT, record)


def compare_command(champion: Path, challenger: Path, params: Params, *, sheet: Path | None = None) -> list[str]:
    """Return the command line of atelier.metrics.compare for two generators, with the settings of params.yaml.

    `sheet` is a PNG file to write. The comparison runs in a child process because it loads torch.
    """
    evaluate = params.evaluate
    command = [sys.executable, "-m", "atelier.metrics.compare", str(champion), str(challenger)]
    command += [f"--samples={evaluate.samples}", f"--seed={evaluate.seed}", f"--device={evaluate.device}"]
    command += [f"--confidence={params.nightly.gate}"]
    return [*command, f"--sheet={sheet}"] if sheet else command


@dataclass(frozen=True, slots=True)
class Harvest:
    """What the source gave: works in the catalog, pictures downloaded, paintings to train on and held out.

    `champion_train` is the number of paintings that the champion was trained on, None without a champion;
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
    """The contents of a night's report; `places` maps a description to a path, commit or command."""

    night: date
    outcome: Outcome
    message: str
    base: str
    harvest: Harvest
    changes: Sequence[Change]
    champion: str | None
    comparison: Comparison | None
    places: Mapping[str, str]
    uncommitted: Sequence[str]

    def markdown(self) -> str:
        """Return the report in Markdown."""
        places = [(what, f"`{place}`") for what, place in self.places.items()]
        sections = (
            f"# {self.outcome}, night of {self.night.isoformat()}", self.message, self._comparison(), self._harvest(),
            self._params(), _table(("what", "where"), places),
        )  # fmt: skip
        return "\n\n".join(section for section in sections if section) + "\n"

    def _comparison(self) -> str:
        if self.comparison is None:
            return ""
        rows = [
            (name, f"{gain.champion:.4g}", f"{gain.challenger:.4g}", f"{gain.low:.3g} to {gain.high:.3g}", gain.verdict)
            for name, gain in self.comparison.gains.items()
        ]
        head = ("distance", f"champion {self.champion}", "challenger", "gain", "verdict")
        text = (
            "Distances to the held-out paintings; smaller is better. `kid` measures detail and grain, `kid_coarse` "
            "forms and colours. The gain is an interval: better or worse means that 0 lies outside it."
        )
        return f"## Champion and challenger\n\n{_table(head, rows)}\n\n{text}"

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
        names = ", ".join(f"`{name}`" for name in self.uncommitted)
        return f"## Settings\n\n{table}" + (f"\n\nNot committed, so no part of this night: {names}." if names else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
