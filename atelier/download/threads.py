"""The engines of one process: threads that share one source and its pace, or one work after the other, slowly."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool

from atelier.data.catalog import Work
from atelier.download.arrivals import Limits
from atelier.download.fetching import Answer, ask
from atelier.download.openings import Opening
from atelier.download.sources import Source


@dataclass(frozen=True)
class Threads:
    """So many threads, each at one work at a time."""

    source: Source
    limits: Limits
    workers: int

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine."""

        def asked(work: Work) -> tuple[Work, Answer]:
            return work, ask(work, self.source, self.limits)

        try:
            # its threads are daemons: a stopped stage does not wait for the slowest of them
            with ThreadPool(min(self.workers, len(works) or 1)) as pool:
                yield from pool.imap_unordered(asked, works)
        finally:
            self.source.stop()


@dataclass(frozen=True)
class OneByOne:
    """One work after the other, at a quarter of the set rate: for works that failed when they were asked for faster."""

    opening: Opening
    limits: Limits

    SLOWER = 4

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine."""
        if not works:
            return
        rate_per_s = self.opening.rate_per_s
        with self.opening.slowed(rate_per_s and rate_per_s / self.SLOWER).opened() as source:
            for work in works:
                yield work, ask(work, source, self.limits)
