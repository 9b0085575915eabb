"""What a site asks of robots: robots.txt, fetched once for each host, and the same wishes in response headers.

Content-Signal (Cloudflare) and Content-Usage (IETF AIPREF), in robots.txt and as headers, say what pages may be used
for: `ai-train=no`, for example. X-Robots-Tag says it as `noai` or `noimageai`.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import urljoin

from protego import Protego
from urllib3 import HTTPHeaderDict

from atelier.web.response import Fetched, FetchError

USER_AGENT = "Atelier"  # the name in robots.txt that rules for this client use
ROBOTS_TXT_MAX_BYTES = 500_000
MAX_RULES = 1_000_000  # user agents × lines: parsing takes time in proportion
AGENT_LINE = re.compile(r"user.?agent", re.IGNORECASE)
NO_TRAINING_DIRECTIVES = ("noai", "noimageai")
TRAINING_SIGNAL = re.compile(r"(?<![\w-])(?:ai-train|train-ai|ai)\s*=\s*(\w+)", re.IGNORECASE)
NO = ("no", "n", "0", "false")
SIGNALS = ("content-signal", "content-usage")  # lines of robots.txt, and headers
DIRECTIVES_WITH_VALUES = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


class RobotsRefused(FetchError):
    """The site asks robots not to request this URL, or not to train on it."""


class RobotsRules:
    """The rules of one robots.txt that apply to this client. Raises ValueError for a file with too many rules."""

    def __init__(self, text: str) -> None:
        agents = sum(1 for _ in AGENT_LINE.finditer(text))
        if agents * (text.count("\n") + text.count("\r")) > MAX_RULES:
            raise ValueError("holds too many rules")
        self._rules = Protego.parse(text)
        self._training = Protego.parse("User-agent: *\n" + "\n".join(_training_rules(text)))

    def allow(self, url: str) -> bool:
        """Whether `url` may be requested."""
        return self._rules.can_fetch(url, USER_AGENT)

    def allow_training(self, url: str) -> bool:
        """Whether models may be trained on the content of `url`; true unless a signal says otherwise."""
        return self._training.can_fetch(url, USER_AGENT)

    @property
    def crawl_delay_s(self) -> float:
        """Seconds between two requests; 0 if the file does not say."""
        return self._rules.crawl_delay(USER_AGENT) or 0.0


class RobotsCache:
    """The rules of each host, fetched once with `fetch` by the first thread that needs them."""

    def __init__(self, fetch: Callable[[str], Fetched]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def rules(self, url: str) -> RobotsRules:
        """Return the rules of the host of `url`. Raises FetchError if its robots.txt cannot be read."""
        robots_url = urljoin(url, "/robots.txt")
        with self._lock:
            host = self._hosts.setdefault(robots_url, _Host())
        if host.rules:
            return host.rules
        began_s = time.monotonic()
        with host.lock:
            if host.rules is None:
                if host.failure and host.failed_s > began_s:  # it failed for another thread while this one waited
                    raise _unreadable(url, host.failure)
                try:
                    host.rules = self._read(robots_url)
                except FetchError as error:
                    host.failure, host.failed_s = error, time.monotonic()
                    raise _unreadable(url, error) from None
            return host.rules

    def _read(self, robots_url: str) -> RobotsRules:
        try:
            content = self._fetch(robots_url).content
        except FetchError as error:
            if error.status and 400 <= error.status < 500:  # RFC 9309: without a file, everything is allowed
                return RobotsRules("")
            raise
        try:
            return RobotsRules(content.decode("utf-8-sig", "replace"))
        except ValueError as error:
            raise FetchError("error", robots_url, str(error)) from None


class _Host:
    """The rules of one host, or the last failure to read them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rules: RobotsRules | None = None
        self.failure: FetchError | None = None
        self.failed_s = float("-inf")


def _unreadable(url: str, error: FetchError) -> FetchError:
    return type(error)(error.kind, url, f"its site's robots.txt cannot be read: {error.reason}")


def training_refusal(headers: HTTPHeaderDict) -> str:
    """Which response header says that its content must not be trained on; empty if none does."""
    if directive := no_training_directive(headers.getlist("X-Robots-Tag")):
        return f"X-Robots-Tag says {directive}"
    for name in SIGNALS:
        if any(_refuses_training(value) for value in headers.getlist(name)):
            return f"{name.title()} says that nothing is to be trained on it"
    return ""


def no_training_directive(tags: Iterable[str]) -> str | None:
    """The first directive of X-Robots-Tag headers against training, for all robots or for this client; else None."""
    for tag in tags:
        applies = True
        for part in tag.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in DIRECTIVES_WITH_VALUES:
                applies, name = name.strip() == USER_AGENT.lower(), rest
            if applies and name.strip() in NO_TRAINING_DIRECTIVES:
                return name.strip()
    return None


def _refuses_training(signal: str) -> bool:
    """Whether a Content-Signal or Content-Usage value says no to training."""
    return any(value.lower() in NO for value in TRAINING_SIGNAL.findall(signal))


def _training_rules(text: str) -> list[str]:
    """The training signals of the group of robots.txt that applies to this client, as Disallow and Allow lines."""
    groups: dict[str, list[str]] = {"*": []}
    agents, is_open = ["*"], False  # a group is open while its User-agent lines go on
    for line in text.splitlines():
        name, _, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if name in ("user-agent", "useragent", "user agent"):
            agents = [*(agents if is_open else []), value.partition("/")[0].strip().lower()]
            groups.setdefault(agents[-1], [])
            is_open = True
        elif name:
            is_open = False
            if name in SIGNALS and TRAINING_SIGNAL.search(value):
                path = value.split()[0] if value.startswith("/") else "/"
                rule = f"{'Disallow' if _refuses_training(value) else 'Allow'}: {path}"
                for agent in agents:
                    groups[agent].append(rule)
    return groups.get(USER_AGENT.lower(), groups["*"])
