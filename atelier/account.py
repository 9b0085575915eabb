"""The download account: what became of each catalogued work, one row each. Knows neither network nor pictures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from atelier.catalog import read_table, write_table

Status = Literal[
    "ok", "missing", "placeholder", "truncated", "not-an-image", "too-small", "too-large", "duplicate", "refused",
    "error",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
EXAMPLES = 2  # works named for each status other than ok

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("phash", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of one work. The measures are those of the picture as it is kept, None where none is."""

    id: str
    status: Status
    reason: str = ""
    sha256: str | None = None
    phash: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None


def write_account(entries: Iterable[Entry], path: Path) -> None:
    """Write the entries sorted by id, byte-identical for identical content."""
    rows = sorted(entries, key=lambda entry: entry.id)
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Entry)}
    write_table(pa.table(columns, schema=SCHEMA), path)


def read_account(path: Path) -> list[Entry]:
    """The entries, sorted by id. Raises AtelierError where the file is absent or has another schema."""
    return [Entry(**row) for row in read_table(path, SCHEMA).to_pylist()]


def account_lines(entries: Iterable[Entry]) -> list[str]:
    """The counts by status, and for what did not arrive some examples with their reasons."""
    rows = sorted(entries, key=lambda entry: entry.id)
    counts = Counter(row.status for row in rows)
    lines = []
    for status in STATUSES:
        if counts[status]:
            lines.append(f"{status:<13}{counts[status]:>8,}")
        if status != "ok":
            examples = [row for row in rows if row.status == status][:EXAMPLES]
            lines += [f"{'':13}{'':8}  {row.id}: {row.reason}" for row in examples]
    return lines
