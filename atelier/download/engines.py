"""Who asks for the works: threads of this process, other processes, or a Dask cluster. None keeps anything."""

from collections.abc import Generator, Sequence
from typing import Protocol

from atelier.data.catalog import Work
from atelier.download.fetching import PASSING, Answer
from atelier.download.sources import is_of_site

GO_ON = "what has arrived is kept, and `dvc repro` goes on from there"
PATIENCE = 50  # works in a row that a site fails to give before it is left alone


class Engine(Protocol):
    """Asks for works, each once, and gives what each of them gave; the same whatever the engine."""

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """The answers in any order, as they come; whoever closes the iterator early stops the asking.

        Raises AtelierError where nobody is left to ask.
        """


class InVain:
    """Counts the works in a row that the source failed to give.

    A page in the place of a picture counts where a site gave it. A file of a folder that is no picture does not: that
    is the file's own fault, and the next one may be a picture.
    """

    def __init__(self) -> None:
        self._count = 0

    def add(self, work: Work, answer: Answer) -> bool:
        """Count one more answer, and return whether as many as PATIENCE have failed in a row."""
        status = answer.arrival.status
        page = status == "not-an-image" and is_of_site(work)
        failed = page or (status in PASSING and not answer.lasts)  # lasting: a picture's refusal
        self._count = self._count + 1 if failed else 0
        return self._count == PATIENCE


def shares(rate_per_s: float | None, processes: int) -> tuple[int, float | None]:
    """Into how many lanes a rate is divided, and the rate of each; None is no limit.

    A lane's rate is a whole number, so that no second sees more than the set rate in sum; as many lanes as there are
    processes, or fewer where the rate would lose more than a tenth by that.
    """
    if rate_per_s is None:
        return processes, None
    for lanes in range(min(processes, int(rate_per_s)), 1, -1):
        if lanes * (rate_per_s // lanes) >= 0.9 * rate_per_s:
            return lanes, rate_per_s // lanes
    return 1, rate_per_s
