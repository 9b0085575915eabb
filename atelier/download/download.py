"""Many pictures, politely and resumably: one counted status a work. What one picture takes is in fetching.py."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atelier.data.catalog import STATUSES, DownloadRecord, Work
from atelier.data.duplicates import mark_duplicates
from atelier.data.shards import Item
from atelier.download.arrivals import Arrival, Arrivals
from atelier.download.engines import PATIENCE, Engine, InVain
from atelier.download.fetch import Answer, key_of, may_pass
from atelier.download.sources import Source, is_of_site
from atelier.errors import AtelierError, TransientError
from atelier.progress import Progress
from atelier.settings.messages import counted

# answers of a site in a row that are no images; more of them (a page for maintenance) say nothing about a work
MOST_PAGES = 5
MOST_PASSING = 0.01  # of all works: with more that failed for the source's sake, there is no data set


def download(
    works: Sequence[Work],
    source: Source,
    arrivals: Arrivals,
    engine: Engine,
    second: Engine,
    progress: Progress,
    *,
    most_passing: float = MOST_PASSING,
) -> tuple[list[DownloadRecord], int]:
    """Bring every work into `arrivals` and return the entries of all works, sorted by id, and how many may yet change.

    `engine` asks for the works that have not arrived; those that fail for the source's sake are asked for once more,
    at the end, by `second`. Raises TransientError where more than the share `most_passing` of the works still fails, or
    where the source fails many works in a row; AtelierError where it refuses many in a row, or the disk is full. What
    has arrived stays in `arrivals` in any case.
    """
    keys = {work.id: key_of(work, source) for work in works}
    arrivals.name(keys.values())
    tally, lacking = _Tally(), []
    for work in works:
        if kept := arrivals.load(keys[work.id]):
            tally.add(work, kept)
        else:
            lacking.append(work)
    progress.count_resumed(len(works) - len(lacking), tally)

    failed: dict[str, Answer] = {}

    def bring(asking: Engine, wanted: Sequence[Work]) -> Iterator[tuple[Work, Answer]]:
        # in a row; the next picture, which shows that the site works, settles them
        pages: dict[str, Answer] = {}
        gives = False
        with closing(asking.run(wanted)) as answered:
            for work, answer in answered:
                if answer.arrival.status == "not-an-image" and is_of_site(work):
                    pages[work.id] = answer
                    answer = answer._replace(lasts=answer.lasts and len(pages) <= MOST_PAGES)
                elif answer.lasts:
                    arrivals.save(keys[work.id], answer.arrival)
                if answer.arrival.status == "ok":
                    gives = True
                    settle(pages, gives)
                tally.add(work, answer.arrival)
                yield work, answer
        settle(pages, gives)

    def settle(pages: dict[str, Answer], gives: bool) -> None:
        for id, answer in pages.items():
            if answer.lasts and gives and len(pages) <= MOST_PAGES:
                arrivals.save(keys[id], answer.arrival)
            else:
                failed[id] = Answer(answer.arrival, False)
        pages.clear()

    in_vain = InVain()
    for work, answer in bring(engine, lacking):
        if not answer.lasts:
            failed[work.id] = answer
        if in_vain.add(work, answer):
            raise (TransientError if answer.arrival.status == "error" else AtelierError)(
                f"the source failed {PATIENCE} works in a row, the last one {work.id}: {answer.arrival.reason}. "
                f"{_kept(tally)}: try again later"
            )
        progress.advance(1, tally)

    most = most_passing * len(works)
    again = sorted((work for work in lacking if work.id in failed), key=lambda work: work.id)
    in_vain, hopeless = InVain(), 0
    for work, answer in bring(second, again):
        failed[work.id] = answer
        hopeless += may_pass(answer)
        if answer.lasts:
            del failed[work.id]
        if in_vain.add(work, answer) or hopeless > most:
            break  # more would only tell the same
    if (passing := sum(may_pass(answer) for answer in failed.values())) > most:
        id, answer = next((id, answer) for id, answer in failed.items() if may_pass(answer))
        raise TransientError(
            f"{passing:,} of {counted(len(works), 'work')} failed, also when some were asked for once more, "
            f"for example {id}: {answer.arrival.reason}. {_kept(tally)}, but no data set "
            f"is made while more than {most_passing:.0%} of the works fail: try again later"
        )
    return mark_duplicates(tally.entries, works), len(failed)


def _kept(tally: "_Tally") -> str:
    count = tally.counts["ok"]
    if count == 1:
        return "The 1 picture that has arrived is kept"
    return f"The {count:,} pictures that have arrived are kept"


def kept_items(
    works: Sequence[Work], entries: Sequence[DownloadRecord], source: Source, arrivals: Arrivals
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
    """What became of the works so far; a later answer takes an earlier one's place."""

    def __init__(self) -> None:
        self._entries: dict[str, DownloadRecord] = {}
        self.counts: Counter[str] = Counter()
        self._bytes = 0

    @property
    def entries(self) -> list[DownloadRecord]:
        return list(self._entries.values())

    def add(self, work: Work, arrival: Arrival) -> DownloadRecord:
        if before := self._entries.get(work.id):
            self.counts[before.status] -= 1
        entry = self._entries[work.id] = arrival.entry(work.id)
        self.counts[entry.status] += 1
        self._bytes += arrival.came_bytes
        return entry

    def __str__(self) -> str:
        """The bytes that came, and how many works gave no picture for which reason."""
        lacking = (f"{self.counts[status]:,} {status}" for status in STATUSES[1:] if self.counts[status])
        return ", ".join((f"{self._bytes / 1e6:,.1f} MB", *lacking))
