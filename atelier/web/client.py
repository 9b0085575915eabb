"""An HTTP client that a site can live with: a pace for each host, retries that wait, rules that are obeyed.

Knows nothing of what it fetches. What an answer is worth is answers.py's, what robots may do is robots.py's.
"""

import random
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3

from atelier import __version__
from atelier.errors import AtelierError
from atelier.web.answers import (
    LEADS_TO,
    Bounds,
    Challenged,
    Fetched,
    FetchError,
    NoAnswer,
    Redirected,
    Transient,
    Validators,
    read,
)
from atelier.web.pace import Budget, Closed, Paces, Stopped, Turn
from atelier.web.robots import MAX_BYTES as ROBOTS_MAX_BYTES
from atelier.web.robots import SIGNALS, Robots, RobotsRefused, refuses_training, unwanted
from atelier.web.wire import PrivatePeer, Wire, is_allowed, is_loopback, is_wikiart

__all__ = [
    "FetchError",
    "Fetched",
    "NoAnswer",
    "PoliteClient",
    "Redirected",
    "RobotsRefused",
    "Stopped",
    "Validators",
]

REDIRECTS = 5
FOR_GOOD = (  # another try would not help
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    UnicodeError,
)
ERROR_PAGE = re.compile(r"/(?:[^/]*error[^/]*|[^/]*not-?found[^/]*|404|410|500)(?:[/.]|$)", re.IGNORECASE)
LONGEST_BACKOFF_S = 60.0
LONGEST_DELAY_S = 10.0  # where a site puts us off: its pace has fallen by then, and all threads share that
PATIENCE_S = 600.0  # how long a site may put us off before a request is given up
REDIRECT = 302
WITH_LEAVE = "if its owner has allowed you to train on it, set scrape.wikiart.may_train: true"
CHALLENGE = (
    "asks whether a person is at a browser (a Cloudflare challenge), and Atelier does not pretend to be one"
)
CHALLENGE_PAUSE_S = 3600.0  # how long a host that asks for a person is left alone


