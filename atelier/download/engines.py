"""How many works are fetched at once: threads of this process, one by one, or processes of this machine.

The engine of several machines is in engines_dask.py; the processes of both engines fetch shards with `fetch_shard`.
"""

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from itertools import islice
from multiprocessing import TimeoutError
from multiprocessing.connection import Connection
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Protocol

from PIL import features

import atelier
from atelier.data.catalog import Work
from atelier.download.arrivals import Limits
from atelier.download.fetch import SITE_FAILURES, Outcome, fetch_work
from atelier.download.sources import Source, SourceSpec, is_from_site
from atelier.errors import AtelierError
from atelier.web.limits import Stopped

MAX_FAILURES_IN_A_ROW = 50  # works that a site fails to give before it gets no more requests
WORKS_PER_SHARD, WORKS_PER_LIMITED_SHARD = 64, 8  # without and with a rate limit: what a kill may cost
CANCEL_POLL_S = 0.3
GO_ON = "what has arrived is kept, and `dvc repro` goes on from there"


class Engine(Protocol):
    """Fetches works, each once. The outcomes are the same with every engine."""

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        """Yield works and their outcomes, in any order. Closing the generator early stops the fetching.

        Raises AtelierError if no worker is left.
        """


@dataclass(frozen=True)
class Threads:
    """`workers` threads that share one source."""

    source: Source
    limits: Limits
    workers: int

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        """See Engine."""

        def fetch(work: Work) -> tuple[Work, Outcome]:
            return work, fetch_work(work, self.source, self.limits)

        try:
            # its threads are daemons, so a stopped stage does not wait for the slowest of them
            with ThreadPool(min(self.workers, len(works) or 1)) as pool:
                yield from pool.imap_unordered(fetch, works)
        finally:
            self.source.stop()


@dataclass(frozen=True)
class OneByOne:
    """One work after the other, at a quarter of the rate: for works that failed at the full rate."""

    spec: SourceSpec
    limits: Limits

    SLOWDOWN = 4

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        """See Engine."""
        if not works:
            return
        rate_per_s = self.spec.rate_per_s
        with self.spec.with_rate(rate_per_s and rate_per_s / self.SLOWDOWN).open() as source:
            for work in works:
                yield work, fetch_work(work, source, self.limits)


