"""A Prefect server for as long as one flow runs, where none is configured.

Prefect would start the same one by itself, but leave it running when the flow is killed; ours is on a leash.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import prefect
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from atelier.errors import AtelierError
from flows.processes import leashed

USUAL = "http://127.0.0.1:4200/api"  # where `prefect server start` listens
STARTUP_S = 120.0  # the first start in a tree also makes the database


def start() -> Callable[[], None]:
    """Start a server of our own where none is configured; call the answer to wait until it is ready.

    Other work may go on between: a start takes seconds. Our server ends when this process does.
    """
    if get_current_settings().api.url is not None:
        return lambda: None
    port = _free_port()
    process = _start(port)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_UI_URL"] = ""  # it has no pages: no links to them
    refresh_global_settings_context()
    # registered before Prefect registers its own: those run first, and send the last log lines
    atexit.register(_stop, process)
    return lambda: _wait(process, port)


def running() -> str | None:
    """The API of a server that answers, which we use from now on: the one that is set, else one of this machine's."""
    url = get_current_settings().api.url or USUAL
    if not _is_healthy(url):
        return None
    if get_current_settings().api.url is None:
        os.environ["PREFECT_API_URL"] = url
        refresh_global_settings_context()
    return url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(port: int) -> "subprocess.Popen[bytes]":
    """What prefect.server.api.server.SubprocessASGIServer starts, on a leash and out of Ctrl-C's reach."""
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent),
        "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port),
        "--log-level", "error", "--lifespan", "on",
    ]  # fmt: skip
    quiet = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return subprocess.Popen(leashed(command), env={**os.environ, **quiet}, start_new_session=True)


def _wait(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline_s = time.monotonic() + STARTUP_S
    while not _is_healthy(f"http://127.0.0.1:{port}/api"):
        if server.poll() is not None or time.monotonic() > deadline_s:
            raise AtelierError(
                f"Prefect's server did not start in {Path.cwd()}: see above for why; "
                "`dvc repro` does the same work without it"
            )
        time.sleep(0.1)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False
