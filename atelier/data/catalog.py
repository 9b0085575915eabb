"""The catalog of works: its schema, and files that are byte-identical for identical content."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from atelier.errors import AtelierError
from atelier.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")  # an id becomes a file name: nothing else may pass
Rights = Literal["public-domain", "fair-use", "unknown"]

SCHEMA = pa.schema(
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
    write_table(pa.table(columns, schema=SCHEMA), path)


def read_catalog(path: Path) -> list[Work]:
    """The catalog's works, sorted by id. Raises AtelierError where the file is absent or has another schema."""
    table = read_table(path, SCHEMA)
    columns = [_values(table.column(name).combine_chunks()) for name in SCHEMA.names]
    return [Work(**dict(zip(SCHEMA.names, row, strict=True))) for row in zip(*columns, strict=True)]


def catalog_frame(works: Iterable[Work]) -> "pd.DataFrame":
    """The works as a frame of the catalog's columns, for reports."""
    import pandas as pd  # takes most of a second, which no stage should wait for

    return pd.DataFrame([asdict(work) for work in works], columns=[field.name for field in SCHEMA])


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
