"""The verdict on a picture that was painted again, and the report that prints the verdicts as they come.

A verdict is identical, within 1/255, different, edited (the file was changed after it was made), damaged (its pixels
cannot be decoded), or refused (it could not be painted again).
"""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atelier.errors import counted
from atelier.pictures import Samples
from atelier.pictures.compare import PixelDifference, compare_pixels
from atelier.provenance.facts import Answer, PixelFacts
from atelier.text import escaped
from flows.repaint.job import Code
from flows.repaint.picture import Picture

Kind = Literal["identical", "within 1/255", "different", "edited", "damaged", "refused"]

ROUNDING = 1.0  # of 255: the largest difference that other hardware or another torch may come to
TABLE_FROM = 10  # pictures, from which on a table counts them by model, code and verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one picture. `words` follow the kind in a message; `final`: no other code can do better."""

    kind: Kind
    words: str
    final: bool = False
    difference: PixelDifference | None = None

    @property
    def reproduced(self) -> bool:
        return self.kind in ("identical", "within 1/255")

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """Smaller is better."""
        largest, differing = (self.difference.largest, self.difference.differing) if self.difference else (256.0, 0)
        return (not self.final, not self.reproduced, largest, differing)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A picture's verdict, the code that painted it (None: the present code), and the files written, or why not."""

    picture: Picture
    verdict: Verdict
    code: Code | None = None
    written: tuple[Path, ...] = ()
    write_error: str = ""


def judge(picture: Picture, answer: Answer, painted: Samples) -> Verdict:
    """Compare the painted pixels with the file's, and both with the digest that the provenance records."""
    own, recorded = picture.pixels, picture.recorded_pixels
    if answer.pixels == recorded:  # any difference was made in the file afterwards
        return _judge_file(picture, painted)
    versions = _differing_versions(picture, answer)
    step = _differing_step(picture, answer)
    others = f"its recipe paints other pixels than its provenance names{step}{versions}"
    if own is None:
        return Verdict("damaged", f"{picture.damage}; and {others}")
    if own == answer.pixels:
        words = "the pixels are what its recipe paints, but its provenance names others: that was edited"
        return Verdict("edited", words, final=True)
    if _size(own) != _size(answer.pixels):
        return Verdict("different", f"its recipe paints {_size(answer.pixels)}, and the picture has {_size(own)}")
    difference = compare_pixels(picture.bands(), painted)
    if own != recorded:
        differing = f"{_differing_pixels(difference)} from what is painted now"
        words = f"its pixels are not those that its provenance names ({differing}), and {others}"
        return Verdict("edited", words, difference=difference)
    counted_values = f"{difference.differing:,} of {difference.values:,} values differ"
    if difference.largest <= ROUNDING:
        return Verdict("within 1/255", f"{counted_values}{versions}", difference=difference)
    words = f"{counted_values}, by up to {difference.largest:.4g} of 255, in {difference.place}{step}{versions}"
    return Verdict("different", words, difference=difference)


def _judge_file(picture: Picture, painted: Samples) -> Verdict:
    own, recorded = picture.pixels, picture.recorded_pixels
    if own is None:
        return Verdict("damaged", picture.damage, final=True)
    if own == recorded:
        return Verdict("identical", "", final=True)
    if _size(own) != _size(recorded):
        words = f"edited after it was made: it has {_size(own)}, not {_size(recorded)}"
        return Verdict("edited", words, final=True)
    difference = compare_pixels(picture.bands(), painted)
    return Verdict("edited", f"edited after it was made: {_differing_pixels(difference)}", True, difference)


def _differing_pixels(difference: PixelDifference) -> str:
    return f"{difference.pixels:,} of {difference.values // 3:,} pixels differ, in {difference.place}"


def _differing_step(picture: Picture, answer: Answer) -> str:
    """For a print: whether the artwork or only its enlargement is painted differently."""
    facts = picture.provenance.print
    if facts is None or answer.original is None:
        return ""
    if answer.original == facts.original:
        return "; the artwork under the print is identical, its enlargement is not"
    return "; already the artwork under the print differs"


