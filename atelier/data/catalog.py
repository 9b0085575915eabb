"""The catalog of works and the record of their downloads, as parquet files whose bytes depend on their content alone.

`data/catalog.parquet` has one row (`Work`) for each work of the source, `data/downloads.parquet` one row
(`DownloadRecord`) for each row of the catalog. `parse_year` reads a year from the text that the source gives.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from atelier.errors import AtelierError
from atelier.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")  # ids become file names
Rights = Literal["public-domain", "fair-use", "unknown"]
Status = Literal[
    "ok", "missing", "placeholder", "truncated", "not-an-image", "too-small", "too-large", "duplicate", "refused",
    "error",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One row of the catalog. Unknown texts are empty, unknown numbers None; years before Christ are negative.

    `image_url` is an http(s) address, `gallery:/…` for the built-in archive, or a path relative to scrape.folder.path.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRecord:
    """The outcome of one work's download. The measures are those of the kept picture, None where none was kept."""

    id: str
    status: Status
    reason: str = ""
    sha256: str | None = None
    phash: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None


def schema_of(row_class: type[Any], /, **numbers: pa.DataType) -> pa.Schema:
    """The columns of a data class: texts but for `numbers`, and null is allowed where None is."""
    return pa.schema(
        pa.field(field.name, numbers.get(field.name, pa.string()), type(None) in get_args(field.type))
        for field in fields(row_class)
    )


CATALOG_SCHEMA = schema_of(Work, year=pa.int16(), width=pa.int32(), height=pa.int32())
DOWNLOADS_SCHEMA = schema_of(DownloadRecord, width=pa.int32(), height=pa.int32(), bytes=pa.int64())


def write_catalog(works: Iterable[Work], path: Path) -> None:
    """Write works sorted by id. Raises AtelierError where an id does not match ID_PATTERN or occurs twice."""
    rows = sorted(works, key=lambda work: work.id)
    by_id: dict[str, Work] = {}
    for work in rows:
        first = by_id.setdefault(work.id.lower(), work)
        if first is not work:  # files are named after ids, and many disks ignore case
            ids = work.id if first.id == work.id else f"{first.id}, but for its capitals {work.id},"
            raise AtelierError(f"{path}: the id {ids} names two works: {first.title!r} and {work.title!r}")
    write_rows(rows, CATALOG_SCHEMA, path)


def read_catalog(path: Path) -> list[Work]:
    """Read the works, sorted by id. Raises AtelierError where the file is missing or has another schema."""
    table = read_table(path, CATALOG_SCHEMA)
    columns = [_values(table.column(name).combine_chunks()) for name in CATALOG_SCHEMA.names]
    return [Work(**dict(zip(CATALOG_SCHEMA.names, row, strict=True))) for row in zip(*columns, strict=True)]


def catalog_frame(works: Iterable[Work]) -> "pd.DataFrame":
    """Return the works as a data frame with the catalog's columns."""
    import pandas as pd  # which the stages do without

    return pd.DataFrame([asdict(work) for work in works], columns=[field.name for field in CATALOG_SCHEMA])


def write_downloads(records: Iterable[DownloadRecord], path: Path) -> None:
    """Write the records sorted by id. Raises AtelierError where an id does not match ID_PATTERN."""
    write_rows(sorted(records, key=lambda record: record.id), DOWNLOADS_SCHEMA, path)


def read_downloads(path: Path) -> list[DownloadRecord]:
    """Read the records, sorted by id. Raises AtelierError where the file is missing or has another schema."""
    return [DownloadRecord(**row) for row in read_table(path, DOWNLOADS_SCHEMA).to_pylist()]


