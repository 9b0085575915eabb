"""Commands as a user who may not do everything, whoever runs the tests."""

import os
import shutil

import pytest


def unprivileged() -> list[str]:
    """What goes before a command so that files' modes count for it; nothing where they do already (not root)."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and setpriv is not there to change that")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
