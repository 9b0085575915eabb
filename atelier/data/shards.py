"""Deterministic tar shards of pictures named by id (WebDataset's convention). Decodes nothing, extracts to no path."""

import bisect
import hashlib
import io
import itertools
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from atelier.data.catalog import ID_PATTERN
from atelier.errors import AtelierError
from atelier.files import replacing

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


def find_picture(directory: Path, id: str) -> tuple[str, bytes] | None:
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
