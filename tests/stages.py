"""A real stage in a process of its own, as DVC starts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def started(stage: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m tasks.<stage>` in the current directory, ended with the block; train judges small pictures small."""
    module = "tests.judged_small" if stage == "train" else f"tasks.{stage}"
    process = subprocess.Popen(
        [sys.executable, "-m", module], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
