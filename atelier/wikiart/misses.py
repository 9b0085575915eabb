"""Addresses that gave no answer during a harvest, and what completing a cut list costs."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from atelier.errors import AtelierError, TransientError
from atelier.web.rate_limit import BudgetSpent
from atelier.web.response import FetchError
from atelier.web.robots import RobotsRefused
from atelier.wikiart.asking import Gone

T = TypeVar("T")

Miss = Gone | FetchError | BudgetSpent

MISSES = (Gone, FetchError, BudgetSpent)

PATIENCE = 3  # failures in a row after which the site is left alone


def attempt(ask: Callable[[], T]) -> T | Miss:
    """What `ask` returns, or why it does not."""
    try:
        return ask()
    except MISSES as miss:
        return miss


def given_up(miss: FetchError, sentence: str) -> AtelierError:
    """For raising where the harvest ends here, this time; whether that passes is up to the `miss`."""
    kind = TransientError if isinstance(miss, TransientError) else AtelierError
    return kind(f"{sentence}; what arrived is kept: run again to go on")


class Misses:
    """The account of one harvest."""

    def __init__(self) -> None:
        self.for_good: list[str] = []
        self.this_time: list[str] = []
        self.not_asked: Counter[str] = Counter()
        self.refused_by_robots = 0  # of those for good
        self.unconfirmed = 0  # of those for good: the site may only have been in trouble
        self.gave_up: AtelierError | None = None
        self._spent: BudgetSpent | None = None
        self._in_a_row = 0

    def note(self, miss: Miss, path: str, what: str, count: int = 1) -> None:
        """Count what `path` was to be asked for. Raises AtelierError where the site keeps failing."""
        if isinstance(miss, BudgetSpent):
            self._spent = miss
            self.not_asked[what] += count
        elif isinstance(miss, Gone | RobotsRefused):
            self.for_good.append(f"{path}: {miss if isinstance(miss, Gone) else miss.reason}")
            self.refused_by_robots += isinstance(miss, RobotsRefused)
        else:
            self.this_time.append(f"{path}: {miss.reason}")
            self._in_a_row += 1
            if self._in_a_row == PATIENCE:
                self.gave_up = given_up(miss, f"{miss}; {PATIENCE} failures in a row")
                raise self.gave_up

    def none(self) -> None:
        """An answer came: the site is there."""
        self._in_a_row = 0

    def sentences(self) -> list[str]:
        """For the notes of the coverage report."""
        said = self.incomplete()
        if self.for_good:
            said.append(f"{_addresses(len(self.for_good))} without an answer at this site")
        return said

    def incomplete(self) -> list[str]:
        """Why works may be missing."""
        said = []
        if self._spent:
            left = ", ".join(f"{count:,} {what}" for what, count in sorted(self.not_asked.items()))
            said.append(f"not asked: {left}; {self._spent}")
        if self.refused_by_robots:
            said.append(f"{_addresses(self.refused_by_robots)} closed to robots by the site's own rules")
        if self.unconfirmed:
            said.append(f"{_addresses(self.unconfirmed)} redirected elsewhere: the next run asks again")
        if self.gave_up:
            said.append(str(self.gave_up))
        elif self.this_time:
            said.append(f"{_addresses(len(self.this_time))} failed this time: the next run asks again")
        return said


def _addresses(count: int) -> str:
    return f"{count:,} address{'es' if count != 1 else ''}"


WORKS_PER_ARTIST = 39  # 223,095 works of 5,755 artists


def announcement(
    asked: str,
    *,
    shown: int,
    claimed: int | None,
    edge: int | None,
    artists: int,
    rate_per_s: float,
    free_only: bool,
) -> str:
    """What was cut, what completing it takes, and what makes it shorter. `artists` are those that will be asked for.

    The number of requests is one of WikiArt's means: an oeuvre's size is known when it has been asked for.
    """
    beyond = max((claimed or 0) - shown, 0)
    requests = artists + max(artists * WORKS_PER_ARTIST, beyond) + (beyond if free_only else 0)
    of = f" of {claimed:,}" if claimed else ""
    which = f" that is undated or from {edge} on" if edge is not None else ""
    return (
        f"{asked}: its list ends after {shown:,}{of} works, the earliest; the others are looked for among the works "
        f"of {artists:,} artists, each{which} asked for by itself. At WikiArt's {WORKS_PER_ARTIST} works an artist "
        f"that is up to {requests:,} requests, {requests / rate_per_s / 3600:,.1f} hours at the set rate. What "
        "arrives is kept, so it may be stopped and goes on; scrape.wikiart.limit and "
        "scrape.wikiart.max_requests make it shorter"
    )
