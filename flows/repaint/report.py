"""Print the verdicts on pictures as they come, as text or JSON, and a summary at the end."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.table import Table

from atelier.errors import counted
from atelier.text import escaped
from flows.repaint.picture import Picture
from flows.repaint.session import Outcome
from flows.repaint.variations import Variations

TABLE_FROM = 10  # pictures, from which on a table counts them by model, code and verdict


class Report:
    """The verdicts on `files`, each printed when it is added: one line, or one JSON object with `as_json`."""

    def __init__(self, as_json: bool, files: Collection[str]) -> None:
        self._as_json = as_json
        self._without_verdict = set(files)
        self._rows: list[dict[str, Any]] = []
        self._all_written = True

    @property
    def all_well(self) -> bool:
        """Whether every file has a verdict, each was reproduced, and everything to be written was written."""
        reproduced = all(row["reproduced"] for row in self._rows)
        return self._all_written and not self._without_verdict and reproduced

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the table on the run's Prefect page."""
        return [
            {
                "picture": row["file"],
                "verdict": row["verdict"],
                "model": row["model"] or "",
                "said": row["said"],
            }
            for row in self._rows
        ]

    def add_refusal(self, name: str, reason: str) -> None:
        """Add a file that cannot be painted again."""
        self._add(name, _row(escaped(name), "refused", reason), reason)

    def refuse_rest(self, reason: str) -> None:
        """Add every file that has no verdict yet, with the reason why painting ended before it."""
        for name in sorted(self._without_verdict):
            self.add_refusal(name, f"{escaped(name)}: no verdict: {reason}")

    def add(self, outcome: Outcome) -> None:
        """Add the verdict on a picture that was painted again."""
        picture, verdict = outcome.picture, outcome.verdict
        words = [verdict.words] if verdict.words else []
        if outcome.code:
            words.append(f"with {outcome.code}")
        if picture.from_ledger:
            words.append("the file carries no provenance; the ledger knows its pixels")
        if outcome.written:
            what = "painted again" if verdict.reproduced else "as its recipe paints it"
            words.append(f"{what}: {', '.join(map(str, outcome.written))}")
        if outcome.write_error:
            words.append(outcome.write_error)
            self._all_written = False
        said = "; ".join(words)
        row = _row(escaped(picture.name), verdict.kind, said) | {
            "reproduced": verdict.reproduced,
            "model": picture.provenance.model.md5,
            "code": outcome.code.commit.id if outcome.code else None,
            "written": list(map(str, outcome.written)),
        }
        if difference := verdict.difference:
            row |= {
                "values": difference.values,
                "differing": difference.differing,
                "largest": round(difference.largest, 6),
            }
        self._add(picture.name, row, f"{row['file']}: {verdict.kind}{f', {said}' if said else ''}")

    def add_variations(self, variations: Variations) -> None:
        """Add the variations that were painted of a picture."""
        name, paths = escaped(variations.picture.name), list(map(str, variations.written))
        self._all_written = self._all_written and not variations.error
        words = [f"makes {', '.join(paths)}"] if paths else []
        words += [variations.error] if variations.error else []
        row = {"file": name, "relatives": paths, "refused": variations.error}
        print(json.dumps(row) if self._as_json else f"{name}: {'; '.join(words)}", flush=True)

    def add_lineage(self, picture: Picture, lineage: str) -> None:
        """Print the lineage of a picture, a text of several lines."""
        name = escaped(picture.name)
        print(json.dumps({"file": name, "lineage": lineage}) if self._as_json else f"\n{name}\n{lineage}")

    def print_summary(self) -> None:
        """Print how many pictures have which verdict, and a table by model if there are many."""
        if self._as_json or len(self._rows) < 2:
            return
        if len(self._rows) >= TABLE_FROM:
            table = Table("model", "code", "verdict", "pictures")
            table.columns[3].justify = "right"
            kinds = Counter(
                ((row["model"] or "")[:8], (row["code"] or "present")[:7], row["verdict"]) for row in self._rows
            )
            for kind, count in sorted(kinds.items()):
                table.add_row(*kind, f"{count:,}")
            Console().print(table, markup=False)
        counts = Counter(row["verdict"] for row in self._rows)
        verdicts = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        print(f"{counted(len(self._rows), 'picture')}: {verdicts}")

    def _add(self, name: str, row: dict[str, Any], line: str) -> None:
        self._without_verdict.discard(name)
        self._rows.append(row)
        print(json.dumps(row) if self._as_json else escaped(line), flush=True)


def _row(name: str, verdict: str, said: str) -> dict[str, Any]:
    return {
        "file": name, "verdict": verdict, "reproduced": False, "said": said, "model": None, "code": None, "written": [],
    }  # fmt: skip
