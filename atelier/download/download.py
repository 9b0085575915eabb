"""Downloading a catalog's pictures, from the first request to one record for each work, and printing their account.

`download` has the whole course; fetch.py has one picture, engines.py the threads and processes, arrivals.py what is
kept from run to run, and sources.py where pictures come from.
"""

import errno
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from atelier.data.catalog import STATUSES, DownloadRecord, Work
from atelier.data.duplicates import LOOKS_LIKE_PREFIX, mark_duplicates
from atelier.data.shards import Item
from atelier.download.arrivals import Arrival, Arrivals
from atelier.download.engines import MAX_FAILURES_IN_A_ROW, Engine, FailureStreak
from atelier.download.fetch import Outcome, arrival_key, is_temporary_failure
from atelier.download.sources import Source, is_from_site
from atelier.errors import AtelierError, TransientError, counted, format_size
from atelier.progress import Progress
from atelier.text import clean, printable

# responses in a row that are no images: more of them (a page for maintenance) say nothing about the works
MAX_PAGES_IN_A_ROW = 5
MAX_FAILED_RATIO = 0.01  # of all works, with temporary failures: a data set is not made of less
MAX_EXAMPLES = 3  # works shown for each status
MAX_REASON_CHARS = 160  # downloads.parquet has the whole reason
# of works with status ok that are counted a second time
LOOK_ALIKE = "look-alike"  # similar to another picture
NOTED = "noted"  # with a note on colours or pages


def download(
    works: Sequence[Work], source: Source, arrivals: Arrivals, engine: Engine, retry_engine: Engine, progress: Progress
) -> tuple[list[DownloadRecord], int]:
    """Fetch every work that is not in `arrivals` yet, and keep it there.

    Returns the records of all works, sorted by id, and the number of those that the next run fetches again. Raises
    TransientError if more than MAX_FAILED_RATIO of the works fail temporarily or the source fails many works in a
    row; AtelierError if it refuses many in a row, or the disk is full. What has arrived is kept in any case.
    """
    # 1. what has arrived in earlier runs
    run = _Run(works, source, arrivals)
    missing = [work for work in works if not run.load(work)]
    progress.count_resumed(len(works) - len(missing), run.account)

    # 2. all others
    streak = FailureStreak()
    for work, outcome in run.fetch(engine, missing):
        if streak.add(work, outcome):
            raise (TransientError if outcome.arrival.status == "error" else AtelierError)(
                f"the source failed {MAX_FAILURES_IN_A_ROW} works in a row, the last one {work.id}: "
                f"{outcome.arrival.reason}. {run.account.kept()}: try again later"
            )
        progress.advance(1, run.account)

    # 3. what failed once more, slowly, as long as there is a chance to stay below the limit
    max_failed = MAX_FAILED_RATIO * len(works)
    failed = sorted((work for work in missing if work.id in run.failed), key=lambda work: work.id)
    streak, failed_again = FailureStreak(), 0
    for work, outcome in run.fetch(retry_engine, failed):
        failed_again += is_temporary_failure(outcome)
        if streak.add(work, outcome) or failed_again > max_failed:
            break

    # 4. too many failures, or the records
    temporary = {id: outcome for id, outcome in run.failed.items() if is_temporary_failure(outcome)}
    if len(temporary) > max_failed:
        id, outcome = next(iter(temporary.items()))
        raise TransientError(
            f"{len(temporary):,} of {counted(len(works), 'work')} failed, even after a second attempt, "
            f"for example {id}: {outcome.arrival.reason}. {run.account.kept()}, but no data set "
            f"is made while more than {MAX_FAILED_RATIO:.0%} of the works fail: try again later"
        )
    return mark_duplicates([*run.account.records.values()], works), len(run.failed)


def shard_items(
    works: Sequence[Work], records: Sequence[DownloadRecord], source: Source, arrivals: Arrivals
) -> Iterator[Item]:
    """Yield the pictures with status "ok" for the shards, sorted by id."""
    by_id = {work.id: work for work in works}
    for record in sorted(records, key=lambda record: record.id):
        if record.status == "ok":
            arrival = arrivals.load(arrival_key(by_id[record.id], source))
            if arrival is None or arrival.sha256 != record.sha256:
                raise AtelierError(
                    f"{arrivals.path}: the picture {record.id} was replaced meanwhile: run `dvc repro` again"
                )
            yield Item(record.id, arrival.extension, arrival.content)


@contextmanager
def full_disk_explained(kept: Path) -> Iterator[None]:
    """Raise AtelierError in place of an OSError for a full disk; `kept` is the file of what has arrived."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AtelierError(
            f"the disk is full; what has arrived is kept in {kept}: free some space, then `dvc repro` goes on"
        ) from None


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One status: its works, the bytes of their pictures, and a few examples."""

    status: str
    works: int
    bytes: int
    examples: tuple[str, ...]


