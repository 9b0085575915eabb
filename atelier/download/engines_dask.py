"""The engine of several machines: shards of works as tasks of a Dask cluster, local or at an address.

Each worker gets its share of the rate, so that all together keep to it whichever join or leave. A shard whose worker
is lost goes to another one. Dask is the extra `dask`, and is imported when a run begins: that takes a second.
"""

import logging
import os
import signal
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
from atelier.download.engines import GO_ON, WORKS_PER_SHARD, ShardJob, code_version, fetch_shard, split_rate
from atelier.download.fetch import Outcome
from atelier.download.sources import SourceSpec
from atelier.errors import AtelierError, TransientError

if TYPE_CHECKING:
    from distributed import Client, Future

TASK_RETRIES = 2  # of a shard whose task fails; requests have retries of their own
CONNECT_TIMEOUT_S = 10
NO_WORKERS_TIMEOUT_S = 30.0
POLL_S = 2.0


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster at `address`, or a local one on this machine's cores while the works are fetched.

    `workers` is the number of works that are fetched at once on all machines together; `scratch` is a folder for Dask.
    """

    spec: SourceSpec
    limits: Limits
    workers: int
    address: str | None
    scratch: Path

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        """See Engine. Raises AtelierError if Dask is not installed."""
        shards = [works[start : start + WORKS_PER_SHARD] for start in range(0, len(works), WORKS_PER_SHARD)]
        if shards:
            with self._client(len(shards)) as client:
                for shard, outcomes in self._fetch(client, shards):
                    # fewer outcomes than works after too many failures in a row
                    yield from zip(shard, outcomes, strict=False)

    def _fetch(self, client: "Client", shards: list[Sequence[Work]]) -> Iterator[tuple[Sequence[Work], list[Outcome]]]:
        self._wait_for_workers(client)
        processes, rate_per_s = split_rate(self.spec.rate_per_s, _count_workers(client))
        threads = max(1, self.workers // processes)
        job = ShardJob(self.spec.with_rate(rate_per_s), self.limits, threads, code_version())
        waiting = iter(shards)
        running: dict[Future[list[Outcome]], Sequence[Work]] = {}
        done: list[tuple[Sequence[Work], list[Outcome]]] = []
        try:
            while True:
                # never more at once than the rate was divided by, also if workers have joined since
                for shard in islice(waiting, processes - len(running)):
                    running[client.submit(_fetch_shard, shard, job, pure=False, retries=TASK_RETRIES)] = shard
                yield from done
                if not running:
                    return
                finished = self._wait_for_any(client, list(running))
                done = [(running.pop(future), _result(future)) for future in finished]
        finally:
            client.cancel(list(running))

    def _wait_for_any(self, client: "Client", futures: list["Future[list[Outcome]]"]) -> list["Future[list[Outcome]]"]:
        """Wait until at least one of `futures` is done. Raises TransientError if no worker is left."""
        from distributed import wait

        while True:
            try:
                return list(wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                self._wait_for_workers(client)
            except CancelledError:
                raise TransientError(f"{self._name} no longer answers; {GO_ON}") from None

    def _wait_for_workers(self, client: "Client") -> None:
        deadline_s = time.monotonic() + NO_WORKERS_TIMEOUT_S
        while client.status == "running" and not _count_workers(client):
            if time.monotonic() > deadline_s:
                raise TransientError(f"{self._name} has no worker; {GO_ON}")
            time.sleep(0.1)
        if client.status != "running":
            raise TransientError(f"{self._name} no longer answers; {GO_ON}")

    @contextmanager
    def _client(self, shards: int) -> Iterator["Client"]:
        """Connect to the cluster at the address, or to a new local one with no more processes than shards."""
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise AtelierError(
                "download.engine: dask needs distributed: `uv pip install 'distributed>=2026.3'` (the extra `dask`), "
                "or set download.engine: processes"
            ) from None

        with ExitStack() as stack:
            cluster: str | LocalCluster
            if self.address is None:
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=min(os.cpu_count() or 1, self.workers, shards),
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        preload=[__name__],  # see dask_setup
                        local_directory=str(self.scratch),
                        memory_limit=0,  # Dask would kill a worker for one large picture
                        silence_logs=logging.CRITICAL,
                    )
                )
            else:
                cluster = self.address
            try:
                client = Client(cluster, timeout=CONNECT_TIMEOUT_S)
            except OSError:
                raise TransientError(
                    f"no Dask scheduler answers at download.dask_address, {self.address}: start one there with "
                    "`dask scheduler`, or set null for a cluster of this machine's own"
                ) from None
            yield stack.enter_context(client)

    @property
    def _name(self) -> str:
        return f"the Dask cluster at {self.address or 'this machine'}"


def dask_setup(worker: object) -> None:
    """Make a worker process of a local cluster ignore Ctrl-C, which ends the stage and that its workers.

    Dask calls it in each new worker, because this module is the cluster's `preload`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _count_workers(client: "Client") -> int:
    return len(client.scheduler_info()["workers"])


def _result(future: "Future[list[Outcome]]") -> list[Outcome]:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise AtelierError(
            f"{error.allowed_failures + 1} workers died over the same {WORKS_PER_SHARD} works; {GO_ON}. If a machine "
            "runs out of memory, lower download.workers"
        ) from None


def _fetch_shard(works: Sequence[Work], job: ShardJob) -> list[Outcome]:
    """The task that a worker runs."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()

    def is_cancelled() -> bool:  # the stage has ended, or was stopped
        state = worker.state.tasks.get(task)
        return state is None or state.state == "cancelled"

    return fetch_shard(works, job, is_cancelled)
