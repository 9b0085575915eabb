"""The engine of one machine's cores: a process each, for sources that set no pace, where decoding is what takes time.

Each process asks at its share of the set rate. What a kill may cost are the shards under way, of a few works each.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection

from atelier.data.catalog import Work
from atelier.download.arrivals import Limits
from atelier.download.engines import GO_ON, shares
from atelier.download.fetching import Answer
from atelier.download.openings import Opening
from atelier.download.shard import Order, bring, code
from atelier.errors import AtelierError

WORKS_PER_SHARD, WORKS_PER_PACED_SHARD = 64, 8


@dataclass(frozen=True)
class Processes:
    """`workers` is how many works are under way at once, in all processes together."""

    opening: Opening
    limits: Limits
    workers: int

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine. Raises AtelierError where a process dies."""
        size = WORKS_PER_SHARD if self.opening.rate_per_s is None else WORKS_PER_PACED_SHARD
        shards = [works[at : at + size] for at in range(0, len(works), size)]
        if not shards:
            return
        most = min(os.cpu_count() or 1, self.workers, len(shards))
        lanes, rate_per_s = shares(self.opening.rate_per_s, most)
        order = Order(self.opening.slowed(rate_per_s), self.limits, max(1, self.workers // lanes), code())
        spawning = multiprocessing.get_context(
            "spawn"
        )  # a forked process inherits locks that nobody releases
        watched, held = spawning.Pipe(duplex=False)  # closes with us, also where we are killed
        pool = ProcessPoolExecutor(lanes, spawning, _begin, (watched,))
        waiting = iter(shards)
        under_way: dict[Future[list[Answer]], Sequence[Work]] = {}
        try:
            while True:
                for shard in islice(
                    waiting, 2 * lanes - len(under_way)
                ):  # one each in hand, one each to go on with
                    under_way[pool.submit(_bring, shard, order)] = shard
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield from zip(
                        under_way.pop(future), future.result(), strict=False
                    )  # fewer where patience ended
        except BrokenProcessPool:
            raise AtelierError(
                f"a process of download.engine: processes died; {GO_ON}: does the machine run out of memory? "
                "download.workers may be lower"
            ) from None
        finally:
            held.close()
            pool.shutdown(wait=False, cancel_futures=True)
            watched.close()


def _begin(watched: Connection) -> None:
    """In a new worker: Ctrl-C is the stage's, and its end is ours, whatever we wait for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_stage, args=(watched,), daemon=True).start()


def _end_with_stage(watched: Connection) -> None:
    watched.poll(None)  # nothing is ever sent
    os._exit(0)


def _bring(works: Sequence[Work], order: Order) -> list[Answer]:
    return bring(works, order, unwanted=lambda: False)
