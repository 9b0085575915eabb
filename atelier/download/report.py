"""Printing the account of a download by status: a table on a terminal, the same in plain lines in a log."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier.data.catalog import STATUSES, DownloadRecord
from atelier.data.duplicates import LOOKS_LIKE_PREFIX
from atelier.text import clean, escaped

MAX_EXAMPLES = 3  # works shown for each status
MAX_REASON_CHARS = 160  # downloads.parquet has the whole reason
NOTED = "noted"  # ok, with a note on colours or pages; also counted as ok
LOOK_ALIKE = "look-alike"  # ok, and similar to another picture; also counted as ok


@dataclass(frozen=True, slots=True)
class Row:
    """One status: its works, the bytes of their pictures, and a few examples."""

    status: str
    works: int
    bytes: int
    examples: tuple[str, ...]


def print_account(records: Iterable[DownloadRecord], console: Console | None = None) -> None:
    """Print the account by status to `console`, by default to standard output."""
    console = console or Console(soft_wrap=True, highlight=False)
    if console.is_terminal:
        console.print(account_table(records), soft_wrap=False)
        return
    for line in account_lines(records):
        console.print(line, markup=False)


def account_table(records: Iterable[DownloadRecord]) -> Table:
    """The account by status, for a terminal."""
    table = Table("status", "works", "bytes", "for example")
    for column in table.columns[1:3]:
        column.justify = "right"
    for row in account_rows(records):
        table.add_row(row.status, f"{row.works:,}", format_size(row.bytes), Text("\n".join(row.examples)))
    return table


def account_lines(records: Iterable[DownloadRecord]) -> list[str]:
    """The account by status, for a log."""
    lines = []
    for row in account_rows(records):
        lines.append(f"{row.status:<13}{row.works:>8,}{format_size(row.bytes):>12}".rstrip())
        lines += [f"{'':13}{'':8}  {example}" for example in row.examples]
    return lines


def account_rows(records: Iterable[DownloadRecord]) -> list[Row]:
    """The statuses that occur, in the order of STATUSES, with their first works by id."""
    groups: defaultdict[str, list[DownloadRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.id):
        groups[record.status].append(record)
        if record.status == "ok" and record.reason:
            groups[LOOK_ALIKE if record.reason.startswith(LOOKS_LIKE_PREFIX) else NOTED].append(record)
    names = [name for status in STATUSES for name in ((status, LOOK_ALIKE, NOTED) if status == "ok" else (status,))]
    return [
        Row(
            name,
            len(groups[name]),
            sum(record.bytes or 0 for record in groups[name]) if name != "duplicate" else 0,
            tuple(_example(record) for record in groups[name][:MAX_EXAMPLES]),
        )
        for name in names
        if groups[name]
    ]


def _example(record: DownloadRecord) -> str:
    """A work's id and reason, without control characters: a reason may quote a site's response."""
    reason = escaped(clean(record.reason))
    if len(reason) > MAX_REASON_CHARS:
        reason = f"{reason[:MAX_REASON_CHARS]}…"
    return f"{clean(record.id)}: {reason}" if reason else clean(record.id)


def format_size(count: int) -> str:
    """Format a number of bytes with its unit; empty for 0."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} B" if count else ""
