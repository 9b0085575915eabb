"""The Prefect server that a flow uses: the one that is set, else the studio's own that runs, else one for this flow.

Prefect would also start one where none is set, but would leave it running when the flow is killed; this one ends with
the flow. Importing this module imports Prefect: enter the tree (flows.runtime.work_tree) before.
"""

import atexit
import contextlib
import ipaddress
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx
import psutil
from pydantic import ValidationError

from atelier.errors import AtelierError, Finding
from flows.orchestration.server_config import lasting_servers
from flows.runtime import work_tree
from flows.runtime.process import leashed

try:
    import prefect
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
except ValidationError as error:  # of a variable PREFECT_…, a profile or [tool.prefect]
    first = error.errors()[0]
    name = "".join(f"{part}: " for part in first["loc"][:1])
    raise AtelierError(
        f"a setting of Prefect's cannot be read: {name}{first['msg']}: look at the variables PREFECT_… of your "
        "environment, and at `prefect config view`"
    ) from None

USUAL = "http://127.0.0.1:4200/api"  # where `prefect server start` listens unless told otherwise
STARTUP_S = 120.0  # the first start in a tree also makes the database
OPENING_S = 60.0  # for somebody else's that has its database open already to listen
ANSWER_S = 10.0  # for a server to say its version
MEND = "start it with `prefect server start`, or unset PREFECT_API_URL"


def start() -> Callable[[], None]:
    """Use the server that is set or that runs for this studio, else start one; call the result to wait for it.

    Other work may go on between, since a start takes seconds. A server that was started here ends with this process.
    Raises AtelierError where a server is set and cannot be used.
    """
    if running():
        return lambda: None
    port = _free_port()
    said = tempfile.TemporaryFile()  # noqa: SIM115, as long as the server runs
    process = _start(port, said)
    _use(f"http://127.0.0.1:{port}/api")
    os.environ["PREFECT_UI_URL"] = ""  # it has no pages: no links to them
    refresh_global_settings_context()
    # registered before Prefect registers its own: those run first, and send the last log lines
    atexit.register(_stop, process)
    return lambda: _wait(process, port, said)


def running() -> str | None:
    """The API of the server that is set, else of one that runs for this studio; None where there is neither.

    Prefect uses it from now on, in this process and in its children. Raises AtelierError where it cannot be used.
    """
    found = look()
    if found is None:
        return None
    if found.state != "ok":
        raise AtelierError(f"{found.message}: {found.fix}")
    return get_current_settings().api.url


def page() -> str:
    """The address of the pages of the server that is used."""
    return (get_current_settings().api.url or "").removesuffix("/").removesuffix("/api")


def look() -> Finding | None:
    """As `running`, as a finding of the doctor's: whether that server answers, and if not, why and what to do."""
    os.environ.update(work_tree.past_proxies(os.environ))
    try:
        httpx.Client().close()
    except (
        httpx.InvalidURL,
        ValueError,
        ImportError,
    ) as error:  # of another kind than HTTP and SOCKS 5, or no address
        said = f"Prefect's client cannot use the proxy that the environment names: {error}"
        return Finding("Prefect", "wrong", said, "correct or unset HTTP_PROXY, HTTPS_PROXY and ALL_PROXY")
    if not get_current_settings().api.url and (own := _of_this_studio()):
        _use(own)
    url = get_current_settings().api.url
    if not url:
        return None
    trouble, mend = _trouble()
    if trouble:
        return Finding("Prefect", "wrong", f"no server at {url}: {trouble}", mend)
    return Finding("Prefect", "ok", f"its server answers at {url}")


def _trouble() -> tuple[str, str]:
    """Why Prefect's client cannot work with the server that is set, and what to do; twice nothing where it can."""
    slash_api = f"set PREFECT_API_URL to an address like {USUAL}"
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": ANSWER_S}, sync_client=True) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                if error := client.api_healthcheck():
                    raise error
            else:
                client.api_version()  # unlike its health, a server tells it only to whom it lets in
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        return "this is no address of a server", slash_api
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            return (
                f"it lets nobody in without the right key (HTTP {status})",
                "set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY, as it asks for",
            )
        if status == 404:
            return "what answers there is not Prefect's API", slash_api
        return f"HTTP {status}", MEND
    except httpx.TimeoutException:
        return f"no answer within {ANSWER_S:.0f} s", MEND
    except httpx.TransportError as error:
        text = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return text, "name its authority's file in PREFECT_API_SSL_CERT_FILE"
        return text or type(error).__name__, MEND
    except ValueError:  # a page for people in place of JSON
        return "what answers there is not Prefect's API", slash_api
    except OSError as error:
        certificates = get_current_settings().api.ssl_cert_file
        return f"{error.strerror or error}: {certificates}", "PREFECT_API_SSL_CERT_FILE has to name a file"
    return "", ""


def _use(url: str) -> None:
    """Let Prefect in this process and in its children use the server at `url`, past any proxy."""
    os.environ.update(work_tree.past_proxies(os.environ))
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def _of_this_studio() -> str | None:
    """The API of a `prefect server start` that works with this studio's SQLite database, whatever its port.

    Waits for one that is starting.
    """
    secret = get_current_settings().server.database.connection_url
    kind, _, path = (secret.get_secret_value() if secret else "").partition(":///")
    if not kind.startswith("sqlite"):
        return None
    database = os.path.realpath(path.partition("?")[0])
    deadline_s = time.monotonic() + OPENING_S
    while process := _process_with(database):
        with contextlib.suppress(psutil.Error):  # ended meanwhile
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return f"http://{_host(connection.laddr.ip)}:{connection.laddr.port}/api"
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    return None


def _process_with(database: str) -> psutil.Process | None:
    """The process of a lasting Prefect server that has this database open."""
    for process in lasting_servers():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
            if database in {os.path.realpath(file.path) for file in process.open_files()}:
                return process
    return None


def _host(address: str) -> str:
    """An address that a server listens at as one to reach it by: for all of a machine's, loopback."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        return "127.0.0.1" if ip.version == 4 else "[::1]"
    return f"[{address}]" if ip.version == 6 else address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(port: int, said: IO[bytes]) -> "subprocess.Popen[bytes]":
    """What prefect.server.api.server.SubprocessASGIServer starts, on a leash and out of Ctrl-C's reach."""
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent),
        "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port),
        "--log-level", "error", "--lifespan", "on",
    ]  # fmt: skip
    quiet = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return subprocess.Popen(
        leashed(command), env={**os.environ, **quiet}, start_new_session=True, stdout=said, stderr=said
    )


def _wait(server: "subprocess.Popen[bytes]", port: int, said: IO[bytes]) -> None:
    deadline_s = time.monotonic() + STARTUP_S
    trouble = "it does not listen"
    while not (_listens(port) and not (trouble := _trouble()[0])):
        status = server.poll()
        if status is not None or time.monotonic() > deadline_s:
            ended = f"it ended with {status}" if status is not None else f"{trouble} after {STARTUP_S:.0f} s"
            why = _reason(said)
            raise AtelierError(
                f"Prefect's server did not start in {Path.cwd()}: {ended}{f': {why}' if why else ''}; "
                "`dvc repro` does the same work without it"
            )
        time.sleep(0.1)


def _reason(said: IO[bytes]) -> str:
    """The last exception that a server's output names, else its last line."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (errors or lines or [""])[-1]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