@dataclass(frozen=True)
class Processes:
    """A process for each core, for sources without a rate limit, where decoding takes the time.

    `workers` is the number of works that are fetched at once by all processes together.
    """

    spec: SourceSpec
    limits: Limits
    workers: int

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        """See Engine. Raises AtelierError if a process dies."""
        size = WORKS_PER_SHARD if self.spec.rate_per_s is None else WORKS_PER_LIMITED_SHARD
        shards = [works[start : start + size] for start in range(0, len(works), size)]
        if not shards:
            return
        processes, rate_per_s = split_rate(self.spec.rate_per_s, min(os.cpu_count() or 1, self.workers, len(shards)))
        threads = max(1, self.workers // processes)
        job = ShardJob(self.spec.with_rate(rate_per_s), self.limits, threads, code_version())
        spawn = multiprocessing.get_context("spawn")  # a forked process inherits locks that are never released
        parent_ends, held = spawn.Pipe(duplex=False)  # `held` closes with this process, also if it is killed
        pool = ProcessPoolExecutor(processes, spawn, _start_worker, (parent_ends,))
        waiting = iter(shards)
        running: dict[Future[list[Outcome]], Sequence[Work]] = {}
        try:
            while True:
                # two for each process, so that none waits for its next shard
                for shard in islice(waiting, 2 * processes - len(running)):
                    running[pool.submit(fetch_shard, shard, job)] = shard
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    # fewer outcomes than works after too many failures in a row
                    yield from zip(running.pop(future), future.result(), strict=False)
        except BrokenProcessPool:
            raise AtelierError(
                f"a process of download.engine: processes died; {GO_ON}. If the machine runs out of memory, "
                "lower download.workers"
            ) from None
        finally:
            held.close()
            pool.shutdown(wait=False, cancel_futures=True)
            parent_ends.close()


class FailureStreak:
    """Counts the works in a row that a site failed to give.

    A page in place of a picture counts as a failure; in a folder, a file that is no picture does not.
    """

    def __init__(self) -> None:
        self._count = 0

    def add(self, work: Work, outcome: Outcome) -> bool:
        """Count one outcome; return whether it is the MAX_FAILURES_IN_A_ROWth failure in a row."""
        status = outcome.arrival.status
        is_page = status == "not-an-image" and is_from_site(work)
        failed = is_page or (status in SITE_FAILURES and not outcome.is_final)  # a final refusal is the picture's
        self._count = self._count + 1 if failed else 0
        return self._count == MAX_FAILURES_IN_A_ROW


def split_rate(rate_per_s: float | None, processes: int) -> tuple[int, float | None]:
    """Divide a rate among at most `processes`; returns their number and the rate of each (None: no limit).

    Each rate is a whole number, so that in no second the sum exceeds the rate. There are fewer processes where that
    would lose more than a tenth of the rate.
    """
    if rate_per_s is None:
        return processes, None
    for count in range(min(processes, int(rate_per_s)), 1, -1):
        if count * (rate_per_s // count) >= 0.9 * rate_per_s:
            return count, rate_per_s // count
    return 1, rate_per_s


@dataclass(frozen=True)
class ShardJob:
    """What all shards have in common: the source, the limits, the threads of each process, and the code's version."""

    spec: SourceSpec
    limits: Limits
    threads: int
    code_version: str


def fetch_shard(
    works: Sequence[Work], job: ShardJob, is_cancelled: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """Fetch works in a worker process; returns their outcomes in order.

    There are fewer outcomes than works if the site failed too often in a row, or `is_cancelled` returns true.
    """
    if job.code_version != code_version():
        raise AtelierError(
            "a worker has other code than the stage, so its pictures might be other bytes: "
            f"{code_version()} there, {job.code_version} here. Install the same versions on every machine"
        )
    source, pool = _worker_source(job)
    if job.spec.rate_per_s:  # shards that follow one another keep the rate, in whichever process they are
        time.sleep(1 / job.spec.rate_per_s)
    ended = threading.Event()

    def fetch(work: Work) -> Outcome:
        if ended.is_set():
            raise Stopped("the shard is over")
        return fetch_work(work, source, job.limits)

    if job.threads == 1:  # handing works to a pool of one thread would take as long as verifying them
        next_outcome: Callable[[], Outcome] = map(fetch, works).__next__
    else:
        next_outcome = partial(pool.imap(fetch, works).next, timeout=CANCEL_POLL_S)
    outcomes: list[Outcome] = []
    streak = FailureStreak()
    try:
        while len(outcomes) < len(works):
            with suppress(TimeoutError):
                outcomes.append(next_outcome())
                if streak.add(works[len(outcomes) - 1], outcomes[-1]):
                    break
            if is_cancelled():
                break
    finally:
        ended.set()
    return outcomes


_open_sources = ExitStack()  # closed when the process ends
_worker_sources: dict[ShardJob, tuple[Source, ThreadPool]] = {}
_worker_sources_lock = threading.Lock()


def _worker_source(job: ShardJob) -> tuple[Source, ThreadPool]:
    """This process's source and threads, kept from shard to shard with their rate limits and connections."""
    with _worker_sources_lock:
        if job not in _worker_sources:
            source = _open_sources.enter_context(job.spec.open())
            _worker_sources[job] = source, ThreadPool(job.threads)
        return _worker_sources[job]


@cache
def code_version() -> str:
    """What decides a picture's bytes and its status: this package's code, and the packages that decode."""
    libraries = {
        "Pillow": features.version("pil"),
        **{name: features.version(name) for name in ("jpg", "webp", "avif", "libtiff", "littlecms2")},
        **{name: _package_version(name) for name in ("numpy", "pillow-heif", "pyvips", "pyvips-binary")},
    }
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in libraries.items())
    return f"Atelier {atelier.__version__} ({code_digest(Path(atelier.__file__).parent)}), {versions}"


def code_digest(directory: Path) -> str:
    """The first digits of a SHA-256 over the paths and contents of all Python files below `directory`."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(directory).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _package_version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _start_worker(parent_ends: Connection) -> None:
    """Prepare a worker process: it ignores Ctrl-C, which is the stage's, and ends when the stage ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent_ends,), daemon=True).start()


def _end_with_parent(parent_ends: Connection) -> None:
    parent_ends.poll(None)  # nothing is ever sent: it returns when the parent's end is closed
    os._exit(0)
