"""Many pictures, politely and resumably: one counted status a work. What one picture takes is fetching.py's."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atelier.catalog import Work
from atelier.download.account import STATUSES, Entry
from atelier.download.arrivals import Arrival, Arrivals
from atelier.download.duplicates import settled
from atelier.download.engines import PATIENCE, Engine, InVain
from atelier.download.fetching import key_of
from atelier.download.sources import Source
from atelier.errors import AtelierError, PassingError
from atelier.progress import Progress
from atelier.shards import Item


def download(
    works: Sequence[Work], source: Source, arrivals: Arrivals, engine: Engine, progress: Progress
) -> list[Entry]:
    """Bring every work into `arrivals` and return its entry, sorted by id: as many entries as works.

    Raises AtelierError where a site gives nothing any more, where the disk is full, or where no picture is left;
    what has arrived stays in `arrivals` in any case.
    """
    tally, lacking = _Tally(), []
    for work in works:
        if kept := arrivals.load(key_of(work, source)):
            tally.add(work, kept)
        else:
            lacking.append(work)
    progress.resumed(len(tally.entries), tally)
    in_vain = InVain()
    with full_disk_explained(arrivals.path), closing(engine.run(lacking)) as answered:
        for work, answer in answered:
            if answer.lasts:
                arrivals.save(key_of(work, source), answer.arrival)
            entry = tally.add(work, answer.arrival)
            if in_vain.add(answer):
                raise (PassingError if entry.status == "error" else AtelierError)(
                    f"the source failed {PATIENCE} works in a row, the last one {entry.id}: {entry.reason}. "
                    f"The {tally.counts['ok']:,} pictures that have arrived are kept: try again later"
                )
            progress.advance(1, tally)
    return settled(tally.entries, works)


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


class _Tally:
    """What became of the works so far."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self._bytes = 0

    def add(self, work: Work, arrival: Arrival) -> Entry:
        entry = arrival.entry(work.id)
        self.entries.append(entry)
        self.counts[entry.status] += 1
        self._bytes += arrival.came_bytes
        return entry

    def __str__(self) -> str:
        """The bytes that came, and how many works gave no picture for which reason."""
        lacking = (f"{self.counts[status]:,} {status}" for status in STATUSES[1:] if self.counts[status])
        return ", ".join((f"{self._bytes / 1e6:,.1f} MB", *lacking))
