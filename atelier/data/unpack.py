"""Pictures out of the shards as files for a person to look at, and a table that says what they show.

Names come from ids alone, so nothing lands outside the folder; ids that differ in case alone get names that do not.
The table is one that `scrape.folder.catalog` takes. Decodes nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from atelier.data.catalog import Work, catalog_frame
from atelier.data.folder import COLUMNS
from atelier.data.shards import Item, find_picture, read_shards
from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.progress import ignore_progress
from atelier.text import escape_csv_cell

TABLE = "catalog.csv"
MAX_SINGLE_LOOKUPS = 50  # so many are looked up one by one; for more, all shards are read through


def file_stems(ids: Iterable[str]) -> dict[str, str]:
    """A file name without its extension for each id: the id, made distinct where a disk that knows no case needs it."""
    ids = list(ids)
    alike = Counter(id.lower() for id in ids)
    return {
        id: f"{id}~{hashlib.sha256(id.encode()).hexdigest()[:8]}" if alike[id.lower()] > 1 else id
        for id in ids
    }


def unpack(
    shards: Path,
    folder: Path,
    ids: Collection[str],
    names: Mapping[str, str],
    advance: Callable[[], None] = ignore_progress,
) -> dict[str, Path]:
    """Write the pictures of `ids` into `folder` under `names` (see `stems`); the files by id, sorted by it.

    Ids that the shards lack are passed over. Raises AtelierError where `folder` cannot be written to.
    """
    written: dict[str, Path] = {}
    with _folder_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for item in _items(shards, set(ids)):
            written[item.id] = folder / f"{names[item.id]}.{item.extension}"
            _replace(written[item.id], item.content)
            advance()
    return written


def write_csv(folder: Path, files: Mapping[str, Path], works: Mapping[str, Work]) -> Path:
    """Say in `folder`/catalog.csv what the unpacked files show. No cell is a formula to a spreadsheet (`text.cell`)."""
    works_as_given = catalog_frame(works[id] for id in files).drop(columns="year")
    frame = works_as_given.rename(columns={"year_text": "year"})
    frame["file"] = [path.name for path in files.values()]
    table = (
        frame[[*COLUMNS, "id", "page_url", "rights"]]
        .map(escape_csv_cell)
        .to_csv(index=False, lineterminator="\n")
    )
    with _folder_explained(folder):
        write_bytes(folder / TABLE, table.encode())
    return folder / TABLE


@contextmanager
def _folder_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise AtelierError(f"{where}: {error.strerror}; choose another folder or make room") from None


def _items(shards: Path, ids: set[str]) -> Iterator[Item]:
    if len(ids) > MAX_SINGLE_LOOKUPS:
        yield from (item for item in read_shards(shards) if item.id in ids)
        return
    for id in sorted(ids):
        if found := find_picture(shards, id):
            yield Item(id, found[0].rpartition(".")[2], found[1])


def _replace(path: Path, content: bytes) -> None:
    """Whole or absent, and never through a link that lies there; without the fsyncs of `files.write_bytes`."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(content)
    part.replace(path)
