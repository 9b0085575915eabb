"""Who asks for the works: threads of this process, other processes, or a Dask cluster. None keeps anything.

The worker's side of the Dask engine: one shard of works, asked for by threads of the worker's process.

The engines of one process: threads that share one source and its pace, or one work after the other, slowly.

The engine of one machine's cores: a process each, for sources that set no pace, where decoding is what takes time.

Each process asks at its share of the set rate. What a kill may cost are the shards under way, of a few works each.
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
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
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
from atelier.download.fetch import PASSING, Answer, ask
from atelier.download.sources import Opening, Source, is_of_site
from atelier.errors import AtelierError
from atelier.web.rate_limit import Stopped

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


STOP_CHECK_EVERY_S = 0.3  # whether the answers are still wanted


@dataclass(frozen=True)
class Order:
    """What is the same for every shard: where works come from, how they are judged, by how many threads, whose code."""

    opening: Opening
    limits: Limits
    threads: int
    code: str


def bring(works: Sequence[Work], order: Order, unwanted: Callable[[], bool]) -> list[Answer]:
    """The answers in the order of the works; fewer where patience ended, or when they are `unwanted` by now."""
    if order.code != code():
        raise AtelierError(
            f"a worker has other code than the stage, so its pictures might be other bytes: {code()} there, "
            f"{order.code} here. Install the same versions on every machine"
        )
    source, pool = _desk(order)
    if (
        order.opening.rate_per_s
    ):  # shards that follow one another keep one pace, whichever process they are in
        time.sleep(1 / order.opening.rate_per_s)
    if order.threads == 1:  # a pool of one would take as long to hand things over as to judge them
        return _one_by_one(works, source, order.limits, unwanted)
    over = threading.Event()

    def asked(work: Work) -> Answer:
        if over.is_set():
            raise Stopped("the shard is over")
        return ask(work, source, order.limits)

    answers: list[Answer] = []
    in_vain = InVain()
    coming = pool.imap(asked, works)
    try:
        while len(answers) < len(works):
            try:
                answers.append(coming.next(timeout=STOP_CHECK_EVERY_S))
            except TimeoutError:
                if unwanted():
                    break
            else:
                if in_vain.add(works[len(answers) - 1], answers[-1]) or unwanted():
                    break
    finally:
        over.set()
    return answers


def _one_by_one(
    works: Sequence[Work], source: Source, limits: Limits, unwanted: Callable[[], bool]
) -> list[Answer]:
    answers: list[Answer] = []
    in_vain = InVain()
    for work in works:
        answers.append(ask(work, source, limits))
        if in_vain.add(work, answers[-1]) or unwanted():
            break
    return answers


def dask_setup(worker: object) -> None:
    """Called by Dask in a new worker process of our own cluster: Ctrl-C is the stage's, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def code() -> str:
    """What decides a picture's bytes and the verdict on it: this package's modules, and the packages that decode."""
    libraries = {
        "Pillow": features.version("pil"),
        **{name: features.version(name) for name in ("jpg", "webp", "avif", "libtiff", "littlecms2")},
        **{name: _installed(name) for name in ("numpy", "pillow-heif", "pyvips", "pyvips-binary")},
    }
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in libraries.items())
    return f"Atelier {atelier.__version__} ({digest_of_package(Path(atelier.__file__).parent)}), {versions}"


def digest_of_package(directory: Path) -> str:
    """The first digits of a SHA-256 over the paths and contents of all Python files below `directory`."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(directory).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_open = ExitStack()  # closed by the end of the process

_desks: dict[Order, tuple[Source, ThreadPool]] = {}

_desks_lock = threading.Lock()


def _desk(order: Order) -> tuple[Source, ThreadPool]:
    """An open source and its threads, kept from shard to shard: the pace and the connections go on."""
    with _desks_lock:
        if order not in _desks:
            _desks[order] = _open.enter_context(order.opening.opened()), ThreadPool(order.threads)
        return _desks[order]


@dataclass(frozen=True)
class Threads:
    """So many threads, each at one work at a time."""

    source: Source
    limits: Limits
    workers: int

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine."""

        def asked(work: Work) -> tuple[Work, Answer]:
            return work, ask(work, self.source, self.limits)

        try:
            # its threads are daemons: a stopped stage does not wait for the slowest of them
            with ThreadPool(min(self.workers, len(works) or 1)) as pool:
                yield from pool.imap_unordered(asked, works)
        finally:
            self.source.stop()


@dataclass(frozen=True)
class OneByOne:
    """One work after the other, at a quarter of the set rate: for works that failed when they were asked for faster."""

    opening: Opening
    limits: Limits

    SLOWER = 4

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        """See Engine."""
        if not works:
            return
        rate_per_s = self.opening.rate_per_s
        with self.opening.slowed(rate_per_s and rate_per_s / self.SLOWER).opened() as source:
            for work in works:
                yield work, ask(work, source, self.limits)


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
