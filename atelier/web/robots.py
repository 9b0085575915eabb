"""What sites ask of robots: robots.txt, read once a host, with its Content-Signal, and the same in headers.

Content-Signal (Cloudflare) and Content-Usage (IETF AIPREF) say what pages may be used for: `ai-train=no`, for example.
"""

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
TRAINING = re.compile(r"(?<![\w-])(?:ai-train|train-ai|ai)\s*=\s*(\w+)", re.IGNORECASE)
NO = ("no", "n", "0", "false")
SIGNALS = ("content-signal", "content-usage")  # of robots.txt, and headers of the same names
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
        self._training = Protego.parse("User-agent: *\n" + "\n".join(_training_rules(text)))

    def allow(self, url: str) -> bool:
        return self._rules.can_fetch(url, TOKEN)

    def allow_training(self, url: str) -> bool:
        """Whether what lies at `url` may be used to train models; yes where nothing is said of it."""
        return self._training.can_fetch(url, TOKEN)

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


def refuses_training(signal: str) -> bool:
    """Whether a Content-Signal or Content-Usage says that nothing is to be trained on this."""
    return any(value.lower() in NO for value in TRAINING.findall(signal))


def _training_rules(text: str) -> list[str]:
    """The signals about training of the group that is meant for us, as rules that Disallow or Allow paths."""
    groups: dict[str, list[str]] = {"*": []}
    agents, is_open = ["*"], False  # a group is open as long as its User-agent lines go on
    for line in text.splitlines():
        name, _, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if name in ("user-agent", "useragent", "user agent"):
            agents = [*(agents if is_open else []), value.partition("/")[0].strip().lower()]
            groups.setdefault(agents[-1], [])
            is_open = True
        elif name:
            is_open = False
            if name in SIGNALS and TRAINING.search(value):
                path = value.split()[0] if value.startswith("/") else "/"
                rule = f"{'Disallow' if refuses_training(value) else 'Allow'}: {path}"
                for agent in agents:
                    groups[agent].append(rule)
    return groups.get(TOKEN.lower(), groups["*"])


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
