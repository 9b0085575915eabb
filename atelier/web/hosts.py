"""Which hosts may be asked: nothing here opens a connection."""

import ipaddress
import re
from urllib.parse import urlsplit

WIKIART = re.compile(r"(?:[a-z0-9-]+\.)*wikiart\.org")
# where one parser sees a host's end, another sees a letter of its name: `https://elsewhere\.wikiart.org/`
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


def is_public(address: str) -> bool:
    """Whether an IP address, as a connection names its peer, is one of the public internet."""
    number = ipaddress.ip_address(address)
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped:
        number = number.ipv4_mapped
    return number.is_global and not number.is_multicast


def is_allowed(url: str, base_url: str) -> bool:
    """Whether an answer of `base_url` may send us to `url`.

    Allowed are http(s) URLs on *.wikiart.org, or, where `base_url` is a loopback address, on its own host and
    port; never with credentials, so that `https://wikiart.org@elsewhere/` stays out.
    """
    if AMBIGUOUS.search(url):
        return False
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        address = (parts.hostname or "", parts.port)
        base_address = (base.hostname or "", base.port)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.password is not None:
        return False
    if is_loopback(base_url):
        return address == base_address
    return address[1] in (None, 80, 443) and WIKIART.fullmatch(address[0]) is not None
