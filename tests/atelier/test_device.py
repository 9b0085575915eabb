"""keep_freed_memory."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's settings are glibc's")
@pytest.mark.parametrize(("before", "kept"), [("", False), ("keep_freed_memory(); ", True)])
def test_keep_freed_memory_keeps_the_resident_set_after_a_tensor_is_deleted(before: str, kept: bool):
    script = (
        "import psutil, torch; from atelier.device import keep_freed_memory; "
        f"rss = lambda: psutil.Process().memory_info().rss; torch.ones(1); {before}empty = rss(); "
        "held = torch.ones(64, 2**18); del held; print(rss() - empty)"
    )
    left = int(subprocess.check_output([sys.executable, "-c", script]))
    assert (left > 32 * 2**20) == kept
