"""Many pictures, politely and resumably: fetched, verified in full, kept; one counted status a work.

Pictures no larger than asked are kept as the bytes that came, whatever their colours: conversion to plain sRGB
happens on reading (`images.read_rgb`). Larger ones are converted, made smaller and kept as JPEG.
"""

import errno
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

from atelier.account import Entry
from atelier.arrivals import Arrival, Arrivals
from atelier.catalog import Work
from atelier.errors import AtelierError
from atelier.images import Refused, is_placeholder_url, shrink, verify
from atelier.polite import FetchError
from atelier.progress import Progress
from atelier.shards import Item
from atelier.sources import Source

LOOKS = (
    3  # a false or damaged picture may be the site's bad moment: as many looks, or until one repeats itself
)
PATIENCE = 50  # works in a row that a site fails to give before it is left alone
_PASSING = ("error", "refused")  # of a site, not of a picture: asked again by the next run


def download(
    works: Sequence[Work], source: Source, arrivals: Arrivals, workers: int, progress: Progress
) -> list[Entry]:
    """Bring every work into `arrivals` and return its entry, sorted by id: as many entries as works.

    Raises AtelierError where a site gives nothing any more, where the disk is full, or where no picture is left;
    what has arrived stays in `arrivals` in any case.
    """
    fetcher = _Fetcher(source, arrivals)
    entries: list[Entry] = []
    counts: Counter[str] = Counter()
    in_vain = 0
    try:
        # its threads are daemons: a stopped stage does not wait for the slowest of them
        with full_disk_explained(arrivals.path), ThreadPool(min(workers, len(works) or 1)) as pool:
            for entry in pool.imap_unordered(fetcher.bring, works):
                entries.append(entry)
                counts[entry.status] += 1
                in_vain = in_vain + 1 if entry.status in (*_PASSING, "not-an-image") else 0
                if in_vain == PATIENCE:
                    raise AtelierError(
                        f"the source failed {PATIENCE} works in a row, the last one {entry.id}: {entry.reason}. "
                        f"The {counts['ok']:,} pictures that have arrived are kept: try again later"
                    )
                progress.advance(1, _note(counts))
    finally:
        source.stop()
    return _without_duplicates(entries)


def kept_items(
    works: Sequence[Work], entries: Sequence[Entry], source: Source, arrivals: Arrivals
) -> Iterator[Item]:
    """The pictures of the entries that are ok, for the shards, sorted by id."""
    by_id = {work.id: work for work in works}
    for entry in sorted(entries, key=lambda entry: entry.id):
        if entry.status == "ok":
            arrival = arrivals.load(_key(by_id[entry.id], source))
            if arrival is None or arrival.sha256 != entry.sha256:
                raise AtelierError(
                    f"{arrivals.path}: the picture {entry.id} has changed since: `dvc repro` asks for it again"
                )
            yield Item(entry.id, arrival.extension, arrival.content)


@contextmanager
def full_disk_explained(kept: Path) -> Iterator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AtelierError(
            f"the disk is full; what has arrived is kept in {kept}: free some space, then `dvc repro` goes on"
        ) from None


@dataclass(frozen=True)
class _Fetcher:
    """One work after the other, in any of many threads."""

    source: Source
    arrivals: Arrivals

    def bring(self, work: Work) -> Entry:
        """A work's entry, from what is kept or by asking the source."""
        key = _key(work, self.source)
        arrival = self.arrivals.load(key)
        if arrival is None:
            arrival, lasts = self._ask(work)
            if lasts:
                self.arrivals.save(key, arrival)
        return arrival.entry(work.id)

    def _ask(self, work: Work) -> tuple[Arrival, bool]:
        """What a work gave, and whether that will be so the next time."""
        seen: set[bytes] = set()
        while True:
            try:
                fetched = self.source.fetch(work)
            except FetchError as error:
                return Arrival(error.kind, error.reason), error.kind not in _PASSING
            if is_placeholder_url(fetched.url):
                return Arrival("placeholder", f"the site shows {fetched.url} instead"), True
            arrival = self._judge(fetched.content)
            if arrival.status not in ("truncated", "not-an-image"):
                return arrival, True
            digest = hashlib.sha256(fetched.content).digest()
            if digest in seen:
                return arrival, True
            seen.add(digest)
            if len(seen) == LOOKS:
                return arrival, False

    def _judge(self, content: bytes) -> Arrival:
        limits = self.arrivals.limits
        verdict = verify(content, limits.image)
        if isinstance(verdict, Refused):
            return Arrival(verdict.status, verdict.reason, came_bytes=len(content))
        kept, size, extension = content, (verdict.width, verdict.height), verdict.extension
        if limits.size_px and min(size) > limits.size_px:
            kept, size = shrink(verdict.image, limits.size_px)
            extension = "jpg"
        return Arrival(
            "ok",
            extension=extension,
            sha256=hashlib.sha256(kept).hexdigest(),
            phash=verdict.phash,
            width=size[0],
            height=size[1],
            came_px=(verdict.width, verdict.height),
            came_bytes=len(content),
            content=kept,
        )


def _key(work: Work, source: Source) -> str:
    return "\0".join((work.id, work.image_url, source.version(work)))


def _without_duplicates(entries: Sequence[Entry]) -> list[Entry]:
    """Sorted by id; of identical bytes the first id keeps its picture, the others are duplicates of it."""
    firsts: dict[str, str] = {}
    result = []
    for entry in sorted(entries, key=lambda entry: entry.id):
        first = firsts.setdefault(entry.sha256, entry.id) if entry.sha256 else entry.id
        if first != entry.id:
            entry = replace(entry, status="duplicate", reason=f"the same bytes as {first}")
        result.append(entry)
    return result


def _note(counts: Counter[str]) -> str:
    lacking = counts.total() - counts["ok"]
    return f"{lacking:,} without a picture" if lacking else ""
