"""keep_freed_memory, relax_determinism and exact_convolutions."""

import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from atelier.device import _set_float32, exact_convolutions, pick_deterministic_device, relax_determinism

SCRIPT = """
import os, psutil, torch
from atelier.device import keep_freed_memory
rss = lambda: psutil.Process().memory_info().rss
torch.ones(1)
if child := os.fork():
    os.waitpid(child, 0)
    keep_freed_memory()
empty = rss()
held = torch.ones(64, 2**18)
del held
print(rss() - empty, flush=True)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's settings are glibc's")
def test_only_keep_freed_memory_keeps_the_resident_set_after_a_tensor_is_deleted():
    without, with_it = map(int, subprocess.check_output([sys.executable, "-c", SCRIPT]).split())
    assert without <= 32 * 2**20 < with_it


def arithmetic() -> tuple[bool, bool, str, str]:
    """Whether torch must be deterministic, whether cuDNN measures, and how it multiplies float32 on CUDA."""
    backends = torch.backends
    precisions = backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision
    return torch.are_deterministic_algorithms_enabled(), backends.cudnn.benchmark, *precisions


@pytest.fixture
def deterministic() -> Iterator[None]:
    benchmark = torch.backends.cudnn.benchmark
    pick_deterministic_device("cpu")
    yield
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = benchmark
    _set_float32("ieee")


@pytest.mark.usefixtures("deterministic")
def test_determinism_is_given_up_on_cuda_alone() -> None:
    for kind in ("cpu", "mps"):
        assert not relax_determinism(torch.device(kind))
        assert arithmetic() == (True, False, "ieee", "ieee")
    assert relax_determinism(torch.device("cuda"))
    assert arithmetic() == (False, True, "tf32", "tf32")


@pytest.mark.usefixtures("deterministic")
def test_metrics_are_exact_in_a_training_that_is_not() -> None:
    relax_determinism(torch.device("cuda"))
    with exact_convolutions():
        assert arithmetic()[1:3] == (False, "ieee")
        assert torch.backends.cudnn.deterministic
    assert arithmetic() == (False, True, "tf32", "tf32")
    assert not torch.backends.cudnn.deterministic
