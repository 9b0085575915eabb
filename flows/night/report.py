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
from atelier.page.parts import Table, write_report_page
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


def describe_harvest(
    catalogued: int, arrived: int, train: int, held_out: int, champion_train: int | None, incomplete: Sequence[str]
) -> str:
    """Say what the source gave: works in the catalog, pictures downloaded, paintings to train on and held out.

    `champion_train` is the number of paintings that the champion was trained on, None without a champion;
    `incomplete` says why the catalog lacks works that the source has.
    """
    before = f" ({champion_train:,} for the champion)" if champion_train is not None else ""
    why = f" The catalog is incomplete: {'; '.join(incomplete)}." if incomplete else ""
    return (
        f"{counted(catalogued, 'work')} in the catalog, {counted(arrived, 'picture')} arrived; "
        f"{counted(train, 'painting')} to train on{before}, {held_out:,} held out.{why}"
    )


CODE_COLUMNS = ((), (0, 1, 2), (1,))  # of the report's tables: keys, values, paths and commands


@dataclass(frozen=True, slots=True)
class Report:
    """The contents of a night's report; `places` maps a description to a path, commit or command."""

    night: date
    outcome: Outcome
    message: str
    base: str
    harvest: str
    changes: Sequence[Change]
    champion: str | None
    comparison: Comparison | None
    places: Mapping[str, str]
    uncommitted: Sequence[str]

    def markdown(self) -> str:
        """Return the report in Markdown."""
        text = [f"# {self.title}", self.message, *self._remarks()]
        for table, code in zip(self._tables(), CODE_COLUMNS, strict=True):
            rows = [[f"`{cell}`" if column in code else cell for column, cell in enumerate(row)] for row in table.rows]
            if rows:
                text += [f"## {table.caption}", _table(table.head, rows)]
        return "\n\n".join(text) + "\n"

    def write_page(self, path: Path, sheet: str | None) -> None:
        """Write the report as an HTML page. `sheet` is the picture of both models' pictures, relative to the page."""
        remarks = [remark.replace("`", "") for remark in self._remarks()]
        write_report_page(path, self.title, [self.message, *remarks], self._tables(), sheet)

    @property
    def title(self) -> str:
        return f"{self.outcome}, night of {self.night.isoformat()}"

    def _tables(self) -> list[Table]:
        gains = self.comparison.gains if self.comparison else {}
        distances = [
            (name, f"{gain.champion:.4g}", f"{gain.challenger:.4g}", f"{gain.low:.3g} to {gain.high:.3g}", gain.verdict)
            for name, gain in gains.items()
        ]
        compared = ("distance", f"champion {self.champion}", "challenger", "gain", "verdict")
        changes = [(change.key, str(change.before), str(change.after)) for change in self.changes]
        return [
            Table("Champion and challenger", compared, distances),
            Table("Settings", ("params.yaml", f"commit {self.base[:10]}", "this night"), changes),
            Table("Where it is", ("what", "where"), [*self.places.items()]),
        ]

    def _remarks(self) -> list[str]:
        gains = (
            "Distances to the held-out paintings; smaller is better. `kid` measures detail and grain, `kid_coarse` "
            "forms and colours. The gain is an interval: better or worse means that 0 lies outside it."
        )
        names = ", ".join(f"`{name}`" for name in self.uncommitted)
        left_out = f"Not committed, so no part of this night: {names}."
        return [*([gains] if self.comparison else []), self.harvest, *([left_out] if names else [])]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
