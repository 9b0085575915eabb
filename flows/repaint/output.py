"""What is told of pictures that were asked for again: a line each as it is known, or JSON, and a sum at the end."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.table import Table

from atelier.pictures.untrusted import escaped
from atelier.settings.messages import counted
from flows.repaint.picture import Given
from flows.repaint.session import Outcome
from flows.repaint.variations import Family

MANY = 10  # pictures of which a table gives the sums


class Account:
    """The verdicts on `files`, printed as they come: a line each, or a JSON object each.

    `all_well` is true once every file has a verdict, each is reproduced, and all that was to be written is written.
    """

    def __init__(self, as_json: bool, files: Collection[str]) -> None:
        self._as_json = as_json
        self._without_verdict = set(files)
        self._told: list[dict[str, Any]] = []
        self._all_written = True

    @property
    def all_well(self) -> bool:
        return (
            self._all_written and not self._without_verdict and all(row["reproduced"] for row in self._told)
        )

    @property
    def refused(self) -> int:
        """The number of files that could not be painted again."""
        return sum(row["verdict"] == "refused" for row in self._told)

    @property
    def rows(self) -> list[dict[str, str]]:
        """For Prefect's page."""
        return [
            {
                "picture": row["file"],
                "verdict": row["verdict"],
                "model": row["model"] or "",
                "said": row["said"],
            }
            for row in self._told
        ]

    def refuse(self, name: str, sentence: str) -> None:
        """Record that a file cannot be painted again, and why."""
        self._tell(name, _row(escaped(name), "refused", sentence), sentence)

    def give_up(self, why: str) -> None:
        """Refuse every file that has no verdict yet: the flow ended without one."""
        for name in sorted(self._without_verdict):
            self.refuse(name, f"{escaped(name)}: no verdict: {why}")

    def tell(self, outcome: Outcome) -> None:
        given, verdict = outcome.given, outcome.verdict
        words = [verdict.words] if verdict.words else []
        if outcome.code:
            words.append(f"with {outcome.code}")
        if given.from_ledger:
            words.append("it says nothing of itself: the ledger knows its pixels")
        if outcome.written:
            what = "painted again" if verdict.reproduced else "as its recipe paints it"
            words.append(f"{what}: {', '.join(map(str, outcome.written))}")
        if outcome.unwritten:
            words.append(outcome.unwritten)
            self._all_written = False
        row = _row(escaped(given.name), verdict.kind, "; ".join(words))
        row |= {
            "reproduced": verdict.reproduced,
            "model": given.made.model.md5,
            "code": outcome.code.commit.id if outcome.code else None,
            "written": list(map(str, outcome.written)),
        }
        if likeness := verdict.likeness:
            row |= {
                "values": likeness.values,
                "differing": likeness.differing,
                "largest": round(likeness.largest, 6),
            }
        said = "; ".join(words)
        self._tell(given.name, row, f"{row['file']}: {verdict.kind}{f', {said}' if said else ''}")

    def introduce(self, family: Family) -> None:
        """What was made of a picture."""
        name, paths = escaped(family.given.name), list(map(str, family.written))
        self._all_written = self._all_written and not family.refused
        words = [f"makes {', '.join(paths)}"] if paths else []
        words += [family.refused] if family.refused else []
        row = {"file": name, "relatives": paths, "refused": family.refused}
        print(json.dumps(row) if self._as_json else f"{name}: {'; '.join(words)}", flush=True)

    def explain(self, given: Given, lineage: str) -> None:
        """Where a picture comes from, in lines."""
        name = escaped(given.name)
        print(json.dumps({"file": name, "lineage": lineage}) if self._as_json else f"\n{name}\n{lineage}")

    def sum_up(self) -> None:
        """How many of which verdict; a table by model where there are many."""
        if self._as_json or len(self._told) < 2:
            return
        if len(self._told) >= MANY:
            table = Table("model", "code", "verdict", "pictures")
            table.columns[3].justify = "right"
            kinds = Counter(
                ((row["model"] or "")[:8], (row["code"] or "present")[:7], row["verdict"])
                for row in self._told
            )
            for kind, count in sorted(kinds.items()):
                table.add_row(*kind, f"{count:,}")
            Console().print(table, markup=False)
        counts = Counter(row["verdict"] for row in self._told)
        print(
            f"{counted(len(self._told), 'picture')}: {', '.join(f'{count:,} {kind}' for kind, count in counts.items())}"
        )

    def _tell(self, name: str, row: dict[str, Any], line: str) -> None:
        self._without_verdict.discard(name)
        self._told.append(row)
        print(json.dumps(row) if self._as_json else escaped(line), flush=True)


def _row(name: str, verdict: str, said: str) -> dict[str, Any]:
    return {
        "file": name, "verdict": verdict, "reproduced": False, "said": said, "model": None, "code": None, "written": [],
    }  # fmt: skip
