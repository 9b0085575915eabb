"""Many pictures, politely and resumably: one counted status a work. What one picture takes is fetching.py's."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

from atelier.account import Entry
from atelier.arrivals import Arrivals
from atelier.catalog import Work
from atelier.errors import AtelierError
from atelier.fetching import PASSING, ask, key_of
from atelier.progress import Progress
from atelier.shards import Item
from atelier.sources import Source

PATIENCE = 50  # works in a row that a site fails to give before it is left alone


def download(
    works: Sequence[Work], source: Source, arrivals: Arrivals, workers: int, progress: Progress
) -> list[Entry]:
    """Bring every work into `arrivals` and return its entry, sorted by id: as many entries as works.

    Raises AtelierError where a site gives nothing any more, where the disk is full, or where no picture is left;
    what has arrived stays in `arrivals` in any case.
    """

    def bring(work: Work) -> Entry:
        key = key_of(work, source)
        arrival = arrivals.load(key)
        if arrival is None:
            arrival, lasts = ask(work, source, arrivals.limits)
            if lasts:
                arrivals.save(key, arrival)
        return arrival.entry(work.id)

    entries: list[Entry] = []
    counts: Counter[str] = Counter()
    in_vain = 0
    try:
        # its threads are daemons: a stopped stage does not wait for the slowest of them
        with full_disk_explained(arrivals.path), ThreadPool(min(workers, len(works) or 1)) as pool:
            for entry in pool.imap_unordered(bring, works):
                entries.append(entry)
                counts[entry.status] += 1
                in_vain = in_vain + 1 if entry.status in (*PASSING, "not-an-image") else 0
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
            arrival = arrivals.load(key_of(by_id[entry.id], source))
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
