"""The engine of many processes: shards of works as tasks of a Dask cluster, one of our own or one at an address.

Each worker asks at its share of the set rate, so that all of them together keep to it, whoever joins or leaves.
A shard whose worker is lost goes to another one. Dask is imported when a run begins, not before: it takes a second.
"""

import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.data.catalog import Work
from atelier.download.arrivals import Limits
from atelier.download.engines import GO_ON, Order, bring, code, dask_setup, shares
from atelier.download.fetch import Answer
from atelier.download.sources import Opening
from atelier.errors import AtelierError, TransientError

if TYPE_CHECKING:
    from distributed import Client, Future

WORKS_PER_SHARD = 64  # what a lost worker, or a kill, may cost
RETRIES = 2  # of a shard whose task fails; a work's requests have their own
CONNECT_WITHIN_S = 10
WITHOUT_WORKERS_S = 30.0  # how long a cluster that has none is waited for
LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Cluster:
    """`address` is a Dask scheduler's, or None for this machine's cores, for as long as the works take.

    `workers` is how many works are under way at once, on all machines together; `scratch` is a directory for Dask.
    """

    opening: Opening
    limits: Limits
    workers: int
    address: str | None
    scratch: Path

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine."""
        shards = [works[at : at + WORKS_PER_SHARD] for at in range(0, len(works), WORKS_PER_SHARD)]
        if shards:
            with self._client(len(shards)) as client:
                for shard, answers in self._through(client, shards):
                    yield from zip(shard, answers, strict=False)  # fewer answers where patience ended

    def _through(
        self, client: "Client", shards: list[Sequence[Work]]
    ) -> Iterator[tuple[Sequence[Work], list[Answer]]]:
        self._wait_for_workers(client)
        lanes, rate_per_s = shares(self.opening.rate_per_s, _workers(client))
        order = Order(self.opening.slowed(rate_per_s), self.limits, max(1, self.workers // lanes), code())
        waiting = iter(shards)
        under_way: dict[Future[list[Answer]], Sequence[Work]] = {}
        done: list[tuple[Sequence[Work], list[Answer]]] = []
        try:
            while True:
                # never more at once than the rate was divided by, also where workers have joined since
                for shard in islice(waiting, lanes - len(under_way)):
                    under_way[client.submit(_bring, shard, order, pure=False, retries=RETRIES)] = shard
                yield from done
                if not under_way:
                    return
                finished = self._finished(client, list(under_way))
                done = [(under_way.pop(future), _result(future)) for future in finished]
        finally:
            client.cancel(list(under_way))

    def _finished(
        self, client: "Client", futures: list["Future[list[Answer]]"]
    ) -> list["Future[list[Answer]]"]:
        """At least one of `futures`. Raises AtelierError where nobody is left to finish any."""
        from distributed import wait

        while True:
            try:
                return list(wait(futures, timeout=LOOK_EVERY_S, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                self._wait_for_workers(client)
            except CancelledError:
                raise TransientError(f"{self._name} has gone; {GO_ON}") from None

    def _wait_for_workers(self, client: "Client") -> None:
        deadline_s = time.monotonic() + WITHOUT_WORKERS_S
        while client.status == "running" and not _workers(client):
            if time.monotonic() > deadline_s:
                raise TransientError(f"{self._name} has no worker; {GO_ON}")
            time.sleep(0.1)
        if client.status != "running":
            raise TransientError(f"{self._name} has gone; {GO_ON}")

    @contextmanager
    def _client(self, shards: int) -> Iterator["Client"]:
        """A client of the cluster at the address, or of a new one with no more processes than shards."""
        from distributed import Client, LocalCluster

        with ExitStack() as stack:
            place: str | LocalCluster
            if self.address is None:
                place = stack.enter_context(
                    LocalCluster(
                        n_workers=min(os.cpu_count() or 1, self.workers, shards),
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        preload=[dask_setup.__module__],
                        local_directory=str(self.scratch),
                        memory_limit=0,  # Dask would kill a worker for one large picture
                        silence_logs=logging.CRITICAL,
                    )
                )
            else:
                place = self.address
            try:
                client = Client(place, timeout=CONNECT_WITHIN_S)
            except OSError:
                raise TransientError(
                    f"no Dask scheduler answers at download.dask_address, {self.address}: start one there with "
                    "`dask scheduler`, or set null for a cluster of this machine's own"
                ) from None
            yield stack.enter_context(client)

    @property
    def _name(self) -> str:
        return f"the Dask cluster at {self.address or 'this machine'}"


def _workers(client: "Client") -> int:
    return len(client.scheduler_info()["workers"])


def _result(future: "Future[list[Answer]]") -> list[Answer]:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise AtelierError(
            f"{error.allowed_failures + 1} workers died over the same {WORKS_PER_SHARD} works; {GO_ON}: does a machine "
            "run out of memory? download.workers may be lower"
        ) from None


def _bring(works: Sequence[Work], order: Order) -> list[Answer]:
    """The task: in a worker's process."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()

    def unwanted() -> bool:  # the stage has ended, or was stopped
        state = worker.state.tasks.get(task)
        return state is None or state.state == "cancelled"

    return bring(works, order, unwanted)
