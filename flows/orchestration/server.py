"""The Prefect server of a flow: the configured one, else one that runs for this studio, else a temporary one.

The temporary server replaces Prefect's own, which would keep running after the flow was killed. Enter the work tree
(flows.runtime.work_tree) before importing this module: Prefect reads its settings on import.
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
from flows.orchestration.without_prefect import lasting_servers
from flows.runtime import work_tree
from flows.runtime.process import leashed

try:
    import prefect
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
except ValidationError as error:  # in a variable PREFECT_…, a profile or [tool.prefect]
    first = error.errors()[0]
    name = "".join(f"{part}: " for part in first["loc"][:1])
    raise AtelierError(
        f"a setting of Prefect's cannot be read: {name}{first['msg']}: look at the variables PREFECT_… of your "
        "environment, and at `prefect config view`"
    ) from None

STARTUP_TIMEOUT_S = 120.0  # the first start in a studio also creates the database
LISTEN_TIMEOUT_S = 60.0  # for a server that has opened its database but does not listen yet
ANSWER_TIMEOUT_S = 30.0  # a busy machine's server takes its time; one that does not run refuses at once
ADDRESS_FIX = "set PREFECT_API_URL to an address like http://127.0.0.1:4200/api"  # of `prefect server start`
KEY_FIX = "set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY, as it asks for"
START_FIX = "start it with `prefect server start`, or unset PREFECT_API_URL"


def start() -> Callable[[], None]:
    """Use the configured server or the one that runs for this studio, else start one.

    Returns a function that waits until the server answers; call it late, because a start takes seconds. A server that
    was started here ends with this process. Raises AtelierError if a configured server cannot be used.
    """
    if running():
        return lambda: None
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    output = tempfile.TemporaryFile()  # noqa: SIM115, as long as the server runs
    server = _start(port, output)
    _use(f"http://127.0.0.1:{port}/api")
    os.environ["PREFECT_UI_URL"] = ""  # the temporary server has no UI: no links to it in the log
    refresh_global_settings_context()
    # handlers run in reverse order: those that Prefect registers later still send the last log lines
    atexit.register(_stop, server)
    return lambda: _wait(server, port, output)


def running() -> str | None:
    """Return the API's address of the configured server, else of one that runs for this studio, else None.

    Prefect uses that server from then on, in this process and its children. Raises AtelierError if it cannot be used.
    """
    found = look()
    if found is None:
        return None
    if found.state != "ok":
        raise AtelierError(f"{found.message}: {found.fix}")
    return get_current_settings().api.url


def page() -> str:
    """Return the address of the current server's UI."""
    return (get_current_settings().api.url or "").removesuffix("/").removesuffix("/api")


def look() -> Finding | None:
    """Check the server that `running` would use. Returns a finding, or None without such a server."""
    os.environ.update(work_tree.past_proxies(os.environ))
    try:
        httpx.Client().close()
    except (httpx.InvalidURL, ValueError, ImportError) as error:  # neither HTTP nor SOCKS 5, or no valid address
        trouble = f"Prefect's client cannot use the proxy that the environment names: {error}"
        return Finding("Prefect", "wrong", trouble, "correct or unset HTTP_PROXY, HTTPS_PROXY and ALL_PROXY")
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
    """Why Prefect's client cannot use the current server, and the fix; two empty texts if it can."""
    no_api = "what answers there is not Prefect's API", ADDRESS_FIX
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": ANSWER_TIMEOUT_S}, sync_client=True) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                if error := client.api_healthcheck():
                    raise error
            else:
                client.api_version()  # needs authentication, unlike the health check
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        return "this is no address of a server", ADDRESS_FIX
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            return f"it lets nobody in without the right key (HTTP {status})", KEY_FIX
        return no_api if status == 404 else (f"HTTP {status}", START_FIX)
    except httpx.TimeoutException:
        return f"no answer within {ANSWER_TIMEOUT_S:.0f} s", START_FIX
    except httpx.TransportError as error:
        text = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return text, "name its authority's file in PREFECT_API_SSL_CERT_FILE"
        return text or type(error).__name__, START_FIX
    except ValueError:  # a web page instead of JSON
        return no_api
    except OSError as error:
        certificates = get_current_settings().api.ssl_cert_file
        return f"{error.strerror or error}: {certificates}", "PREFECT_API_SSL_CERT_FILE has to name a file"
    return "", ""


def _use(url: str) -> None:
    os.environ.update(work_tree.past_proxies(os.environ))
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def _of_this_studio() -> str | None:
    """The API's address of a `prefect server start` with this studio's SQLite database; waits while it is starting."""
    secret = get_current_settings().server.database.connection_url
    kind, _, path = (secret.get_secret_value() if secret else "").partition(":///")
    if not kind.startswith("sqlite"):
        return None
    database = os.path.realpath(path.partition("?")[0])
    deadline_s = time.monotonic() + LISTEN_TIMEOUT_S
    while process := next(lasting_servers(lambda path: path == database), None):
        with contextlib.suppress(psutil.Error):  # it has ended
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return f"http://{_host(connection.laddr.ip)}:{connection.laddr.port}/api"
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    return None


def _host(address: str) -> str:
    """The host by which to reach a listening address: loopback for a server that listens on all interfaces."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        return "127.0.0.1" if ip.version == 4 else "[::1]"
    return f"[{address}]" if ip.version == 6 else address


def _start(port: int, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start what prefect.server.api.server.SubprocessASGIServer starts, ended with this process and not by Ctrl-C."""
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent),
        "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port),
        "--log-level", "error", "--lifespan", "on",
    ]  # fmt: skip
    quiet = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return subprocess.Popen(
        leashed(command), env={**os.environ, **quiet}, start_new_session=True, stdout=output, stderr=output
    )


def _wait(server: "subprocess.Popen[bytes]", port: int, output: IO[bytes]) -> None:
    deadline_s = time.monotonic() + STARTUP_TIMEOUT_S
    trouble = "it does not listen"
    while not (_listens(port) and not (trouble := _trouble()[0])):
        status = server.poll()
        if status is not None or time.monotonic() > deadline_s:
            ended = f"it ended with {status}" if status is not None else f"{trouble} after {STARTUP_TIMEOUT_S:.0f} s"
            output.seek(0)
            lines = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
            errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
            why = "".join(f": {line}" for line in (errors or lines)[-1:])
            trouble = f"Prefect's server did not start in {Path.cwd()}: {ended}{why}"
            raise AtelierError(f"{trouble}; `dvc repro` does the same work without it")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
