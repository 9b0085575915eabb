"""The worker's side of the Dask engine: one shard of works, asked for by threads of the worker's process."""

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool
from pathlib import Path

from PIL import features

import atelier
from atelier.data.catalog import Work
from atelier.download.arrivals import Limits
from atelier.download.engines import InVain
from atelier.download.fetching import Answer, ask
from atelier.download.openings import Opening
from atelier.download.sources import Source
from atelier.errors import AtelierError
from atelier.web.pace import Stopped

LOOK_EVERY_S = 0.3  # whether the answers are still wanted


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
                answers.append(coming.next(timeout=LOOK_EVERY_S))
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
