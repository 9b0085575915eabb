"""How many processes a training has, and how many threads each: both decide how its sums are rounded."""

from typing import Literal

import torch

from atelier.errors import AtelierError


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
