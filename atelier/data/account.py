"""The download account: what became of each catalogued work, one row each. Knows neither network nor pictures."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from atelier.data.catalog import ID_PATTERN, read_table, write_table
from atelier.errors import AtelierError

Status = Literal[
    "ok", "missing", "placeholder", "truncated", "not-an-image", "too-small", "too-large", "duplicate", "refused",
    "error",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)

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
    """Write the entries sorted by id, byte-identical for identical content.

    Raises AtelierError where an id is unfit for a file name: what reads the account names files by it.
    """
    rows = sorted(entries, key=lambda entry: entry.id)
    for row in rows:
        if not ID_PATTERN.fullmatch(row.id):
            raise AtelierError(f"{path}: {row.id!r} is no id; ids are 1 to 64 of A-Z a-z 0-9 _ -")
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Entry)}
    write_table(pa.table(columns, schema=SCHEMA), path)


def read_account(path: Path) -> list[Entry]:
    """The entries, sorted by id. Raises AtelierError where the file is absent or has another schema."""
    return [Entry(**row) for row in read_table(path, SCHEMA).to_pylist()]
