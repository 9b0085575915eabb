"""Which hosts may be asked: nothing here opens a connection."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

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
