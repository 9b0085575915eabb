"""keep_freed_memory."""

import platform
import subprocess
import sys

import pytest

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
