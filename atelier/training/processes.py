"""Run a training in one or several processes, on one GPU each, and stop it without losing its state.

The processes are started here, or by torchrun, whose environment variables are then used. If one of them ends early,
all end, with one error message; the next run continues from the saved state, in any number of processes. The number of
processes and of their threads decides how sums are rounded.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Event
from typing import Any, Literal, NoReturn

import filelock
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from atelier.errors import AtelierError, ignore_output_errors
from atelier.parent_death import die_with
from atelier.training.distributed import SINGLE_PROCESS, PeerLost, ProcessGroup

Work = Callable[[ProcessGroup], str]

POLL_S = 0.2
GRACE_S = 10.0  # that the other processes have to end by themselves after one has failed, and again before a SIGKILL
LOST = "a process of this training was ended from outside ({how}); run again: it goes on from the last saved state"


def run_in_processes(gpus: int | Literal["auto"], device: str, batch: int, work: Work) -> str:
    """Run `work` in as many processes as `train.gpus` and the machine's GPUs require; returns rank 0's result.

    Raises AtelierError for an error of any process, and SystemExit where they were asked to stop.
    """
    kind = torch.device(device_kind(device))
    if "WORLD_SIZE" in os.environ:
        return _run_under_torchrun(kind, batch, work)
    count = process_count(gpus, kind.type, batch)
    with exclusive_gpu("train", kind):
        if count == 1:
            return work(SINGLE_PROCESS)
        how = "one a GPU" if kind.type == "cuda" else "which share this machine's cores"
        print(f"train: in {count} processes, {how}")
        return _start_and_wait(count, kind, work)


def device_kind(device: str) -> str:
    """The type of the device that `pick_device` chooses, determined without using a GPU of the other processes."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    return "mps" if device in ("auto", "mps") and torch.backends.mps.is_available() else "cpu"


def process_count(gpus: int | Literal["auto"], kind: str, batch: int) -> int:
    """The number of processes for `train.gpus`; `auto` is the largest number of GPUs that divides the batch.

    Raises AtelierError where the machine has fewer GPUs, or the batch cannot be divided equally.
    """
    available = torch.cuda.device_count() if kind == "cuda" else 1
    if gpus == "auto":
        count = max(n for n in range(1, available + 1) if batch % n == 0)
        if count < available:
            print(f"train: {count} of {available} GPUs, since train.batch {batch} is no multiple of more")
        return count
    if gpus > available and kind != "cpu":
        raise AtelierError(
            f"train.gpus holds {gpus}; it may hold auto or at most {available}, the GPUs of this machine"
        )
    refuse_unequal_parts(gpus, batch)
    return gpus


def refuse_unequal_parts(count: int, batch: int) -> None:
    """Raise AtelierError where `count` processes cannot have equal parts of a batch."""
    if batch % count:
        raise AtelierError(
            f"train.batch holds {batch}, of which {count} processes cannot have equal parts: "
            f"it may hold a multiple of {count}"
        )


@contextmanager
def exclusive_gpu(stage: str, device: torch.device) -> Iterator[None]:
    """Hold the lock of this machine's GPUs, so that one training at a time uses them; no lock on a CPU."""
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
def stop_requests() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set, so that a training can save its state before it ends."""
    event = Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _start_and_wait(count: int, device: torch.device, work: Work) -> str:
    """Start the processes, pass SIGTERM and Ctrl-C on to them, and wait for rank 0's result."""
    spawn = multiprocessing.get_context("spawn")
    outcomes: SimpleQueue[object] = spawn.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="atelier-") as folder, stop_requests() as stopping:
        # the processes inherit that Ctrl-C is ignored, since this process passes it on
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        arguments = (count, os.getpid(), device, Path(folder) / "store", work, outcomes)
        processes = start_processes(_run_rank, arguments, count, join=False)
        signal.signal(signal.SIGINT, handler)
        terminated = False
        try:
            while not processes.join(POLL_S, GRACE_S):
                if stopping.is_set() and not terminated:
                    terminated = True
                    for process in processes.processes:
                        process.terminate()
        except ProcessExitedException as error:
            if outcomes.empty() and stopping.is_set():
                raise SystemExit(128 + signal.SIGTERM) from None
            if outcomes.empty():
                codes = [process.exitcode for process in processes.processes if process.exitcode]
                killed = [signal.Signals(-code).name for code in codes if code < 0]
                how = killed[0] if killed else f"exit code {error.exit_code}"
                raise AtelierError(LOST.format(how=how)) from None
    outcome = outcomes.get()
    if isinstance(outcome, BaseException):
        raise outcome
    return str(outcome)


def _run_rank(
    rank: int, size: int, parent: int, device: torch.device, store: Path, work: Work,
    outcomes: "SimpleQueue[object]",
) -> None:  # fmt: skip
    """The body of a started process: `work`, whose result or exception goes into `outcomes`."""
    die_with(parent)
    ignore_output_errors(line_buffering=True)
    torch.set_num_threads(max(1, torch.get_num_threads() // size))  # the processes share this machine's cores
    group = _join_group(rank, size, rank, device, dist.FileStore(str(store), size))
    try:
        outcome = work(group)
    except PeerLost:
        _exit_at_once(1)
    except (AtelierError, OSError) as error:
        outcomes.put(error)
        _exit_at_once(1)
    except SystemExit as stopped:
        outcomes.put(stopped)
        _exit_at_once(int(str(stopped.code)))
    if group.is_rank0:
        outcomes.put(outcome)
    dist.destroy_process_group()


def _run_under_torchrun(device: torch.device, batch: int, work: Work) -> str:
    """Run `work` as one of the processes that torchrun has started, on this machine and perhaps on others."""
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if size == 1:
        return work(SINGLE_PROCESS)
    store, rank, size = next(rendezvous("env://", rank, size))
    try:
        refuse_unequal_parts(size, batch)
        if device.type == "cuda" and local_rank >= (available := torch.cuda.device_count()):
            raise AtelierError(f"torchrun starts more processes here than the {available} GPUs: lower --nproc-per-node")
        with nullcontext() if local_rank else exclusive_gpu("train", device):
            outcome = work(_join_group(rank, size, local_rank, device, store))
    except (AtelierError, OSError, PeerLost) as error:
        if store.add("said", 1) > 1:  # another process has printed its message already
            raise SystemExit(1) from None
        if isinstance(error, PeerLost):
            raise AtelierError(LOST.format(how="see torchrun's own words")) from None
        raise
    dist.destroy_process_group()
    return outcome


def _join_group(rank: int, size: int, local_rank: int, device: torch.device, store: Any) -> ProcessGroup:
    """Wait for the other processes at a `torch.distributed.Store`. From here on only rank 0 prints."""
    if rank:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)  # from now on "cuda" is this one
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return ProcessGroup(rank, size)


def _exit_at_once(code: int) -> NoReturn:
    """Exit without destroying the process group, which may wait forever for a GPU of a process that has ended."""
    sys.stdout.flush()
    os._exit(code)
