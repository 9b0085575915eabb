"""What did not come, and why: for good, this time, or because the budget did not allow to ask."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from atelier.errors import AtelierError, PassingError
from atelier.web.budget import BudgetSpent
from atelier.web.client import FetchError, RobotsRefused
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
    kind = PassingError if isinstance(miss, PassingError) else AtelierError
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
