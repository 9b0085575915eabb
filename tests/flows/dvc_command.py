"""DVC's command line in the test's own process, which imports DVC once and not for each command."""

import contextlib
import io
import os
from pathlib import Path
from unittest import mock


def dvc(root: Path, environment: dict[str, str], *words: str) -> str:
    """Run a command of DVC in `root`; return what it prints. It must succeed.

    For what a test prepares and checks. Commands that a test stops or that run beside others are processes.
    """
    from dvc.cli import main

    output = io.StringIO()
    with (
        contextlib.chdir(root),
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(output),
    ):
        status = main(list(words))
    assert status == 0, f"dvc {' '.join(words)}: {status}: {output.getvalue()}"
    return output.getvalue()
