"""The download account told to a person: a table on a terminal, the same in plain lines in a log. Decides nothing."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier.data.catalog import STATUSES, DownloadRecord
from atelier.data.duplicates import LOOKS_LIKE_PREFIX
from atelier.pictures.untrusted import escaped
from atelier.text import clean

EXAMPLES = 3  # works named for each status
LONGEST_REASON = 160  # characters; the account itself has all of them
NOTED = "noted"  # ok, with a note on its colours or pages: counted a second time, as look-alikes are
LOOK_ALIKE = "look-alike"  # ok, and close to another: counted a second time, under a name of its own


@dataclass(frozen=True, slots=True)
class Row:
    """One status: how many works, the bytes that are kept of them, and a few examples."""

    status: str
    works: int
    bytes: int
    examples: tuple[str, ...]


def tell_account(entries: Iterable[DownloadRecord], console: Console | None = None) -> None:
    """Print the account by status to `console`, standard output where none is given."""
    console = console or Console(soft_wrap=True, highlight=False)
    if console.is_terminal:
        console.print(account_table(entries), soft_wrap=False)
        return
    for line in account_lines(entries):
        console.print(line, markup=False)


def account_table(entries: Iterable[DownloadRecord]) -> Table:
    """The account by status, for a terminal."""
    table = Table("status", "works", "bytes", "for example")
    for column in table.columns[1:3]:
        column.justify = "right"
    for row in account_rows(entries):
        table.add_row(row.status, f"{row.works:,}", size_of(row.bytes), Text("\n".join(row.examples)))
    return table


def account_lines(entries: Iterable[DownloadRecord]) -> list[str]:
    """The account by status, for a log."""
    lines = []
    for row in account_rows(entries):
        lines.append(f"{row.status:<13}{row.works:>8,}{size_of(row.bytes):>12}".rstrip())
        lines += [f"{'':13}{'':8}  {example}" for example in row.examples]
    return lines


def account_rows(entries: Iterable[DownloadRecord]) -> list[Row]:
    """The statuses that occur, in the order of STATUSES, each with its first works by id."""
    groups: defaultdict[str, list[DownloadRecord]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.id):
        groups[entry.status].append(entry)
        if entry.status == "ok" and entry.reason:
            groups[LOOK_ALIKE if entry.reason.startswith(LOOKS_LIKE_PREFIX) else NOTED].append(entry)
    names = [
        name for status in STATUSES for name in ((status, LOOK_ALIKE, NOTED) if status == "ok" else (status,))
    ]
    return [
        Row(
            name,
            len(groups[name]),
            sum(entry.bytes or 0 for entry in groups[name]) if name != "duplicate" else 0,
            tuple(_example(entry) for entry in groups[name][:EXAMPLES]),
        )
        for name in names
        if groups[name]
    ]


def _example(entry: DownloadRecord) -> str:
    """Reasons may quote what a site said: nothing in them may steer a terminal."""
    reason = escaped(clean(entry.reason))
    if len(reason) > LONGEST_REASON:
        reason = f"{reason[:LONGEST_REASON]}…"
    return f"{clean(entry.id)}: {reason}" if reason else clean(entry.id)


def size_of(count: int) -> str:
    """Bytes for people; nothing where there are none."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} B" if count else ""
