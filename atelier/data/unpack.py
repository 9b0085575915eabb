"""Copy pictures out of the shards into a folder, with a CSV that describes them and that scrape.folder.catalog accepts.

File names are made from ids, so nothing is written outside the folder.
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

CSV_NAME = "catalog.csv"
MAX_SINGLE_LOOKUPS = 50  # pictures; for more, reading through all shards is faster


def file_stems(ids: Iterable[str]) -> dict[str, str]:
    """Map each id to a file name without extension: the id, with a suffix where two ids differ in capitals alone."""
    ids = list(ids)
    alike = Counter(id.lower() for id in ids)
    return {id: f"{id}~{hashlib.sha256(id.encode()).hexdigest()[:8]}" if alike[id.lower()] > 1 else id for id in ids}


def unpack(
    shards: Path,
    folder: Path,
    ids: Collection[str],
    names: Mapping[str, str],
    advance: Callable[[], None] = ignore_progress,
) -> dict[str, Path]:
    """Write the pictures of `ids` into `folder` under `names`, which `file_stems` returned.

    Returns the files by id, sorted by id; ids that the shards do not have are left out. `advance` is called after each
    file. Raises AtelierError where `folder` cannot be written to.
    """
    written: dict[str, Path] = {}
    with _explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for item in _read(shards, set(ids)):
            written[item.id] = folder / f"{names[item.id]}.{item.extension}"
            _replace(written[item.id], item.content)
            advance()
    return written


def write_csv(folder: Path, files: Mapping[str, Path], works: Mapping[str, Work]) -> Path:
    """Describe the unpacked files in `folder`/catalog.csv, with formulas escaped (see `text.escape_csv_cell`)."""
    frame = catalog_frame(works[id] for id in files)
    frame = frame.drop(columns="year").rename(columns={"year_text": "year"})
    frame["file"] = [path.name for path in files.values()]
    table = frame[[*COLUMNS, "id", "page_url", "rights"]].map(escape_csv_cell).to_csv(index=False, lineterminator="\n")
    with _explain_os_errors(folder):
        write_bytes(folder / CSV_NAME, table.encode())
    return folder / CSV_NAME


@contextmanager
def _explain_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise AtelierError(f"{where}: {error.strerror}; choose another folder or make room") from None


def _read(shards: Path, ids: set[str]) -> Iterator[Item]:
    if len(ids) > MAX_SINGLE_LOOKUPS:
        yield from (item for item in read_shards(shards) if item.id in ids)
        return
    for id in sorted(ids):
        if found := find_picture(shards, id):
            yield Item(id, found[0].rpartition(".")[2], found[1])


def _replace(path: Path, content: bytes) -> None:
    """Write a whole file or none, replacing a link rather than following it. Unlike `files.write_bytes`, no fsync."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(content)
    part.replace(path)
