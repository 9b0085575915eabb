"""What sites ask of robots: robots.txt, read once a host, and X-Robots-Tag. Opens no connection itself."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import urljoin

from protego import Protego

from atelier.web.answers import Fetched, FetchError

TOKEN = "Atelier"  # how a robots.txt calls us
MAX_BYTES = 500_000
MAX_RULES = 1_000_000  # lines that name robots, times lines that rule: a small file may be a bomb
AGENT_LINE = re.compile(r"user.?agent", re.IGNORECASE)
UNWANTED = ("noai", "noimageai")
WITH_VALUES = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


class RobotsRefused(FetchError):
    """The site asks robots to stay away from this address."""


class Rules:
    """One host's robots.txt, as far as it concerns us."""

    def __init__(self, text: str) -> None:
        agents = sum(1 for _ in AGENT_LINE.finditer(text))
        if agents * (text.count("\n") + text.count("\r")) > MAX_RULES:
            raise ValueError("holds too many rules")
        self._rules = Protego.parse(text)

    def allow(self, url: str) -> bool:
        return self._rules.can_fetch(url, TOKEN)

    @property
    def crawl_delay_s(self) -> float:
        """Seconds between two requests; 0 where it does not say."""
        return self._rules.crawl_delay(TOKEN) or 0.0


class Robots:
    """The rules of each host, asked for once, by whichever thread needs them first; `fetch` brings a robots.txt."""

    def __init__(self, fetch: Callable[[str], Fetched]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def rules(self, url: str) -> Rules:
        """What the host of `url` asks for. Raises FetchError where it cannot be known."""
        address = urljoin(url, "/robots.txt")
        with self._lock:
            host = self._hosts.setdefault(address, _Host())
        if host.rules:
            return host.rules
        began_s = time.monotonic()
        with host.lock:
            if host.rules is None:
                if host.failure and host.failed_s > began_s:  # while we waited: no need to fail once more
                    raise _unread(url, host.failure)
                try:
                    host.rules = self._read(address)
                except FetchError as error:
                    host.failure, host.failed_s = error, time.monotonic()
                    raise _unread(url, error) from None
            return host.rules

    def _read(self, address: str) -> Rules:
        try:
            content = self._fetch(address).content
        except FetchError as error:
            if error.status and 400 <= error.status < 500:  # RFC 9309: there is none, everything is allowed
                return Rules("")
            raise
        try:
            return Rules(content.decode("utf-8-sig", "replace"))
        except ValueError as error:
            raise FetchError("error", address, str(error)) from None


def _unread(url: str, error: FetchError) -> FetchError:
    return type(error)(error.kind, url, f"its site's robots.txt cannot be read: {error.reason}")


class _Host:
    """What is known of one host's robots.txt."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rules: Rules | None = None
        self.failure: FetchError | None = None
        self.failed_s = float("-inf")


def unwanted(tags: Iterable[str]) -> str | None:
    """The directive of X-Robots-Tag headers that keeps a page from training, for all robots or for us; else None."""
    for tag in tags:
        meant = True
        for part in tag.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in WITH_VALUES:
                meant, name = name.strip() == TOKEN.lower(), rest
            if meant and name.strip() in UNWANTED:
                return name.strip()
    return None
