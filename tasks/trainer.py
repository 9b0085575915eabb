"""What the two trainings share around their work: a device that repeats itself, the GPU to oneself, stopping well.

One training in several processes: started here, one a GPU, or by torchrun, whose variables this process then heeds.

Whatever ends one of them ends all, with one sentence; the saved state is there for the next run, in as many or fewer.

How many processes a training has, and how many threads each: both decide how its sums are rounded.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Event
from typing import Literal, NoReturn

import filelock
import torch
import torch.distributed as dist
import torch.multiprocessing

from atelier.device import keep_freed_memory, pick_deterministic_device
from atelier.errors import AtelierError, ignore_output_errors
from atelier.parent_death import die_with
from atelier.training.distributed import ALONE, PeerLost, World


def deterministic_device(stage: str, wanted: str) -> torch.device:
    """The device that params.yaml asks for, set to give the same bytes every time; prints which one and why."""
    device, why = pick_deterministic_device(wanted)
    if device.type == "cpu":
        keep_freed_memory()
    print(f"{stage}: on {why}")
    return device


@contextmanager
def only_trainer(stage: str, device: torch.device) -> Iterator[None]:
    """Hold the machine's GPU against other trainings, whoever started them; a CPU may be shared."""
    if device.type == "cpu":
        yield
        return
    lock = filelock.FileLock(Path(tempfile.gettempdir()) / f"atelier-{device.type}.lock", mode=0o666)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"{stage}: another training holds the GPU ({lock.lock_file}); waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def asked_to_stop() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set, so that the training ends between two steps with its state saved."""
    event = Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def device_kind(device: str) -> str:
    """The kind of device that `pick_device` takes, found without using a GPU that is meant for the processes."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    return "mps" if device in ("auto", "mps") and torch.backends.mps.is_available() else "cpu"


def process_count(gpus: int | Literal["auto"], kind: str, batch: int) -> int:
    """How many processes train: as many as asked for, or the most GPUs that divide the batch.

    Raises AtelierError where there are fewer GPUs, or the batch cannot be divided equally.
    """
    there = torch.cuda.device_count() if kind == "cuda" else 1
    if gpus == "auto":
        count = max(n for n in range(1, there + 1) if batch % n == 0)
        if count < there:
            print(f"train: {count} of {there} GPUs, since train.batch {batch} is no multiple of more")
        return count
    if gpus > there and kind != "cpu":
        raise AtelierError(
            f"train.gpus holds {gpus}; it may hold auto or at most {there}, the GPUs of this machine"
        )
    return checked_count(gpus, batch)


def checked_count(count: int, batch: int) -> int:
    """`count`. Raises AtelierError where so many processes cannot have equal parts of the batch."""
    if batch % count:
        raise AtelierError(
            f"train.batch holds {batch}, of which {count} processes cannot have equal parts: "
            f"it may hold a multiple of {count}"
        )
    return count


def share_threads(count: int) -> None:
    """Give this process, one of `count` that share this machine's cores, its share of the threads."""
    torch.set_num_threads(max(1, torch.get_num_threads() // count))


Work = Callable[[World], str]

LOOK_EVERY_S = 0.2

GRACE_S = 10.0  # after one has failed, for the others to end by themselves, and again before they are killed

LOST = "a process of this training was ended from outside ({how}); run again: it goes on from the last saved state"


def in_processes(gpus: int | Literal["auto"], device: str, batch: int, work: Work) -> str:
    """What `work` returns in the first of as many processes as `train.gpus` and the machine say.

    Raises AtelierError for what any of them could not do, SystemExit where they were asked to stop.
    """
    held = torch.device(device_kind(device))
    if "WORLD_SIZE" in os.environ:
        return _joined(held, batch, work)
    count = process_count(gpus, held.type, batch)
    with only_trainer("train", held):
        if count == 1:
            return work(ALONE)
        how = "one a GPU" if held.type == "cuda" else "which share this machine's cores"
        print(f"train: in {count} processes, {how}")
        return _started(count, held, work)


def _started(count: int, device: torch.device, work: Work) -> str:
    """Start them, hand SIGTERM and Ctrl-C on to them, and wait."""
    spawn = multiprocessing.get_context("spawn")
    outcomes: SimpleQueue[object] = spawn.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="atelier-") as folder, asked_to_stop() as stopping:
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a Ctrl-C is this process's to hear
        arguments = (count, os.getpid(), device, Path(folder) / "store", work, outcomes)
        processes = torch.multiprocessing.start_processes(_one_of, arguments, count, join=False)
        signal.signal(signal.SIGINT, heard)
        handed_on = False
        try:
            while not processes.join(LOOK_EVERY_S, GRACE_S):
                if stopping.is_set() and not handed_on:
                    handed_on = True
                    for process in processes.processes:
                        process.terminate()
        except torch.multiprocessing.ProcessExitedException as error:
            if outcomes.empty() and stopping.is_set():
                raise SystemExit(128 + signal.SIGTERM) from None
            if outcomes.empty():
                raise AtelierError(LOST.format(how=_how(processes.processes, error))) from None
    outcome = outcomes.get()
    if isinstance(outcome, BaseException):
        raise outcome
    return str(outcome)


def _how(
    processes: list[multiprocessing.Process], error: torch.multiprocessing.ProcessExitedException
) -> str:
    signals = [-process.exitcode for process in processes if process.exitcode and process.exitcode < 0]
    return signal.Signals(signals[0]).name if signals else f"exit code {error.exit_code}"


def _one_of(
    rank: int,
    size: int,
    parent: int,
    device: torch.device,
    store: Path,
    work: Work,
    outcomes: "SimpleQueue[object]",
) -> None:
    """What each process is."""
    die_with(parent)
    ignore_output_errors(line_buffering=True)
    share_threads(size)
    world = _world(rank, size, rank, device, dist.FileStore(str(store), size))
    try:
        outcome = work(world)
    except PeerLost:
        _leave(1)
    except (AtelierError, OSError) as error:
        outcomes.put(error)
        _leave(1)
    except SystemExit as stopped:
        outcomes.put(stopped)
        _leave(int(str(stopped.code)))
    if world.first:
        outcomes.put(outcome)
    dist.destroy_process_group()


def _joined(device: torch.device, batch: int, work: Work) -> str:
    """As one of those that torchrun has started, here and perhaps on other machines."""
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if size == 1:
        return work(ALONE)
    store, rank, size = next(dist.rendezvous("env://", rank, size))
    try:
        checked_count(size, batch)
        if device.type == "cuda" and local_rank >= (there := torch.cuda.device_count()):
            raise AtelierError(
                f"torchrun starts more processes here than the {there} GPUs: lower --nproc-per-node"
            )
        if local_rank:
            outcome = work(_world(rank, size, local_rank, device, store))
        else:
            with only_trainer("train", device):
                outcome = work(_world(rank, size, local_rank, device, store))
    except (AtelierError, OSError, PeerLost) as error:
        if store.add("said", 1) > 1:  # by another: one sentence is enough
            raise SystemExit(1) from None
        if isinstance(error, PeerLost):
            raise AtelierError(LOST.format(how="see torchrun's own words")) from None
        raise
    dist.destroy_process_group()
    return outcome


def _world(rank: int, size: int, local_rank: int, device: torch.device, store: dist.Store) -> World:
    """Meet the others. Of several, the first alone says how it goes."""
    if rank:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)  # from now on "cuda" is this one
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return World(rank, size)


def _leave(code: int) -> NoReturn:
    """At once: taking leave of a lost peer's GPU may wait for ever."""
    sys.stdout.flush()
    os._exit(code)
