"""Which Prefect server a flow uses, and the errors if it cannot be used."""

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.runtime import work_tree
from tests.flows.preloaded import Preloaded
from tests.flows.toys import Started, Tree

LOOKS = """
import json, os, sys
from flows.orchestration import server
from prefect.context import refresh_global_settings_context
for settings in json.loads(sys.argv[1]):
    os.environ.update(settings)
    refresh_global_settings_context()
    found = server.look()
    print(f"{found.message}: {found.fix}")
"""


def test_a_configured_server_that_does_not_answer_is_one_sentence(studio: Tree, preloaded: Preloaded) -> None:
    studio.preloaded = preloaded
    studio.environment = {**studio.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    run = studio.run("flows.cli", "run")
    assert (run.status, run.output) == (
        1,
        "no server at http://127.0.0.1:9/api: Connection refused: "
        "start it with `prefect server start`, or unset PREFECT_API_URL\n",
    )


def test_invalid_prefect_settings_are_a_sentence(studio: Tree) -> None:
    studio.environment = {**studio.environment, "PREFECT_API_URL": "http://[::1/api"}
    run = studio.run("flows.cli", "run")
    assert run.status == 1
    last = run.output.splitlines()[-1]  # Prefect has said something before
    assert last.startswith("a setting of Prefect's cannot be read: Value error, Invalid IPv6 URL: ")
    assert "Traceback" not in run.output


def test_each_problem_with_a_server_is_explained_with_its_fix(served: Tree) -> None:
    url = served.environment["PREFECT_API_URL"]
    settings = [
        {"PREFECT_API_URL": url.removesuffix("/api")},
        {"PREFECT_API_URL": url.removeprefix("http://")},
        {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": "/no/such.pem"},
        {"ALL_PROXY": "socks4://127.0.0.1:9"},
    ]
    said = served.run("-c", LOOKS, json.dumps(settings)).output.splitlines()
    assert "what answers there is not Prefect's API: set PREFECT_API_URL" in said[0]
    assert "this is no address of a server: set PREFECT_API_URL" in said[1]
    assert "No such file or directory: /no/such.pem: PREFECT_API_SSL_CERT_FILE has to name a file" in said[2]
    assert said[3].startswith("Prefect's client cannot use the proxy that the environment names: Unknown scheme")


@pytest.mark.slow
def test_a_flows_own_server_that_cannot_start_says_why(studio: Tree) -> None:
    """Waits for a Prefect server that ends."""
    database = "sqlite+aiosqlite:////no/such/folder/prefect.db"
    studio.environment = {**studio.environment, "PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    run = studio.run("flows.cli", "run")
    assert run.status == 1
    assert run.output.startswith("Prefect's server did not start in ")
    assert "unable to open database file; `dvc repro` does the same work without it" in run.output
    assert run.output.count("\n") == 1


@pytest.mark.slow
def test_a_flow_uses_its_studios_running_server_with_its_key_and_without_the_proxy(
    studio: Tree, start: Callable[..., Started], prefect_home: Path, preloaded: Preloaded
) -> None:
    """Waits for a Prefect server."""
    shutil.copytree(prefect_home, studio.root / ".prefect")
    studio.preloaded = preloaded
    plain = studio.environment
    proxy = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    studio.environment = {**plain, **proxy, "PREFECT_SERVER_API_AUTH_STRING": "anna:anemone"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start("prefect", "server", "start", "--port", str(port), "--no-ui")
    _listens(port)

    studio.environment = {**plain, **proxy, "PREFECT_API_AUTH_STRING": "anna:wrong"}
    refused = studio.run("flows.cli", "run", "scrape")
    assert refused.status == 1
    assert refused.output == (
        f"no server at http://127.0.0.1:{port}/api: it lets nobody in without the right key (HTTP 401): "
        "set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY, as it asks for\n"
    )
    studio.environment = {**plain, **proxy, "PREFECT_API_AUTH_STRING": "anna:anemone"}
    studio.trouble("scrape hold")
    run = start("flows.cli", "run", "scrape").until("scrape: held")
    assert not any("uvicorn" in process.cmdline() for process in run.family())
    studio.no_trouble()
    assert run.wait() == 0, run.output


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"NO_PROXY": "example.org"}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "localhost,127.0.0.1,::1"),
        ({"all_proxy": "http://p:1", "NO_PROXY": "a.org, b.org"}, "a.org,b.org,localhost,127.0.0.1,::1"),
        ({"http_proxy": "http://p:1", "no_proxy": "::1,a.org", "NO_PROXY": "b.org"},
         "::1,a.org,b.org,localhost,127.0.0.1"),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "*"),
    ],
)  # fmt: skip
def test_loopback_is_excluded_from_a_proxy(environment: dict[str, str], expected: str | None) -> None:
    past = work_tree.past_proxies(environment)
    assert past == ({} if expected is None else {"NO_PROXY": expected, "no_proxy": expected})


def _listens(port: int, timeout_s: float = 120) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
