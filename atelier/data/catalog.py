"""The catalog of works: its schema, and files that are byte-identical for identical content.

The download account: what became of each catalogued work, one row each. Knows neither network nor pictures.

Years as WikiArt writes them, read as one number. The text itself stays in the catalog's `year_text`.

"1916"            1916
"1827-1828"       1828     the year of completion, by which WikiArt sorts
"1887-88"         1888
"c. 1300 BC"     -1300     before Christ is negative
"1890s"           1894     the middle of what is named
"XX cent."        1950     the same; the running century counts up to PRESENT
"XIX-XX cent."    1900
"?", "", 20000    None
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from atelier.errors import AtelierError
from atelier.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")  # an id becomes a file name: nothing else may pass

Rights = Literal["public-domain", "fair-use", "unknown"]

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("artist", pa.string(), nullable=False),
        pa.field("artist_slug", pa.string(), nullable=False),
        pa.field("year_text", pa.string(), nullable=False),
        pa.field("year", pa.int16()),
        pa.field("genre", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("image_url", pa.string(), nullable=False),
        pa.field("page_url", pa.string(), nullable=False),
        pa.field("rights", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One row of the catalog. Unknown texts are empty, unknown numbers None; years before Christ are negative.

    `image_url` is http(s) for WikiArt, `gallery:/…` for the built-in archive, a path relative to
    `scrape.folder.path` for a folder.
    """

    id: str
    title: str
    artist: str
    artist_slug: str
    year_text: str
    year: int | None
    genre: str
    style: str
    width: int | None
    height: int | None
    image_url: str
    page_url: str
    rights: Rights
    source: str


def write_catalog(works: Iterable[Work], path: Path) -> None:
    """Write works sorted by id. Raises AtelierError where an id is unfit for a file name or occurs twice."""
    rows = sorted(works, key=lambda work: work.id)
    for work in rows:
        if not ID_PATTERN.fullmatch(work.id):
            raise AtelierError(
                f"{path}: the source gave the id {work.id!r}; ids are 1 to 64 of A-Z a-z 0-9 _ -"
            )
    named: dict[str, Work] = {}
    for work in rows:
        before = named.setdefault(work.id.lower(), work)
        if before is not work:
            # files are named after ids, and half of all disks do not tell A from a
            ids = work.id if before.id == work.id else f"{before.id}, but for its capitals {work.id},"
            raise AtelierError(f"{path}: the id {ids} names two works: {before.title!r} and {work.title!r}")
    columns = {field.name: [getattr(work, field.name) for work in rows] for field in fields(Work)}
    write_table(pa.table(columns, schema=CATALOG_SCHEMA), path)


def read_catalog(path: Path) -> list[Work]:
    """The catalog's works, sorted by id. Raises AtelierError where the file is absent or has another schema."""
    table = read_table(path, CATALOG_SCHEMA)
    columns = [_values(table.column(name).combine_chunks()) for name in CATALOG_SCHEMA.names]
    return [Work(**dict(zip(CATALOG_SCHEMA.names, row, strict=True))) for row in zip(*columns, strict=True)]


def catalog_frame(works: Iterable[Work]) -> "pd.DataFrame":
    """The works as a frame of the catalog's columns, for reports."""
    import pandas as pd  # takes most of a second, which no stage should wait for

    return pd.DataFrame([asdict(work) for work in works], columns=[field.name for field in CATALOG_SCHEMA])


def _values(column: pa.Array) -> list[Any]:
    """The column's values. Through numpy where none may be missing: a fifth of the time of to_pylist."""
    values: list[Any] = (
        column.to_pylist() if column.null_count else column.to_numpy(zero_copy_only=False).tolist()
    )
    return values


def write_table(table: pa.Table, path: Path) -> None:
    """Parquet whose bytes depend on the content (and on pyarrow's version, which is pinned) alone."""
    with replacing(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(None), temporary, compression="zstd", compression_level=3
        )


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet file that `write_table` wrote. Raises AtelierError where it is absent or differs from `schema`."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise AtelierError(f"{path} is no parquet file ({error}): `dvc repro` makes it again") from None
    if not table.schema.equals(schema):
        raise AtelierError(f"{path} has other columns than this version writes: `dvc repro` makes it again")
    return table


