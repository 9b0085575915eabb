"""URLs that brought no result during a harvest, by cause, and an estimate of what completing a cut list costs."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from atelier.errors import AtelierError, TransientError
from atelier.web.rate_limit import BudgetSpent
from atelier.web.response import FetchError
from atelier.web.robots import RobotsRefused
from atelier.wikiart.cached_client import NotFound

T = TypeVar("T")
Failure = NotFound | FetchError | BudgetSpent
FAILURES = (NotFound, FetchError, BudgetSpent)
MAX_FAILURES_IN_A_ROW = 3
WORKS_PER_ARTIST = 39  # 223,095 works of 5,755 artists


def attempt(request: Callable[[], T]) -> T | Failure:
    """Return the result of `request`, or the failure that it raises."""
    try:
        return request()
    except FAILURES as failure:
        return failure


def stop_error(failure: FetchError, message: str) -> AtelierError:
    """The error that ends a harvest because of `failure`: a TransientError if that is one."""
    kind = TransientError if isinstance(failure, TransientError) else AtelierError
    return kind(f"{message}; what arrived is kept: run again to go on")


class FailureLog:
    """The failures of one harvest."""

    def __init__(self) -> None:
        self.permanent: list[str] = []  # URL and reason; not requested again at this snapshot
        self.temporary: list[str] = []  # URL and reason; requested again by the next run
        self.not_requested: Counter[str] = Counter()  # what the budget did not allow
        self.refused_by_robots = 0  # of the permanent ones
        self.unconfirmed = 0  # of the permanent ones: redirects that may be a failure of the site
        self.stopped_by: AtelierError | None = None
        self._budget_spent: BudgetSpent | None = None
        self._in_a_row = 0

    def add(self, failure: Failure, path: str, what: str, count: int = 1) -> None:
        """Record a failed request of `path` for `count` of `what`. Raises AtelierError if the site keeps failing."""
        if isinstance(failure, BudgetSpent):
            self._budget_spent = failure
            self.not_requested[what] += count
        elif isinstance(failure, NotFound | RobotsRefused):
            self.permanent.append(f"{path}: {failure if isinstance(failure, NotFound) else failure.reason}")
            self.refused_by_robots += isinstance(failure, RobotsRefused)
        else:
            self.temporary.append(f"{path}: {failure.reason}")
            self._in_a_row += 1
            if self._in_a_row == MAX_FAILURES_IN_A_ROW:
                self.stopped_by = stop_error(failure, f"{failure}; {MAX_FAILURES_IN_A_ROW} failures in a row")
                raise self.stopped_by

    def add_success(self) -> None:
        """Record a request that succeeded: the failures before it are no longer in a row."""
        self._in_a_row = 0

    def notes(self) -> list[str]:
        """Sentences for the notes of the coverage report."""
        notes = self.incomplete_because()
        if self.permanent:
            notes.append(f"{_addresses(len(self.permanent))} without an answer at this site")
        return notes

    def incomplete_because(self) -> list[str]:
        """Sentences on why works may be missing; empty if everything was requested."""
        reasons = []
        if self._budget_spent:
            left = ", ".join(f"{count:,} {what}" for what, count in sorted(self.not_requested.items()))
            reasons.append(f"not asked: {left}; {self._budget_spent}")
        if self.refused_by_robots:
            reasons.append(f"{_addresses(self.refused_by_robots)} closed to robots by the site's own rules")
        if self.unconfirmed:
            reasons.append(f"{_addresses(self.unconfirmed)} redirected elsewhere: the next run asks again")
        if self.stopped_by:
            reasons.append(str(self.stopped_by))
        elif self.temporary:
            reasons.append(f"{_addresses(len(self.temporary))} failed this time: the next run asks again")
        return reasons


def _addresses(count: int) -> str:
    return f"{count:,} address{'es' if count != 1 else ''}"


def describe_cost(
    query: str,
    *,
    listed: int,
    claimed: int | None,
    cutoff_year: int | None,
    artists: int,
    rate_per_s: float,
    free_only: bool,
) -> str:
    """A sentence on how a list was cut, what completing it through `artists` artists takes, and how to shorten that.

    The number of requests is estimated from WikiArt's averages; the size of an oeuvre is known after it is requested.
    """
    beyond = max((claimed or 0) - listed, 0)
    requests = artists + max(artists * WORKS_PER_ARTIST, beyond) + (beyond if free_only else 0)
    of = f" of {claimed:,}" if claimed else ""
    which = f" that is undated or from {cutoff_year} on" if cutoff_year is not None else ""
    return (
        f"{query}: its list ends after {listed:,}{of} works, the earliest; the others are looked for among the works "
        f"of {artists:,} artists, each{which} asked for by itself. At WikiArt's {WORKS_PER_ARTIST} works an artist "
        f"that is up to {requests:,} requests, {requests / rate_per_s / 3600:,.1f} hours at the set rate. What "
        "arrives is kept, so it may be stopped and goes on; scrape.wikiart.limit and "
        "scrape.wikiart.max_requests make it shorter"
    )
