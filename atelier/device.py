"""Which device the arithmetic runs on, and why; what a process on a CPU does about its memory.

The versions at work, as a picture tells them.
"""

import ctypes
import os
import platform
import re

import torch

from atelier import __version__
from atelier.errors import AtelierError

# what is raised as a plain RuntimeError where memory does not suffice: by cuDNN and cuBLAS, CUDA itself, MPS, the CPU's
# allocator, oneDNN
REFUSALS = re.compile(
    "alloc(ation)?_failed|out ?of ?memory|can't allocate memory|not enough memory|bad_alloc|could not create a",
    re.IGNORECASE,
)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def pick_device(wanted: str) -> tuple[torch.device, str]:
    """The device for `auto`, `cpu`, `cuda` or `mps`, and a sentence that says which and why.

    Raises AtelierError where the wanted device is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    match wanted:
        case "cuda" if not cuda:
            raise AtelierError(
                "the device is set to cuda, but torch finds no CUDA device: set it to auto or cpu"
            )
        case "mps" if not mps:
            raise AtelierError(
                "the device is set to mps, but torch finds no Apple GPU: set it to auto or cpu"
            )
        case "cuda":
            return torch.device("cuda"), f"{_cuda_name()}, as asked"
        case "mps" | "cpu":
            return torch.device(wanted), f"{wanted}, as asked"
    if cuda:
        return torch.device("cuda"), f"{_cuda_name()}, since torch finds it"
    if mps:
        return torch.device("mps"), "mps (Apple GPU), since torch finds it and no CUDA device"
    return torch.device("cpu"), f"cpu ({torch.get_num_threads()} threads), since torch finds no GPU"


def pick_deterministic_device(wanted: str) -> tuple[torch.device, str]:
    """As `pick_device`, and torch set to give the same bytes there every time; the process stays so."""
    device, why = pick_device(wanted)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only so
    torch.use_deterministic_algorithms(True)
    # nothing reads memory that nothing has written, and filling it takes a fortieth of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # float32 is float32: what is quicker and coarser is train.precision
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return device, why


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device or the machine has no memory left; not every library has a class for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and REFUSALS.search(str(error)) is not None


def machine_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cuda_name() -> str:
    return f"cuda ({torch.cuda.get_device_name()})"


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed for as long as the process lives; without glibc, nothing happens.

    A training step frees and asks for the same megabytes again and again, and each time the kernel would fill them
    with zeros, page by page: a twentieth of a step on a CPU (bench/train.py).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)


def versions() -> dict[str, str]:
    """The versions of Atelier and torch, as provenance names them."""
    return {"atelier": __version__, "torch": torch.__version__}