class PoliteClient:
    """GETs from one site, from any number of threads, no host asked faster than `rate_per_s` (None: no limit).

    429, 5xx and broken connections slow all threads down at that host and are tried again, `retries` times; a site
    that only asks for patience (429, 503) gets it, up to `patience_s`. The pace comes back when the trouble stays
    away. Redirects are followed only to hosts that `base_url` may send us to; each host's robots.txt is obeyed, and
    so is its wish that nothing be trained on its pages, unless its owner has allowed it (`may_train`).
    """

    def __init__(
        self,
        base_url: str,
        *,
        contact: str,
        rate_per_s: float | None,
        retries: int,
        timeout_s: float,
        budget: Budget | None = None,
        backoff_s: float = 1.0,
        patience_s: float = PATIENCE_S,
        may_train: bool = False,
    ) -> None:
        if not contact and not is_loopback(base_url):
            raise AtelierError(
                f"{base_url} is not asked anonymously: set scrape.wikiart.contact to your e-mail address or URL"
            )
        self.base_url = base_url
        self.retries, self.timeout_s = retries, timeout_s
        self.backoff_s, self.patience_s = backoff_s, patience_s
        self.may_train = may_train
        self.user_agent = f"Mozilla/5.0 (compatible; Atelier/{__version__}; +{contact or 'local'})"
        self._budget = budget or Budget(None, None)
        self._stop = threading.Event()
        self._paces = Paces(rate_per_s, patience_s, self._stop)
        self._robots = Robots(self._robots_txt)
        self._local = threading.local()
        self._wires: list[Wire] = []
        self._wires_lock = threading.Lock()

    def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: dict[str, str] | None = None,
        validators: Validators | None = None,
        is_data: bool = False,
    ) -> Fetched:
        """The answer of `url` (absolute, or relative to the base), or that it is still what `validators` name.

        A redirect to the site's error page raises Redirected, and so does any redirect to another page where the
        address is one of data (`is_data`: JSON). Raises FetchError, BudgetSpent, or Stopped after `stop`.
        """
        url = _joined(self.base_url, url)
        return self._insist(
            _Request(url, max_bytes, headers or {}, validators, is_ruled=True, is_data=is_data)
        )

    def rate_per_s(self, url: str) -> float:
        """The present pace at the host of `url`; infinite where none is set. Below the set one while it has trouble."""
        return self._paces.of(_joined(self.base_url, url)).rate_per_s

    def stop(self) -> None:
        """Make every waiting and coming `fetch` raise Stopped; a body being read ends at its next piece."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        with self._wires_lock:
            for wire in self._wires:
                wire.close()
            self._wires.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _robots_txt(self, url: str) -> Fetched:
        return self._insist(_Request(url, ROBOTS_MAX_BYTES, {}, None, is_ruled=False))

    def _insist(self, request: "_Request") -> Fetched:
        """The answer, after as many tries as it takes."""
        failures = delays = 0
        delayed_s: float | None = None  # since when
        while True:
            try:
                return self._follow(request)
            except Transient as trouble:
                if trouble.throttled:
                    # bounded by the clock: while a site puts everybody off, a count of tries is used up in no time
                    now_s = time.monotonic()
                    delayed_s = delayed_s or now_s
                    if now_s - delayed_s > self.patience_s:
                        reason = f"{trouble} for {now_s - delayed_s:,.0f} s"
                        raise NoAnswer("error", request.url, reason) from None
                    tries, delays, longest_s = delays, delays + 1, LONGEST_DELAY_S
                else:
                    tries, failures, longest_s = failures, failures + 1, LONGEST_BACKOFF_S
                    if failures > self.retries:
                        reason = f"{trouble} ({failures} {'tries' if failures > 1 else 'try'})"
                        raise NoAnswer("error", request.url, reason) from None
            # jitter keeps the threads that failed together from coming back together
            wait_s = min(self.backoff_s * 2 ** min(tries, 30), longest_s) * random.uniform(0.5, 1.5)
            if self._stop.wait(wait_s):
                raise Stopped(f"{request.url}: stopped")

    def _follow(self, request: "_Request") -> Fetched:
        """The answer of one try, behind as many redirects as are allowed."""
        url = request.url
        for _ in range(REDIRECTS + 1):
            if not is_allowed(url, self.base_url):
                reason = f"leads to {url}, which is not a host of {self.base_url}"
                raise FetchError("refused", request.url, reason)
            if request.is_ruled:
                self._obey_robots(url)
            answer = self._ask(url, request)
            if isinstance(answer, Fetched):
                return answer
            before, url = url, _joined(url, answer)
            if leaves_encryption(before, url):
                raise FetchError(
                    "refused", request.url, f"leads from https to {url[:200]}, which is not encrypted"
                )
            if request.is_ruled and is_allowed(url, self.base_url) and _ends_here(request, url):
                raise Redirected("error", request.url, f"{LEADS_TO}{url[:200]}", REDIRECT)
        raise FetchError("refused", request.url, f"more than {REDIRECTS} redirects")

    def _obey_robots(self, url: str) -> None:
        rules = self._robots.rules(url)
        if not rules.allow(url):
            raise RobotsRefused("refused", url, "its site's robots.txt asks us to stay away")
        if not self.may_train and not rules.allow_training(url):
            raise RobotsRefused("refused", url, f"its site's robots.txt says ai-train=no; {WITH_LEAVE}")
        if rules.crawl_delay_s:
            self._paces.of(url).limit(1 / rules.crawl_delay_s)

    def _ask(self, url: str, request: "_Request") -> Fetched | str:
        """One request that leaves when its time has come: the answer, or where it sends us."""
        pace = self._paces.of(url)
        try:
            turn = pace.turn()
        except Closed as closed:
            raise NoAnswer("error", url, f"its site {closed}") from None
        try:
            self._budget.spend()
            return self._answer(url, request, turn)
        except Transient as trouble:
            pace.slow_down()
            if trouble.retry_after_s is not None:
                pace.pause(trouble.retry_after_s)
            raise
        finally:
            turn.left()

    def _answer(self, url: str, request: "_Request", turn: Turn) -> Fetched | str:
        wire = self._wire()
        bounds = Bounds(url, request.max_bytes, self.timeout_s, self._stop)
        wire.on_sent, wire.on_received = turn.left, bounds.received
        try:
            with wire.get(url, request.all_headers, self.timeout_s) as response:
                if response.headers.get("cf-mitigated", "").strip().lower() == "challenge":
                    self._paces.of(url).pause(CHALLENGE_PAUSE_S, CHALLENGE)
                    raise Challenged("error", url, f"its site {CHALLENGE}")
                if response.is_redirect:
                    return response.headers["Location"].encode("latin-1").decode()
                if request.is_ruled and not self.may_train and (wish := _wish(response)):
                    raise RobotsRefused("refused", url, f"its {wish}; {WITH_LEAVE}")
                return read(response, bounds, request.validators)
        except PrivatePeer as private:
            raise FetchError("refused", url, str(private)) from None
        except FOR_GOOD as error:
            raise FetchError("error", url, str(error)[:200]) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            for cause in _causes(error):
                if isinstance(cause, ssl.SSLCertVerificationError):
                    raise FetchError(
                        "error", url, f"its certificate is not accepted: {cause}"[:300]
                    ) from None
            raise Transient(_in_short(error)) from None

    def _wire(self) -> Wire:
        """This thread's own connections: requests does not promise that an adapter may be shared."""
        own: Wire | None = getattr(self._local, "own", None)
        if own is None:
            # the host that a person wrote into params.yaml may be one of their own network
            mirror = "" if is_wikiart(self.base_url) else urlsplit(self.base_url).hostname or ""
            own = self._local.own = Wire(self.user_agent, is_local=is_loopback(self.base_url), mirror=mirror)
            with self._wires_lock:
                self._wires.append(own)
        return own


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for; `is_ruled` by robots.txt, as all but robots.txt itself; `is_data`: no page for people."""

    url: str
    max_bytes: int
    headers: dict[str, str]
    validators: Validators | None
    is_ruled: bool
    is_data: bool = False

    @property
    def all_headers(self) -> dict[str, str]:
        return self.headers | (self.validators.headers if self.validators else {})


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise FetchError("refused", url[:200], f"is no address: {error}") from None


def leaves_encryption(before: str, url: str) -> bool:
    return urlsplit(before).scheme == "https" and urlsplit(url).scheme == "http"


def _wish(response: requests.Response) -> str:
    """Which header of a good answer asks that nothing be trained on it; empty where none does."""
    if response.status_code != 200:
        return ""
    headers = response.raw.headers
    if tag := unwanted(headers.getlist("X-Robots-Tag")):
        return f"X-Robots-Tag says {tag}"
    for name in SIGNALS:
        if any(refuses_training(value) for value in headers.getlist(name)):
            return f"{name.title()} says that nothing is to be trained on it"
    return ""


def _ends_here(request: "_Request", target: str) -> bool:
    """Whether a redirect to `target`, on the same site, is an answer by itself and not the way to one."""
    asked, led = unquote(urlsplit(request.url).path), unquote(urlsplit(target).path)
    if asked.rstrip("/").lower() == led.rstrip("/").lower():  # another host of the site, or another spelling
        return False
    return request.is_data or (ERROR_PAGE.search(led) is not None and ERROR_PAGE.search(asked) is None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions inside an exception of requests or urllib3, from the outside in."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        inner = waiting.pop()
        if not isinstance(inner, BaseException) or id(inner) in seen:
            continue
        seen.add(id(inner))
        yield inner
        waiting += [inner.__cause__, inner.__context__, getattr(inner, "reason", None), *inner.args]


def _in_short(error: Exception) -> str:
    """A network error without the object addresses and nesting that urllib3 puts into it."""
    for words, sentence in (
        ("NameResolution", "its host name cannot be resolved: is this machine online?"),
        ("SSLEOFError", "the encrypted connection was dropped"),
        ("SSLError", "the encrypted connection could not be made"),
        ("IncompleteRead", "the answer ended before its announced length"),
        ("timed out", "no answer in time"),
        ("Max retries", "no connection"),
        ("Connection aborted", "the connection was dropped"),
        ("Connection broken", "the connection was dropped"),
        ("reset by peer", "the connection was dropped"),
    ):
        if words in repr(error):
            return sentence
    return f"{type(error).__name__}: {str(error)[:200]}"
