"""Tar shards of picture files named `<id>.<extension>`, as WebDataset has them; same pictures, same bytes.

A new shard begins after an id whose hash says so, so that a work that joins or leaves changes one shard only, and DVC
stores and sends only that one.
"""

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
MEMBER_NAME = re.compile(rf"({ID_PATTERN.pattern})\.([a-z0-9]{{1,8}})")


class Item(NamedTuple):
    """One picture file of a shard: its id, its extension without the dot, and its bytes."""

    id: str
    extension: str
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.id}.{self.extension}"


def write_shards(items: Iterable[Item], directory: Path) -> list[Path]:
    """Write items, sorted by id, to 00000.tar, 00001.tar, … in `directory`, and remove all other shards there.

    Returns the paths. Raises ValueError where the ids are not sorted, occur twice or cannot be file names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for _, shard in itertools.groupby(_check(items), key=_ShardNumbers()):
        path = directory / f"{len(written):05d}.tar"
        with replacing(path) as temporary, temporary.open("wb") as file:
            _write_tar(shard, file)
        written.append(path)
    for path in set(directory.glob("*.tar")) - set(written):
        path.unlink()
    return written


def read_shards(directory: Path) -> Iterator[Item]:
    """Yield all pictures of the shards in `directory`, sorted by id. Raises AtelierError if missing or damaged."""
    for path in _shard_paths(directory):
        yield from _read_tar(path)


def find_picture(directory: Path, id: str) -> tuple[str, bytes] | None:
    """Return the file name and the bytes of one picture, or None where no shard has the id."""
    paths = _shard_paths(directory)
    firsts = [next((item.id for item in _read_tar(path, content=False)), "") for path in paths]
    at = bisect.bisect_right(firsts, id) - 1
    if at < 0 or not any(item.id == id for item in _read_tar(paths[at], content=False)):
        return None
    item = next(item for item in _read_tar(paths[at], only=id) if item.id == id)
    return item.name, item.content


class _ShardNumbers:
    """Returns the number of the shard for each item, called in order."""

    def __init__(self) -> None:
        self._shard, self._ended = 0, False

    def __call__(self, item: Item) -> int:
        if self._ended:
            self._shard += 1
        hashed = hashlib.sha256(item.id.encode()).digest()
        self._ended = int.from_bytes(hashed[:8]) % WORKS_PER_SHARD == 0
        return self._shard


def _check(items: Iterable[Item]) -> Iterator[Item]:
    previous = ""
    for item in items:
        if not MEMBER_NAME.fullmatch(item.name) or item.id <= previous:
            raise ValueError(f"{item.name!r} after {previous!r}: ids must be sorted and fit for file names")
        previous = item.id
        yield item


def _write_tar(items: Iterable[Item], file: io.BufferedWriter) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item in items:
            member = tarfile.TarInfo(item.name)  # with mtime 0, uid and gid 0, mode 0644 and no user names
            member.size = len(item.content)
            tar.addfile(member, io.BytesIO(item.content))


def _read_tar(path: Path, content: bool = True, only: str | None = None) -> Iterator[Item]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                match = MEMBER_NAME.fullmatch(member.name)
                if not match or not member.isreg():
                    raise AtelierError(
                        f"{path} holds {member.name!r}, which is no picture named by its id: "
                        "`dvc repro download` writes it again"
                    )
                file = tar.extractfile(member) if content and only in (None, match[1]) else None
                yield Item(match[1], match[2], file.read() if file else b"")
    except (tarfile.TarError, EOFError) as error:
        raise AtelierError(f"{path} is damaged ({error}): `dvc repro download` writes it again") from None


def _shard_paths(directory: Path) -> list[Path]:
    paths = sorted(directory.glob("*.tar"))
    if not paths:
        raise AtelierError(f"{directory} holds no shards: `dvc repro download` writes them")
    return paths
