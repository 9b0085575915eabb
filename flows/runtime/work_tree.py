"""The work tree in which a flow runs: its root, the environment of its child processes, and one flow at a time."""

import json
import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.paths import DVC_YAML, HOME, PARAMS, STATE

MIN_FREE_BYTES = 50e6  # several times what Prefect's database and a flow's own files need
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# which a hook sets that started this process
GIT_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


class AtWorkError(AtelierError):
    """Another flow works in this work tree."""


def enter() -> Path:
    """Change to the studio's root, the nearest directory upwards with dvc.yaml and params.yaml.

    Returns the directory it left. Prefect reads [tool.prefect] of the current directory when it is imported; if it is
    imported already, its settings are read again. Raises AtelierError outside a studio.
    """
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / DVC_YAML).is_file() and (directory / PARAMS).is_file():
            os.chdir(directory)
            name_user(directory)
            if prefect := sys.modules.get("prefect.context"):
                prefect.refresh_global_settings_context()
            return here
    raise AtelierError(f"{here} is not inside a studio: go to the directory that holds dvc.yaml and params.yaml")


def name_user(root: Path) -> None:
    """Give a user without an entry in the system's list HOME and USER, unless they are set: DVC and torch need them.

    Containers run under such a number. HOME becomes .atelier/home in `root`, USER `user` and the number.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not os.environ.get("HOME"):
            os.environ["HOME"] = str(root / HOME)
        if not os.environ.get("USER"):
            os.environ["USER"] = f"user{os.getuid()}"


def environment() -> dict[str, str]:
    """Return child processes' environment: this Python first in PATH, no telemetry, no GIT_VARIABLES."""
    scripts = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {
        **{name: value for name, value in os.environ.items() if name not in GIT_VARIABLES},
        "PATH": path if path.split(os.pathsep)[0] == scripts else f"{scripts}{os.pathsep}{path}",
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        **past_proxies(os.environ),
    }


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY and no_proxy with loopback added, which no proxy can reach; empty if no proxy is set."""
    if not any(name.lower().endswith("_proxy") for name in environment.keys() - {"NO_PROXY", "no_proxy"}):
        return {}
    named = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = dict.fromkeys(host.strip() for hosts in named for host in hosts.split(",") if host.strip())
    if "*" not in hosts:
        hosts |= dict.fromkeys(LOOPBACK)
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))


@contextmanager
def only_flow(kind: str = "flow") -> Iterator[None]:
    """Hold the work tree's lock for a flow, or for another `kind` of work.

    Raises AtWorkError, with the process id, if another process holds it; AtelierError if the disk is almost full,
    because Prefect's database would fail later.
    """
    if (free := shutil.disk_usage(Path()).free) < MIN_FREE_BYTES:
        raise AtelierError(
            f"only {free / 1e6:.0f} MB are free on the disk of {Path.cwd()}: free some space (`atelier clean`, "
            "`dvc gc -w` and `atelier doctor` say how), then run again"
        )
    STATE.mkdir(exist_ok=True)
    holder = STATE / f"{kind}.json"  # not in the lock file, because opening that may empty it
    lock = FileLock(STATE / f"{kind}.lock", blocking=False)  # released by the kernel, however this process ends
    try:
        lock.acquire()
    except Timeout:
        try:
            pid = str(json.loads(holder.read_text())["pid"])
        except (OSError, ValueError, KeyError):
            pid = "unknown"
        raise AtWorkError(
            f"another {kind} (PID {pid}) is at work in {Path.cwd()}: wait for it, or stop it with `kill {pid}`"
        ) from None
    try:
        write_json(holder, {"pid": os.getpid()})
        yield
    finally:
        lock.release()
