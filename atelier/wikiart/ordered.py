"""Work for many threads whose results come in the order in which it was given. Knows nothing of what it is."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 8  # begun before the first of them is taken


def in_order(
    threads: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S]
) -> Generator[T, None, None]:
    """`work` of each item, at most AHEAD of them beyond the one that is taken; those are finished in any case."""
    coming = iter(items)
    begun: deque[Future[T]] = deque(threads.submit(work, item) for item in islice(coming, AHEAD))
    try:
        while begun:
            value = begun.popleft().result()
            begun.extend(threads.submit(work, item) for item in islice(coming, 1))
            yield value
    finally:
        wait(begun)  # a caller that has enough leaves: what was asked is the same every time
