"""Deterministic tar shards of pictures named by id (WebDataset's convention). Decodes nothing, extracts to no path.

Pictures out of the shards as files for a person to look at, and a table that says what they show.

Names come from ids alone, so nothing lands outside the folder; ids that differ in case alone get names that do not.
The table is one that `scrape.folder.catalog` takes. Decodes nothing.
"""

import bisect
import hashlib
import io
import itertools
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from atelier.data.catalog import ID_PATTERN, Work, catalog_frame
from atelier.data.folder import COLUMNS
from atelier.errors import AtelierError
from atelier.files import replacing, write_bytes
from atelier.text import cell

WORKS_PER_SHARD = 1000  # on average

_NAME = re.compile(rf"({ID_PATTERN.pattern})\.([a-z0-9]{{1,8}})")


class Item(NamedTuple):
    """One picture of a shard."""

    id: str
    extension: str
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.id}.{self.extension}"


def write_shards(items: Iterable[Item], directory: Path) -> list[Path]:
    """Write items, which come sorted by id, to `directory`/00000.tar, 00001.tar, …; other shards there are removed.

    Raises ValueError where ids are unsorted or unfit for a file name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for _, shard in itertools.groupby(_checked(items), key=_Boundaries()):
        path = directory / f"{len(written):05d}.tar"
        with replacing(path) as temporary, temporary.open("wb") as file:
            _write_tar(shard, file)
        written.append(path)
    for path in set(directory.glob("*.tar")) - set(written):
        path.unlink()
    return written


def read_shards(directory: Path) -> Iterator[Item]:
    """All pictures under `directory`, sorted by id. Raises AtelierError where a shard is absent or damaged."""
    for path in _paths(directory):
        yield from _read_tar(path)


def find(directory: Path, id: str) -> tuple[str, bytes] | None:
    """File name and bytes of one picture, or None where there is no such id."""
    paths = _paths(directory)
    firsts = [next((item.id for item in _read_tar(path, content=False)), "") for path in paths]
    at = bisect.bisect_right(firsts, id) - 1
    if at < 0 or not any(item.id == id for item in _read_tar(paths[at], content=False)):
        return None
    item = next(item for item in _read_tar(paths[at], only=id) if item.id == id)
    return item.name, item.content


class _Boundaries:
    """A shard's number for each item in turn; a new one begins after an id whose hash says so.

    So a work that joins or leaves changes one shard, and DVC stores and sends only that one.
    """

    def __init__(self) -> None:
        self._shard, self._ended = 0, False

    def __call__(self, item: Item) -> int:
        if self._ended:
            self._shard += 1
        hashed = hashlib.sha256(item.id.encode()).digest()
        self._ended = int.from_bytes(hashed[:8]) % WORKS_PER_SHARD == 0
        return self._shard


def _checked(items: Iterable[Item]) -> Iterator[Item]:
    before = ""
    for item in items:
        if not _NAME.fullmatch(item.name) or item.id <= before:
            raise ValueError(f"{item.name!r} after {before!r}: shards need fit, rising ids")
        before = item.id
        yield item


def _write_tar(items: Iterable[Item], file: io.BufferedWriter) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item in items:
            member = tarfile.TarInfo(item.name)  # its defaults: mtime 0, uid and gid 0, mode 0644, no names
            member.size = len(item.content)
            tar.addfile(member, io.BytesIO(item.content))


def _read_tar(path: Path, content: bool = True, only: str | None = None) -> Iterator[Item]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                match = _NAME.fullmatch(member.name)
                if not match or not member.isreg():
                    raise AtelierError(
                        f"{path} holds {member.name!r}, which is no picture named by its id: "
                        "`dvc repro download` writes it again"
                    )
                file = tar.extractfile(member) if content and only in (None, match[1]) else None
                yield Item(match[1], match[2], file.read() if file else b"")
    except (tarfile.TarError, EOFError) as error:
        raise AtelierError(f"{path} is damaged ({error}): `dvc repro download` writes it again") from None


def _paths(directory: Path) -> list[Path]:
    paths = sorted(directory.glob("*.tar"))
    if not paths:
        raise AtelierError(f"{directory} holds no shards: `dvc repro download` writes them")
    return paths


TABLE = "catalog.csv"

FEW = 50  # so many are looked up one by one; for more, all shards are read through


def stems(ids: Iterable[str]) -> dict[str, str]:
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
    advance: Callable[[], None] = lambda: None,
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


def write_table(folder: Path, files: Mapping[str, Path], works: Mapping[str, Work]) -> Path:
    """Say in `folder`/catalog.csv what the unpacked files show. No cell is a formula to a spreadsheet (`text.cell`)."""
    works_as_given = catalog_frame(works[id] for id in files).drop(columns="year")
    frame = works_as_given.rename(columns={"year_text": "year"})
    frame["file"] = [path.name for path in files.values()]
    table = frame[[*COLUMNS, "id", "page_url", "rights"]].map(cell).to_csv(index=False, lineterminator="\n")
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
    if len(ids) > FEW:
        yield from (item for item in read_shards(shards) if item.id in ids)
        return
    for id in sorted(ids):
        if found := find(shards, id):
            yield Item(id, found[0].rpartition(".")[2], found[1])


def _replace(path: Path, content: bytes) -> None:
    """Whole or absent, and never through a link that lies there; without the fsyncs of `files.write_bytes`."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(content)
    part.replace(path)
