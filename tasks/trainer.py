"""What the two trainings share around their work: a device that repeats itself, the GPU to oneself, stopping well."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import filelock
import torch

from atelier.device import deterministic, keep_freed_memory


def deterministic_device(stage: str, wanted: str) -> torch.device:
    """The device that params.yaml asks for, set to give the same bytes every time; prints which one and why."""
    device, why = deterministic(wanted)
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
