"""What depends on the device: freed memory, determinism, the precision of metrics and of pictures."""

import platform
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from atelier.device import _allow_tf32, painting_precision, pick_deterministic_device, relax_determinism
from atelier.metrics import features
from atelier.metrics.features import FeatureExtractor

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


def arithmetic() -> tuple[bool, bool, bool, bool]:
    """Whether torch must be deterministic, whether cuDNN measures, and whether it and cuBLAS may use TF32."""
    backends = torch.backends
    allowed = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    return torch.are_deterministic_algorithms_enabled(), backends.cudnn.benchmark, *allowed


@pytest.fixture
def deterministic() -> Iterator[None]:
    benchmark = torch.backends.cudnn.benchmark
    pick_deterministic_device("cpu")
    yield
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = benchmark
    _allow_tf32(False)


@pytest.mark.usefixtures("deterministic")
def test_determinism_is_given_up_on_cuda_alone() -> None:
    for kind in ("cpu", "mps"):
        assert not relax_determinism(torch.device(kind))
        assert arithmetic() == (True, False, False, False)
    assert relax_determinism(torch.device("cuda"))
    assert arithmetic() == (False, True, True, True)


@pytest.mark.usefixtures("deterministic")
def test_metrics_are_exact_in_a_training_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    relax_determinism(torch.device("cuda"))
    found = []
    judge, blur = FeatureExtractor(torch.device("cpu")), features.blur
    monkeypatch.setattr(features, "blur", lambda *images: found.append(arithmetic()) or blur(*images))
    judge(np.zeros((1, 8, 8, 3), np.uint8), coarse=True)
    assert [now[1:3] for now in found] == [(False, False)]
    assert arithmetic() == (False, True, True, True)


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.usefixtures("deterministic")
def test_whatever_the_arithmetic_a_network_can_be_exported(relaxed: bool) -> None:
    """torch.export reads settings of which torch has two that must not disagree."""
    if relaxed:
        relax_determinism(torch.device("cuda"))
    assert torch.export.export(torch.nn.Conv2d(1, 1, 1), (torch.ones(1, 1, 2, 2),))


@pytest.mark.parametrize("device, capability, precision", [
    ("cpu", None, "float64"), ("mps", None, "float32"),
    ("cuda", (8, 0), "float64"), ("cuda", (9, 0), "float64"), ("cuda", (10, 0), "float64"),  # A100, H200, B200
    ("cuda", (7, 5), "float32"), ("cuda", (8, 6), "float32"), ("cuda", (8, 9), "float32"),  # RTX 20, 30, 40
    ("cuda", (10, 3), "float32"), ("cuda", (12, 0), "float32"),  # B300, RTX 50
])  # fmt: skip
def test_pictures_are_painted_in_float64_where_the_device_computes_it_fast(device, capability, precision) -> None:
    assert painting_precision(torch.device(device), capability) == precision
