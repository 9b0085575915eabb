"""Print docs/params.md, a table of params.yaml's keys: `python -m tools.params_table > docs/params.md`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.settings.load import allowed_values

LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: +(?P<value>[^#]*?))?(?: *# (?P<comment>.*))?$")
INTRODUCTION = """\
# Every key of params.yaml

Edit `params.yaml`, then run `dvc repro` or `atelier run`: only what depends on the edit runs again. A wrong value stops
the run before any work, with a message that names the key, its line, its value and the values it may hold. Numbers may
be written as `1e-4`. Dates must be quoted: unquoted, YAML reads them as dates, which DVC does not accept.
"""


@dataclass(frozen=True)
class Row:
    """One key: its dotted name, its value in the file, the values it may hold, and the comment beside it."""

    key: str
    value: str
    allowed: str
    meaning: str


def rows(text: str) -> Iterator[Row]:
    """Yield the keys of a params.yaml that have a value, in the file's order."""
    path: list[str] = []
    for line in text.splitlines():
        if not (match := LINE.match(line)):
            continue
        path = [*path[: len(match["indent"]) // 2], match["key"]]
        if match["value"]:
            yield Row(".".join(path), match["value"], allowed_values(path), match["comment"] or "")


def markdown(text: str) -> str:
    """Return the whole page, one table for each section."""
    lines, section = [INTRODUCTION], ""
    for row in rows(text):
        name, key = row.key.split(".", 1)
        if name != section:
            section = name
            lines += [f"\n## {name}\n", "| key | default | may hold | meaning |", "|---|---|---|---|"]
        cells = (f"`{key}`", f"`{row.value}`", row.allowed, row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(Path("params.yaml").read_text(encoding="utf-8")), end="")
