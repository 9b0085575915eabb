"""The work tree a flow runs in: where its root is, what its commands find in their environment, one flow at a time."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from atelier.errors import AtelierError
from atelier.files import write_json

LOCK = Path(".atelier/flow.lock")
HOLDER = Path(".atelier/flow.json")  # beside the lock, because opening a lock file may empty it


def enter() -> None:
    """Change to the studio's root, the nearest directory upwards with dvc.yaml and params.yaml.

    Do this before Prefect is imported: it reads [tool.prefect] from the current directory only.
    """
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "dvc.yaml").is_file() and (directory / "params.yaml").is_file():
            os.chdir(directory)
            return
    raise AtelierError(
        f"{here} is not inside a studio: go to the directory that holds dvc.yaml and params.yaml"
    )


def environment() -> dict[str, str]:
    """Our environment for child commands: `python` is this Python, and nobody phones home."""
    scripts = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {
        **os.environ,
        "PATH": path if path.split(os.pathsep)[0] == scripts else f"{scripts}{os.pathsep}{path}",
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def only_flow() -> Iterator[None]:
    """Hold the tree's one place for a flow; raises AtelierError naming the process that has it."""
    LOCK.parent.mkdir(exist_ok=True)
    lock = FileLock(LOCK, blocking=False)  # the kernel drops it with us, however we end
    try:
        lock.acquire()
    except Timeout:
        pid = _holder()
        raise AtelierError(
            f"another flow (PID {pid}) is at work in {Path.cwd()}: wait for it, or stop it with `kill {pid}`"
        ) from None
    try:
        write_json(HOLDER, {"pid": os.getpid()})
        yield
    finally:
        lock.release()


def _holder() -> str:
    try:
        return str(json.loads(HOLDER.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return "unknown"
