"""Connections through SOCKS proxies, broken TLS connections, and a mirror in a private network."""

import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from atelier.errors import TransientError
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError
from tests.lookalike import Offer, Site, lookalike
from tests.pictures import jpeg

SEA = jpeg((20, 60, 160))
OFFER = Offer(id="0" * 24, image=SEA)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with lookalike({"genre/marina": [OFFER]}) as site:
        yield site


def client_of(base_url: str, retries: int = 2) -> PoliteClient:
    return PoliteClient(
        base_url, contact="me@example.org", rate_per_s=None, retries=retries, timeout_s=2, backoff_s=0.01
    )


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that hands each connection to `handle`."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # some tests close the connection early
                handle(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def socks_proxy(target: str) -> Iterator[tuple[int, list[str]]]:
    """The port of a SOCKS5 proxy (RFC 1928) that always connects to `target`, and the hosts that clients requested."""
    asked: list[str] = []

    def handle(client: socket.socket) -> None:
        greeting = client.recv(2)
        client.recv(greeting[1])
        client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        length = {1: 4, 4: 16}.get(kind) or client.recv(1)[0]
        host = client.recv(length)
        client.recv(2)
        asked.append(host.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET, host))
        address, _, port = target.removeprefix("http://").partition(":")
        with socket.create_connection((address, int(port))) as server:
            client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            thread = threading.Thread(target=_pump, args=(server, client), daemon=True)
            thread.start()
            _pump(client, server)

    with serving(handle) as port:
        yield port, asked


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_a_socks_proxy_is_used_and_resolves_host_names(site, monkeypatch, variable):
    with socks_proxy(site.base_url) as (port, asked):
        monkeypatch.setenv(variable, f"socks5h://127.0.0.1:{port}")
        with client_of("http://www.wikiart.org") as client:
            assert client.fetch(site.path_of(OFFER), max_bytes=1_000_000).content == SEA
    assert asked == ["www.wikiart.org"]


def test_https_uses_the_socks_proxy_as_well(monkeypatch):
    with serving(lambda client: None) as nobody, socks_proxy(f"http://127.0.0.1:{nobody}") as (port, asked):
        monkeypatch.setenv("https_proxy", f"socks5h://127.0.0.1:{port}")
        with client_of("https://www.wikiart.org", retries=0) as client, pytest.raises(TransientError):
            client.fetch("/", max_bytes=1000)
    assert set(asked) == {"www.wikiart.org"}


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:9", "http://[", "nonsense://x"])
def test_an_invalid_proxy_is_a_fetch_error(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with client_of("http://www.wikiart.org", retries=0) as client, pytest.raises(FetchError):
        client.fetch("/", max_bytes=1000)


def test_a_dropped_tls_connection_is_tried_again():
    connections: list[int] = []

    def drop(client: socket.socket) -> None:
        connections.append(1)
        client.recv(10_000)  # the TLS greeting, which gets no answer

    with (
        serving(drop) as port,
        client_of(f"https://127.0.0.1:{port}") as client,
        pytest.raises(TransientError, match="3 tries"),
    ):
        client.fetch("/robots.txt", max_bytes=1000)
    assert len(connections) == 3


def test_an_untrusted_certificate_is_a_permanent_error(tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "2", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    connections: list[int] = []

    def greet(client: socket.socket) -> None:
        connections.append(1)
        context.wrap_socket(client, server_side=True).recv(100)

    with (
        serving(greet) as port,
        client_of(f"https://127.0.0.1:{port}") as client,
        pytest.raises(FetchError, match="certificate is not accepted") as caught,
    ):
        client.fetch("/robots.txt", max_bytes=1000)
    assert not isinstance(caught.value, TransientError) and len(connections) == 1


def test_a_mirror_may_have_a_private_address_and_other_hosts_may_not(site, monkeypatch):
    port = int(site.base_url.rpartition(":")[2])
    inward = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **settings: inward)
    with client_of(f"http://mirror.example:{port}", retries=0) as client:
        assert client.fetch(site.path_of(OFFER), max_bytes=1_000_000).content == SEA
        with pytest.raises(FetchError, match="no public address"):
            client.fetch("http://uploads0.wikiart.org/sea.jpg", max_bytes=1000)
        with pytest.raises(FetchError, match="not a host of"):
            client.fetch("http://elsewhere.example/sea.jpg", max_bytes=1000)
