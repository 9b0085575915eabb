"""Which URLs may be requested and which IP addresses are public. Opens no connection and imports no HTTP library."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

WIKIART_HOST = re.compile(r"(?:[a-z0-9-]+\.)*wikiart\.org")
DEFAULT_PORTS = (80, 443)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is allocated to the public internet
# URL parsers disagree on where the host ends: `https://elsewhere\.wikiart.org/`
AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\]")


def is_allowed(url: str, base_url: str) -> bool:
    """Whether a page of `base_url` may redirect or link the client to `url`.

    Allowed are http(s) URLs on the host and port of `base_url`, and, unless that is a loopback address, on
    *.wikiart.org. URLs with credentials are never allowed, so `https://wikiart.org@elsewhere/` is not.
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
    if is_loopback(base_url) or port not in DEFAULT_PORTS:
        return False
    return WIKIART_HOST.fullmatch(host) is not None or (host == base.hostname and base_port in DEFAULT_PORTS)


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is localhost or a loopback address. Names are not resolved."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wikiart(url: str) -> bool:
    """Whether `url` is on a host of wikiart.org."""
    return WIKIART_HOST.fullmatch(urlsplit(url).hostname or "") is not None


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    An IPv6 address that embeds an IPv4 address (mapped, NAT64, 6to4) is public if that address is.
    """
    number: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(number, ipaddress.IPv6Address):
        embedded = number.ipv4_mapped or number.sixtofour
        if embedded is None and number in NAT64:
            embedded = ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)
        if embedded is None and number not in GLOBAL_UNICAST:
            return False
        number = embedded or number
    return number.is_global and not number.is_multicast


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