Status = Literal[
    "ok", "missing", "placeholder", "truncated", "not-an-image", "too-small", "too-large", "duplicate", "refused",
    "error",
]  # fmt: skip

STATUSES: tuple[Status, ...] = get_args(Status)

DOWNLOADS_SCHEMA = pa.schema(
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
class DownloadRecord:
    """What became of one work. The measures are those of the picture as it is kept, None where none is."""

    id: str
    status: Status
    reason: str = ""
    sha256: str | None = None
    phash: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None


def write_downloads(entries: Iterable[DownloadRecord], path: Path) -> None:
    """Write the entries sorted by id, byte-identical for identical content.

    Raises AtelierError where an id is unfit for a file name: what reads the account names files by it.
    """
    rows = sorted(entries, key=lambda entry: entry.id)
    for row in rows:
        if not ID_PATTERN.fullmatch(row.id):
            raise AtelierError(f"{path}: {row.id!r} is no id; ids are 1 to 64 of A-Z a-z 0-9 _ -")
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(DownloadRecord)}
    write_table(pa.table(columns, schema=DOWNLOADS_SCHEMA), path)


def read_downloads(path: Path) -> list[DownloadRecord]:
    """The entries, sorted by id. Raises AtelierError where the file is absent or has another schema."""
    return [DownloadRecord(**row) for row in read_table(path, DOWNLOADS_SCHEMA).to_pylist()]


EARLIEST, LATEST = -10_000, 2100  # WikiArt's own are -3050…2025; all fit Int16

PRESENT = 2026  # a constant, not the clock: the same list gives the same catalog next year

ROMAN = {
    "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11,
    "XII": 12, "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20, "XXI": 21,
}  # fmt: skip

BEFORE_CHRIST = re.compile(r"\bB\.?\s?C\b|\bBCE\b", re.IGNORECASE)

CENTURIES = re.compile(r"\b([IVX]+)(?:\s*[-–—/]\s*([IVX]+))?\s*(?:th\s*)?c(?:\.|ent)", re.IGNORECASE)

NUMBERED_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\s+c(?:\.|ent)", re.IGNORECASE)

SHORT_RANGE = re.compile(r"\b(\d{2})(\d{2})\s*[-–—/]\s*(\d{2})(?!\d)")

DECADE = re.compile(r"\b(\d{3})0s\b")

NUMBER = re.compile(r"(?<!\d)\d{1,5}(?!\d)")


def parse_year(text: str) -> int | None:
    """The year that `text` means, negative before Christ; None where it names none or an impossible one."""
    sign = -1 if BEFORE_CHRIST.search(text) or re.fullmatch(r"\s*-\d{1,5}\s*", text) else 1
    year = _of_centuries(text, sign)
    if year is None and (decade := DECADE.search(text)):
        year = sign * (int(decade[1]) * 10 + 4)
    if year is None:
        year = _last_number(text, sign)
    return year if year and EARLIEST <= year <= LATEST else None  # there was no year 0


def _of_centuries(text: str, sign: int) -> int | None:
    if match := CENTURIES.search(text):
        first, last = ROMAN.get(match[1].upper()), ROMAN.get((match[2] or match[1]).upper())
    elif match := NUMBERED_CENTURY.search(text):
        first = last = int(match[1])
    else:
        return None
    if not first or not last:
        return None
    begin, end = (min(first, last) - 1) * 100 + 1, min(max(first, last) * 100, PRESENT)
    return sign * ((begin + end) // 2)


def _last_number(text: str, sign: int) -> int | None:
    """The last number that looks like a year; short ones, as a date's day, count only where nothing else does."""
    if (short := SHORT_RANGE.search(text)) and int(short[3]) > int(short[2]):
        return sign * int(short[1] + short[3])
    numbers = NUMBER.findall(text)
    long = [number for number in numbers if len(number) >= 3]
    return sign * int((long or numbers)[-1]) if numbers else None