def print_account(records: Iterable[DownloadRecord], console: Console | None = None) -> None:
    """Print the account by status to `console`, by default standard output: a table on a terminal, lines in a log."""
    console = console or Console(soft_wrap=True, highlight=False)
    table = Table("status", Column("works", justify="right"), Column("bytes", justify="right"), "for example")
    for row in account_rows(records):
        size = format_size(row.bytes)
        if console.is_terminal:
            table.add_row(row.status, f"{row.works:,}", size, Text("\n".join(row.examples)))
            continue
        console.print(f"{row.status:<13}{row.works:>8,}{size:>12}".rstrip(), markup=False)
        for example in row.examples:
            console.print(f"{'':23}{example}", markup=False)
    if console.is_terminal:
        console.print(table, soft_wrap=False)


def account_rows(records: Iterable[DownloadRecord]) -> list[StatusRow]:
    """The statuses that occur, in the order of STATUSES, with their first works by id."""
    groups: defaultdict[str, list[DownloadRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.id):
        groups[record.status].append(record)
        if record.status == "ok" and record.reason:
            groups[LOOK_ALIKE if record.reason.startswith(LOOKS_LIKE_PREFIX) else NOTED].append(record)
    rows = []
    for name in (STATUSES[0], LOOK_ALIKE, NOTED, *STATUSES[1:]):
        if group := groups[name]:
            size = sum(record.bytes or 0 for record in group) if name != "duplicate" else 0
            rows.append(StatusRow(name, len(group), size, tuple(map(_example, group[:MAX_EXAMPLES]))))
    return rows


def _example(record: DownloadRecord) -> str:
    """A work's id and reason, without control characters: a reason may quote a site's response."""
    reason = printable(record.reason)
    if len(reason) > MAX_REASON_CHARS:
        reason = f"{reason[:MAX_REASON_CHARS]}…"
    return f"{clean(record.id)}: {reason}" if reason else clean(record.id)


class _Run:
    """The state of one download: its account, and in `failed` the latest outcomes that are not final, by work id."""

    def __init__(self, works: Sequence[Work], source: Source, arrivals: Arrivals) -> None:
        self.account = _Account()
        self.failed: dict[str, Outcome] = {}
        self._arrivals = arrivals
        self._keys = {work.id: arrival_key(work, source) for work in works}
        arrivals.mark_used(self._keys.values())

    def load(self, work: Work) -> bool:
        """Count the arrival of an earlier run; return whether there is one."""
        arrival = self._arrivals.load(self._keys[work.id])
        if arrival:
            self.account.add(work, arrival)
        return arrival is not None

    def fetch(self, engine: Engine, works: Sequence[Work]) -> Iterator[tuple[Work, Outcome]]:
        """Fetch works, keep the final outcomes, and yield each outcome after it is counted."""
        pages: dict[str, Outcome] = {}  # by work id, in a row: a picture after them shows that the site works
        has_given_pictures = False
        with closing(engine.run(works)) as outcomes:
            for work, outcome in outcomes:
                if outcome.arrival.status == "not-an-image" and is_from_site(work):
                    pages[work.id] = outcome
                    is_final = outcome.is_final and len(pages) <= MAX_PAGES_IN_A_ROW
                    outcome = outcome._replace(is_final=is_final)
                elif outcome.is_final:
                    self._arrivals.save(self._keys[work.id], outcome.arrival)
                if outcome.arrival.status == "ok":
                    has_given_pictures = True
                    self._settle_pages(pages, has_given_pictures)
                self.account.add(work, outcome.arrival)
                if outcome.is_final:
                    self.failed.pop(work.id, None)
                else:
                    self.failed[work.id] = outcome
                yield work, outcome
        self._settle_pages(pages, has_given_pictures)

    def _settle_pages(self, pages: dict[str, Outcome], has_given_pictures: bool) -> None:
        """Keep pages in place of pictures if they are few and the site works; otherwise they are failures."""
        for id, outcome in pages.items():
            if outcome.is_final and has_given_pictures and len(pages) <= MAX_PAGES_IN_A_ROW:
                self._arrivals.save(self._keys[id], outcome.arrival)
            else:
                self.failed[id] = Outcome(outcome.arrival, False)
        pages.clear()


class _Account:
    """The latest record of each work; as text, the bytes received and the works without a picture by status."""

    def __init__(self) -> None:
        self.records: dict[str, DownloadRecord] = {}
        self._counts: Counter[str] = Counter()
        self._bytes = 0

    def add(self, work: Work, arrival: Arrival) -> None:
        if before := self.records.get(work.id):
            self._counts[before.status] -= 1
        record = self.records[work.id] = arrival.record(work.id)
        self._counts[record.status] += 1
        self._bytes += arrival.came_bytes

    def kept(self) -> str:
        """A sentence on the pictures that have arrived."""
        count = self._counts["ok"]
        return f"The {counted(count, 'picture')} that {'has arrived is' if count == 1 else 'have arrived are'} kept"

    def __str__(self) -> str:
        lacking = (f"{self._counts[status]:,} {status}" for status in STATUSES[1:] if self._counts[status])
        return ", ".join((f"{self._bytes / 1e6:,.1f} MB", *lacking))
