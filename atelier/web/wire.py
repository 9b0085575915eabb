"""HTTP connections that reach public addresses only, with callbacks for a request that has left and bytes that came.

A callback may raise, which ends the exchange.

Which hosts may be asked: nothing here opens a connection.
"""

import io
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from requests.utils import default_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

WIKIART = re.compile(r"(?:[a-z0-9-]+\.)*wikiart\.org")

# where one parser sees a host's end, another sees a letter of its name: `https://elsewhere\.wikiart.org/`
USUAL_PORTS = (80, 443)

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052

UNICAST = ipaddress.IPv6Network("2000::/3")  # all that has been allocated to the public internet

AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\]")


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine by a loopback address or as localhost (names are not resolved)."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wikiart(url: str) -> bool:
    """Whether `url` is on a host of wikiart.org."""
    return WIKIART.fullmatch(urlsplit(url).hostname or "") is not None


def is_public(address: str) -> bool:
    """Whether an IP address, as a connection names its peer, is one of the public internet.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4) is as public as that.
    """
    number: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour
        if inner is None and number in NAT64:
            inner = ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)
        if inner is None and number not in UNICAST:
            return False
        number = inner or number
    return number.is_global and not number.is_multicast


def is_allowed(url: str, base_url: str) -> bool:
    """Whether an answer of `base_url` may send us to `url`.

    Allowed are http(s) URLs on the host and port of `base_url`, and, unless that is a loopback address, on
    *.wikiart.org; never with credentials, so that `https://wikiart.org@elsewhere/` stays out.
    """
    if AMBIGUOUS.search(url):
        return False
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        host, port, base_port = parts.hostname or "", _port(parts), _port(base)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.password is not None:
        return False
    if host == base.hostname and port == base_port:
        return True
    if is_loopback(base_url) or port not in USUAL_PORTS:
        return False
    return WIKIART.fullmatch(host) is not None or (host == base.hostname and base_port in USUAL_PORTS)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


HOSTS = 12  # connections that are kept, one a host: WikiArt has nine image hosts


class PrivatePeer(Exception):
    """A host's name led to an address that is not on the public internet."""


class Wire(HTTPAdapter):
    """One thread's connections; `on_sent` and `on_received` watch the present exchange.

    `is_local`: to servers of this machine's own, past any proxy; otherwise to public addresses only, and to `mirror`,
    a host that may have a private one. Follows no redirect, keeps no cookie and sends no password: a requests session
    would, and takes as long again as the exchange.
    """

    def __init__(self, user_agent: str, *, is_local: bool, mirror: str = "") -> None:
        self.only_public, self.mirror = not is_local, mirror
        self._headers = {**default_headers(), "User-Agent": user_agent, "Accept-Encoding": "gzip"}
        self._surroundings = requests.Session()  # asked for proxies and certificates, sends nothing
        self._surroundings.trust_env = not is_local
        self._routes: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.on_sent: Callable[[], None] = lambda: None
        self.on_received: Callable[[int], None] = lambda count: None
        super().__init__(pool_connections=HOSTS, pool_maxsize=1)

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float) -> requests.Response:
        """The answer's head, its body still on the wire. Raises what requests raises."""
        prepared = requests.PreparedRequest()
        prepared.prepare("GET", url, headers={**self._headers, **headers})
        assert prepared.url
        parts = urlsplit(prepared.url)
        place = parts.scheme, parts.netloc
        if place not in self._routes:
            self._routes[place] = self._surroundings.merge_environment_settings(
                prepared.url, {}, True, None, None
            )
        return self.send(prepared, timeout=timeout_s, **self._routes[place])

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
    of_wire: Wire,
    plain: type[HTTPConnection] = HTTPConnection,
    secure: type[HTTPConnection] = HTTPSConnection,
) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, whose connections have the wire as an attribute."""

    class Plain(_Watching, plain):  # type: ignore[misc, valid-type]
        wire = of_wire
        is_direct = plain is HTTPConnection

    class Secure(_Watching, secure):  # type: ignore[misc, valid-type]
        wire = of_wire
        is_direct = secure is HTTPSConnection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Watching(HTTPConnection):
    """A connection that checks its peer's address and tells its wire what leaves and comes."""

    wire: Wire
    is_direct: bool  # no SOCKS proxy between

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        # a proxy resolves names itself, and is often a private address
        is_direct = self.is_direct and not self.proxy
        if self.wire.only_public and is_direct and self.host.strip("[]").lower() != self.wire.mirror:
            peer = connected.getpeername()[0]
            if not is_public(peer):
                connected.close()
                raise PrivatePeer(f"the name {self.host} leads to {peer}, which is no public address")
        return connected

    def request(self, *args: Any, **settings: Any) -> None:
        super().request(*args, **settings)
        self.wire.on_sent()

    def response_class(self, *args: Any, **settings: Any) -> HTTPResponse:  # type: ignore[override]
        response = HTTPResponse(*args, **settings)
        raw = response.fp.detach()
        response.fp = io.BufferedReader(_Watched(raw, self.wire))
        return response


class _Watched(io.RawIOBase):
    """A socket's bytes, each arrival told: a header or a chunk's size that never ends is noticed like a body."""

    def __init__(self, raw: io.RawIOBase, wire: Wire) -> None:
        self._raw, self._wire = raw, wire

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._wire.on_received(count or 0)
        return count

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