def write_rows(rows: Sequence[Any], schema: pa.Schema, path: Path) -> None:
    """Write instances of a data class with an id. Raises AtelierError where an id does not match ID_PATTERN."""
    for row in rows:
        if not ID_PATTERN.fullmatch(row.id):
            raise AtelierError(f"{path}: {row.id!r} is no id; ids are 1 to 64 of A-Z a-z 0-9 _ -")
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    write_table(pa.table(columns, schema=schema), path)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file whose bytes depend on the content alone (and on pyarrow's version, which is pinned)."""
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd", compression_level=3)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet file of `write_table`. Raises AtelierError where it is missing or has another schema."""
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table imports pandas, which takes most of a second
            table = file.read()
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise AtelierError(f"{path} is no parquet file ({error}): `dvc repro` makes it again") from None
    if not table.schema.equals(schema):
        raise AtelierError(f"{path} has other columns than this version writes: `dvc repro` makes it again")
    return table


def _values(column: pa.Array) -> list[Any]:
    """A column as a list; by way of numpy where no value is null, in a fifth of the time of `to_pylist`."""
    values: list[Any] = column.to_pylist() if column.null_count else column.to_numpy(zero_copy_only=False).tolist()
    return values


EARLIEST_YEAR, LATEST_YEAR = -10_000, 2100  # WikiArt has -3050 to 2025; all fit into int16
CURRENT_YEAR = 2026  # a constant, so that the same list gives the same catalog next year
_NUMERALS = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX XXI"
ROMAN = {numeral: number for number, numeral in enumerate(_NUMERALS.split(), 1)}
BEFORE_CHRIST = re.compile(r"\bB\.?\s?C\b|\bBCE\b", re.IGNORECASE)
CENTURIES = re.compile(r"\b([IVX]+)(?:\s*[-–—/]\s*([IVX]+))?\s*(?:th\s*)?c(?:\.|ent)", re.IGNORECASE)
NUMBERED_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\s+c(?:\.|ent)", re.IGNORECASE)
SHORT_RANGE = re.compile(r"\b(\d{2})(\d{2})\s*[-–—/]\s*(\d{2})(?!\d)")
DECADE = re.compile(r"\b(\d{3})0s\b")
NUMBER = re.compile(r"(?<!\d)\d{1,5}(?!\d)")


def parse_year(text: str) -> int | None:
    """Return the year that a text names, negative before Christ; None where it names none or an impossible one.

    "1916"            1916
    "1827-1828"       1828     the year of completion, by which WikiArt sorts
    "1887-88"         1888
    "c. 1300 BC"     -1300
    "1890s"           1894     the middle of the decade
    "XX cent."        1950     the middle of the century; the present one counts up to CURRENT_YEAR
    "XIX-XX cent."    1900
    "?", "", 20000    None
    """
    sign = -1 if BEFORE_CHRIST.search(text) or re.fullmatch(r"\s*-\d{1,5}\s*", text) else 1
    year = _middle_of_centuries(text, sign)
    if year is None and (decade := DECADE.search(text)):
        year = sign * (int(decade[1]) * 10 + 4)
    if year is None:
        year = _last_number(text, sign)
    return year if year and EARLIEST_YEAR <= year <= LATEST_YEAR else None  # there was no year 0


def _middle_of_centuries(text: str, sign: int) -> int | None:
    if match := CENTURIES.search(text):
        first, last = ROMAN.get(match[1].upper()), ROMAN.get((match[2] or match[1]).upper())
    elif match := NUMBERED_CENTURY.search(text):
        first = last = int(match[1])
    else:
        return None
    if not first or not last:
        return None
    begin, end = (min(first, last) - 1) * 100 + 1, min(max(first, last) * 100, CURRENT_YEAR)
    return sign * ((begin + end) // 2)


def _last_number(text: str, sign: int) -> int | None:
    """Return the last number of three digits or more, as shorter ones may be days; where there is none, the last."""
    if (short := SHORT_RANGE.search(text)) and int(short[3]) > int(short[2]):
        return sign * int(short[1] + short[3])
    numbers = NUMBER.findall(text)
    long = [number for number in numbers if len(number) >= 3]
    return sign * int((long or numbers)[-1]) if numbers else None
