"""Tar shards of picture files named `<id>.<extension>`, as WebDataset has them; same pictures, same bytes.

A new shard begins after an id whose hash says so, so that a work that joins or leaves changes one shard only, and DVC
stores and sends only that one. `unpack` copies pictures from the shards into a folder, under names that are made from
ids, so that nothing is written outside it.
"""

import bisect
import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from atelier.data.catalog import ID_PATTERN
from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.progress import ignore_progress

WORKS_PER_SHARD = 1000  # on average
MEMBER_NAME = re.compile(rf"({ID_PATTERN.pattern})\.([a-z0-9]{{1,8}})")
MAX_SINGLE_LOOKUPS = 50  # pictures; for more, reading through all shards is faster


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
    for number, shard in groupby(_numbered(items), key=itemgetter(0)):
        path = directory / f"{number:05d}.tar"
        with replacing(path) as temporary, tarfile.open(temporary, "w:", format=tarfile.USTAR_FORMAT) as tar:
            for _, item in shard:
                member = tarfile.TarInfo(item.name)  # with mtime 0, uid and gid 0, mode 0644 and no user names
                member.size = len(item.content)
                tar.addfile(member, io.BytesIO(item.content))
        written.append(path)
    for path in set(directory.glob("*.tar")) - set(written):
        path.unlink()
    return written


def read_shards(directory: Path) -> Iterator[Item]:
    """Yield all pictures of the shards in `directory`, sorted by id. Raises AtelierError if missing or damaged."""
    for path in _shard_paths(directory):
        yield from _read_tar(path)


def find_picture(directory: Path, id: str) -> Item | None:
    """Return one picture, or None where no shard has the id."""
    paths = _shard_paths(directory)
    firsts = [next((item.id for item in _read_tar(path, only="")), "") for path in paths]
    at = bisect.bisect_right(firsts, id) - 1
    return next((item for item in _read_tar(paths[at], only=id) if item.id == id), None) if at >= 0 else None


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
    wanted = set(ids)
    if len(wanted) > MAX_SINGLE_LOOKUPS:
        items = (item for item in read_shards(shards) if item.id in wanted)
    else:
        items = (item for id in sorted(wanted) if (item := find_picture(shards, id)))
    written: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for item in items:
            path = written[item.id] = folder / f"{names[item.id]}.{item.extension}"
            # whole or absent, and a link is replaced rather than followed; unlike `files.write_bytes` without fsync
            part = path.with_name(f".{path.name}.part")
            part.unlink(missing_ok=True)
            with part.open("xb") as file:
                file.write(item.content)
            part.replace(path)
            advance()
    except OSError as error:
        where = error.filename or folder
        raise AtelierError(f"{where}: {error.strerror}; choose another folder or make room") from None
    return written


def _numbered(items: Iterable[Item]) -> Iterator[tuple[int, Item]]:
    """Each item with the number of its shard. Raises ValueError, see `write_shards`."""
    number, previous = 0, ""
    for item in items:
        if not MEMBER_NAME.fullmatch(item.name) or item.id <= previous:
            raise ValueError(f"{item.name!r} after {previous!r}: ids must be sorted and fit for file names")
        yield number, item
        previous = item.id
        hashed = hashlib.sha256(item.id.encode()).digest()
        number += int.from_bytes(hashed[:8]) % WORKS_PER_SHARD == 0


def _read_tar(path: Path, only: str | None = None) -> Iterator[Item]:
    """The pictures of one shard; with `only`, all but that one have no content."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                match = MEMBER_NAME.fullmatch(member.name)
                if not match or not member.isreg():
                    raise AtelierError(
                        f"{path} holds {member.name!r}, which is no picture named by its id: "
                        "`dvc repro download` writes it again"
                    )
                file = tar.extractfile(member) if only in (None, match[1]) else None
                yield Item(match[1], match[2], file.read() if file else b"")
    except (tarfile.TarError, EOFError) as error:
        raise AtelierError(f"{path} is damaged ({error}): `dvc repro download` writes it again") from None


def _shard_paths(directory: Path) -> list[Path]:
    if paths := sorted(directory.glob("*.tar")):
        return paths
    raise AtelierError(f"{directory} holds no shards: `dvc repro download` writes them")
