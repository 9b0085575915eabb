"""The device that torch computes on: choosing it, determinism, memory, and the versions that provenance records."""

import ctypes
import os
import platform
import re
from typing import TypedDict

import torch

from atelier import __version__
from atelier.errors import AtelierError
from atelier.settings.base import PaintingPrecision

# messages of RuntimeErrors about too little memory: of cuDNN and cuBLAS, CUDA, MPS, the CPU's allocator, oneDNN
OUT_OF_MEMORY = re.compile(
    "alloc(ation)?_failed|out ?of ?memory|can't allocate memory|not enough memory|bad_alloc|could not create a",
    re.IGNORECASE,
)

# Compute capabilities of NVIDIA's GPUs with half as many units for float64 as for float32: P100, V100, A100, H100 and
# B200. All others have a 32nd or a 64th (CUDA C++ programming guide, throughput of native arithmetic instructions).
FAST_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, from <malloc.h>


def pick_device(wanted: str) -> tuple[torch.device, str]:
    """Return the device and, for the log, which it is and why. Raises AtelierError where the machine has none such."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "cuda" and not cuda:
        raise AtelierError("the device is set to cuda, but torch finds no CUDA device: set it to auto or cpu")
    if wanted == "mps" and not mps:
        raise AtelierError("the device is set to mps, but torch finds no Apple GPU: set it to auto or cpu")
    kind = ("cuda" if cuda else "mps" if mps else "cpu") if wanted == "auto" else wanted
    name = f"cuda ({torch.cuda.get_device_name()})" if kind == "cuda" else kind
    if wanted != "auto":
        return torch.device(kind), f"{name}, as asked"
    why = {
        "cuda": f"{name}, since torch finds it",
        "mps": "mps (Apple GPU), since torch finds it and no CUDA device",
        "cpu": f"cpu ({torch.get_num_threads()} threads), since torch finds no GPU",
    }
    return torch.device(kind), why[kind]


def pick_deterministic_device(wanted: str) -> tuple[torch.device, str]:
    """Do as `pick_device`, and make torch deterministic there for the rest of the process."""
    device, why = pick_device(wanted)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    # as `use_deterministic_algorithms`, without its import of torch's compiler, which takes seconds
    torch.set_deterministic_debug_mode("error")
    # no code of ours reads uninitialised memory, and filling it takes a fortieth of a training step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # full float32; train.precision and train.deterministic choose faster, coarser arithmetic
    _allow_tf32(False)
    return device, why


def relax_determinism(device: torch.device) -> bool:
    """Let CUDA compute faster than `pick_deterministic_device` does, for the rest of the process.

    cuDNN then measures which algorithm is fastest for each shape, sums may be added in any order, and products of
    float32 are rounded to TF32, which has 10 bits of mantissa. Returns False on other devices, where nothing changes.
    """
    if device.type != "cuda":
        return False
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = True
    _allow_tf32(True)
    return True


def _allow_tf32(allowed: bool) -> None:
    # not by fp32_precision: torch.export reads these, and raises where the two disagree
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def deterministic_device(stage: str, wanted: str) -> torch.device:
    """As `pick_deterministic_device`, for a stage: print the reason, and on a CPU call `keep_freed_memory`."""
    device, why = pick_deterministic_device(wanted)
    if device.type == "cpu":
        keep_freed_memory()
    print(f"{stage}: on {why}")
    return device


def painting_precision(device: torch.device, capability: tuple[int, int] | None = None) -> PaintingPrecision:
    """The precision in which pictures are painted: float64, except on GPUs that compute it slowly or not at all.

    `capability` is the compute capability of a CUDA device, which is looked up if it is None.
    """
    if device.type == "cuda":
        return "float64" if (capability or torch.cuda.get_device_capability(device)) in FAST_FLOAT64 else "float32"
    return "float32" if device.type == "mps" else "float64"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine is out of memory, by its class or its message."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def machine_memory() -> int:
    """Return the size of the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory for the rest of the process; without glibc, do nothing.

    Else the kernel would fill it with zeros at each step, a twentieth of a training step on a CPU (bench/train.py).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)


class Versions(TypedDict):
    """Version numbers of Atelier and torch."""

    atelier: str
    torch: str


def versions() -> Versions:
    """Return the versions of Atelier and torch, as provenance records them."""
    return {"atelier": __version__, "torch": torch.__version__}
