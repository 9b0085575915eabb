"""Who asks for the works: threads of this process, or the workers of a Dask cluster. Neither keeps anything."""

from collections.abc import Generator, Sequence
from typing import Protocol

from atelier.catalog import Work
from atelier.fetching import PASSING, Answer

PATIENCE = 50  # works in a row that a site fails to give before it is left alone


class Engine(Protocol):
    """Asks for works, each once, and gives what each of them gave; the same whatever the engine."""

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """The answers in any order, as they come; whoever closes the iterator early stops the asking.

        Raises AtelierError where nobody is left to ask.
        """


class InVain:
    """Counts the works in a row that a site failed to give."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, answer: Answer) -> bool:
        """Whether patience ends with this one."""
        status = answer.arrival.status
        self._count = self._count + 1 if status in (*PASSING, "not-an-image") else 0
        return self._count == PATIENCE
