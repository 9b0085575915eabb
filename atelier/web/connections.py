"""HTTP connections that reach public addresses only and report each request sent and each byte received.

The adapter is used without requests.Session, which would follow redirects, keep cookies, send passwords from .netrc,
and double the time of an exchange.
"""

import io
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from requests.utils import default_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from atelier.web.limits import WIKIART_HOST, is_loopback, is_public

MAX_POOLS = 12  # kept connections, one a host: WikiArt has nine image hosts


class PrivateAddressError(Exception):
    """A host name resolved to an address that is not on the public internet."""


class GuardedAdapter(HTTPAdapter):
    """The connections of one thread. `on_sent` and `on_received` are called during the present exchange.

    A callback that raises ends the exchange. If `base_url` is on a loopback address, the adapter connects to servers of
    this machine and uses no proxy. Otherwise it connects to public addresses, and to the host of `base_url` whatever
    its address is, unless that is WikiArt's: another host is the user's choice, and may be in a private network.
    """

    def __init__(self, user_agent: str, base_url: str) -> None:
        is_local = is_loopback(base_url)
        self.only_public = not is_local
        host = urlsplit(base_url).hostname or ""
        self.trusted_host = "" if WIKIART_HOST.fullmatch(host) else host
        self._headers = {**default_headers(), "User-Agent": user_agent, "Accept-Encoding": "gzip"}
        self._environment = requests.Session()  # reads proxies and certificates from the environment, sends nothing
        self._environment.trust_env = not is_local
        self._settings: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.on_sent: Callable[[], None] = lambda: None
        self.on_received: Callable[[int], None] = lambda count: None
        super().__init__(pool_connections=MAX_POOLS, pool_maxsize=1)

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float) -> requests.Response:
        """Send a GET request and return the response with its body unread. Raises what requests raises."""
        prepared = requests.PreparedRequest()
        prepared.prepare("GET", url, headers={**self._headers, **headers})
        assert prepared.url
        parts = urlsplit(prepared.url)
        origin = parts.scheme, parts.netloc
        if origin not in self._settings:
            self._settings[origin] = self._environment.merge_environment_settings(prepared.url, {}, True, None, None)
        return self.send(prepared, timeout=timeout_s, **self._settings[origin])

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        super().init_poolmanager(*args, **settings)
        self.poolmanager.pool_classes_by_scheme = _pools(self)

    def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
        try:
            manager = super().proxy_manager_for(proxy, **settings)
        except ValueError:  # the address itself may contain a password
            raise InvalidProxyURL("the proxy's address (HTTP_PROXY, ALL_PROXY ...) is malformed") from None
        if proxy.lower().startswith("socks"):
            from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection  # needs PySocks

            manager.pool_classes_by_scheme = _pools(self, SOCKSConnection, SOCKSHTTPSConnection)
        else:
            manager.pool_classes_by_scheme = _pools(self)
        return manager


def _pools(
    guarded: GuardedAdapter,
    plain: type[HTTPConnection] = HTTPConnection,
    secure: type[HTTPConnection] = HTTPSConnection,
) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools for urllib3 whose connections hold a reference to the adapter."""

    def pool(base: type[HTTPConnectionPool], connection: type[HTTPConnection]) -> type[HTTPConnectionPool]:
        own = {"adapter": guarded, "is_direct": connection in (HTTPConnection, HTTPSConnection)}
        return type(base.__name__, (base,), {"ConnectionCls": type("Guarded", (_GuardedConnection, connection), own)})

    return {"http": pool(HTTPConnectionPool, plain), "https": pool(HTTPSConnectionPool, secure)}


class _GuardedConnection(HTTPConnection):
    """A connection that checks its peer's address and calls its adapter's callbacks."""

    adapter: GuardedAdapter
    is_direct: bool  # without a SOCKS proxy

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        # a proxy resolves names itself, and often has a private address
        is_direct = self.is_direct and not self.proxy
        trusted = self.host.strip("[]").lower() == self.adapter.trusted_host
        if self.adapter.only_public and is_direct and not trusted:
            peer = connected.getpeername()[0]
            if not is_public(peer):
                connected.close()
                raise PrivateAddressError(f"the name {self.host} leads to {peer}, which is no public address")
        return connected

    def request(self, *args: Any, **settings: Any) -> None:
        super().request(*args, **settings)
        self.adapter.on_sent()

    def response_class(self, *args: Any, **settings: Any) -> HTTPResponse:  # type: ignore[override]
        response = HTTPResponse(*args, **settings)
        raw = response.fp.detach()
        response.fp = io.BufferedReader(_CountedStream(raw, self.adapter))
        return response


class _CountedStream(io.RawIOBase):
    """A socket's stream that reports every read, so that endless headers are noticed as well as an endless body."""

    def __init__(self, raw: io.RawIOBase, adapter: GuardedAdapter) -> None:
        self._raw, self._adapter = raw, adapter

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._adapter.on_received(count or 0)
        return count

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