def _differing_versions(picture: Picture, answer: Answer) -> str:
    made, now = picture.provenance, answer.software
    then = made.print.upscale.software if made.print else made.software
    precision = made.software.precision
    pairs = (
        ("Atelier", then.atelier, now.atelier),
        ("torch", then.torch, now.torch),
        ("arithmetic in", precision, now.precision),
    )
    differing = [f"{name} {old}, painted again with {new}" for name, old, new in pairs if old != new]
    if differing:
        return f"; made with {'; '.join(differing)}"
    rounding = ", and in float32 hardware decides the last digits" if precision == "float32" else ""
    return f"; torch is {now.torch} as it was, so the hardware or the code is another{rounding}"


def _size(pixels: PixelFacts | None) -> str:
    return f"{pixels.width:,} × {pixels.height:,} px of {pixels.bits} bits" if pixels else "no pixels"


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
        columns = {"picture": "file", "verdict": "verdict", "model": "model", "said": "said"}
        return [{column: row[key] or "" for column, key in columns.items()} for row in self._rows]

    def add_refusal(self, name: str, reason: str) -> None:
        """Add a file that cannot be painted again."""
        self._add(name, "refused", reason, reason)

    def refuse_rest(self, reason: str) -> None:
        """Add every file that has no verdict yet, with the reason why painting ended before it."""
        for name in sorted(self._without_verdict):
            self.add_refusal(name, f"{escaped(name)}: no verdict: {reason}")

    def add(self, outcome: Outcome) -> None:
        """Add the verdict on a picture that was painted again."""
        picture, verdict, written = outcome.picture, outcome.verdict, list(map(str, outcome.written))
        words = [verdict.words] if verdict.words else []
        if outcome.code:
            words.append(f"with {outcome.code}")
        if picture.from_ledger:
            words.append("the file carries no provenance; the ledger has its pixels")
        if written:
            what = "painted again" if verdict.reproduced else "as its recipe paints it"
            words.append(f"{what}: {', '.join(written)}")
        if outcome.write_error:
            words.append(outcome.write_error)
            self._all_written = False
        facts: dict[str, Any] = {
            "reproduced": verdict.reproduced,
            "model": picture.provenance.model.md5,
            "code": outcome.code.commit.id if outcome.code else None,
            "written": written,
        }
        if found := verdict.difference:
            facts |= {"values": found.values, "differing": found.differing, "largest": round(found.largest, 6)}
        said = "; ".join(words)
        line = f"{escaped(picture.name)}: {verdict.kind}{f', {said}' if said else ''}"
        self._add(picture.name, verdict.kind, said, line, **facts)

    def add_variations(self, picture: Picture, written: Collection[Path], error: str) -> None:
        """Add the files that were written of a picture's variations, and why some are missing."""
        name, paths = escaped(picture.name), list(map(str, written))
        self._all_written = self._all_written and not error
        words = "; ".join(filter(None, (f"makes {', '.join(paths)}" if paths else "", error)))
        self._print({"file": name, "relatives": paths, "refused": error}, f"{name}: {words}")

    def add_lineage(self, picture: Picture, lineage: str) -> None:
        """Print the lineage of a picture, a text of several lines."""
        name = escaped(picture.name)
        self._print({"file": name, "lineage": lineage}, f"\n{name}\n{lineage}")

    def print_summary(self) -> None:
        """Print how many pictures have which verdict, and a table by model if there are many."""
        if self._as_json or len(self._rows) < 2:
            return
        if len(self._rows) >= TABLE_FROM:
            self._print_table()
        counts = Counter(row["verdict"] for row in self._rows)
        verdicts = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        print(f"{counted(len(self._rows), 'picture')}: {verdicts}")

    def _print_table(self) -> None:
        from rich.console import Console  # takes a tenth of a second to load
        from rich.table import Column, Table

        table = Table("model", "code", "verdict", Column("pictures", justify="right"))
        kinds = Counter(
            ((row["model"] or "")[:8], (row["code"] or "present")[:7], row["verdict"]) for row in self._rows
        )
        for kind, count in sorted(kinds.items()):
            table.add_row(*kind, f"{count:,}")
        Console().print(table, markup=False)

    def _add(self, name: str, verdict: str, said: str, line: str, **facts: Any) -> None:
        self._without_verdict.discard(name)
        empty = {"reproduced": False, "said": said, "model": None, "code": None, "written": []}
        row = {"file": escaped(name), "verdict": verdict, **empty, **facts}
        self._rows.append(row)
        self._print(row, escaped(line))

    def _print(self, row: dict[str, Any], line: str) -> None:
        print(json.dumps(row) if self._as_json else line, flush=True)
