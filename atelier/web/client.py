"""A polite HTTP client for one site: a rate limit for each host, retries with back-off, redirects, and robots.txt.

Retries are not urllib3's: here all threads slow down together, a wait ends at once when the client is stopped, and a
site that limits our requests is waited for by the clock instead of a count of tries.
"""

import random
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from requests.exceptions import InvalidHeader, InvalidProxyURL, InvalidSchema, InvalidURL

from atelier import __version__
from atelier.errors import AtelierError
from atelier.web.connections import GuardedAdapter, PrivateAddressError
from atelier.web.limits import Budget, Permit, RateLimiter, Stopped, WaitTooLong, is_allowed, is_loopback
from atelier.web.response import (
    LEADS_TO,
    Fetched,
    FetchError,
    Redirected,
    ResponseLimits,
    Retryable,
    TransientFetchError,
    Validators,
    read_response,
)
from atelier.web.robots import ROBOTS_TXT_MAX_BYTES, RobotsCache, RobotsRefused, training_refusal

MAX_REDIRECTS = 5
MAX_BACKOFF_S = 60.0
MAX_THROTTLED_BACKOFF_S = 10.0  # shorter: all threads have slowed down by then
MAX_THROTTLED_S = 600.0  # how long a site may answer 429 or 503 before a request fails
CHALLENGE_PAUSE_S = 3600.0
REDIRECT_STATUS = 302
ERROR_PAGE = re.compile(r"/(?:[^/]*error[^/]*|[^/]*not-?found[^/]*|404|410|500)(?:[/.]|$)", re.IGNORECASE)
PERMANENT_ERRORS = (InvalidURL, InvalidHeader, InvalidProxyURL, InvalidSchema, UnicodeError)  # not to be tried again
CHALLENGE = "asks whether a person is at a browser (a Cloudflare challenge), and Atelier does not pretend to be one"
WITH_PERMISSION = "if its owner has allowed you to train on it, set scrape.wikiart.may_train: true"


class PoliteClient(AbstractContextManager["PoliteClient"]):
    """Send GET requests to one site, from any number of threads, at most `rate_per_s` to each host (None: no limit).

    429, 5xx and broken connections slow all threads down at that host and are tried again, `retries` times; 429 and
    503 for up to `max_throttled_s`. The rate recovers when the errors stop. Redirects are followed to hosts that
    `base_url` may lead to (see `is_allowed`). The robots.txt of each host is obeyed, and so is its wish that nothing
    be trained on its pages, unless `may_train` says that its owner has allowed it.
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
        max_throttled_s: float = MAX_THROTTLED_S,
        may_train: bool = False,
    ) -> None:
        if not contact and not is_loopback(base_url):
            raise AtelierError(
                f"{base_url} gets no anonymous requests: set scrape.wikiart.contact to your e-mail address or URL"
            )
        self.base_url = base_url
        self.retries, self.timeout_s = retries, timeout_s
        self.backoff_s, self.max_throttled_s = backoff_s, max_throttled_s
        self.may_train = may_train
        self.user_agent = f"Mozilla/5.0 (compatible; Atelier/{__version__}; +{contact or 'local'})"
        self._budget = budget or Budget(None, None)
        self._stop = threading.Event()
        self._rate_per_s = rate_per_s
        self._limiters: dict[str, RateLimiter] = {}  # by host
        self._robots = RobotsCache(
            lambda url: self._fetch_with_retries(_Request(url, ROBOTS_TXT_MAX_BYTES, {}, obeys_robots=False))
        )
        self._local = threading.local()
        self._adapters: list[GuardedAdapter] = []
        self._lock = threading.Lock()  # of the limiters and the adapters

    def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: dict[str, str] | None = None,
        validators: Validators | None = None,
        is_data: bool = False,
    ) -> Fetched:
        """Fetch `url`, absolute or relative to the base URL; with `validators` by a conditional request.

        A redirect to the site's error page raises Redirected; with `is_data` (for JSON) so does a redirect to any
        other page. Raises FetchError, BudgetSpent, or Stopped after `stop`.
        """
        headers = (headers or {}) | (validators.headers if validators else {})
        return self._fetch_with_retries(
            _Request(_joined(self.base_url, url), max_bytes, headers, validators, is_data=is_data)
        )

    def rate_per_s(self, url: str) -> float:
        """The present rate at the host of `url`, below the set one after errors; infinite if none is set."""
        return self._limiter(_joined(self.base_url, url)).rate_per_s

    def stop(self) -> None:
        """Make present and later calls of `fetch` raise Stopped, within one read of a response."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        with self._lock:
            for adapter in self._adapters:
                adapter.close()
            self._adapters.clear()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch_with_retries(self, request: "_Request") -> Fetched:
        failures = delays = 0
        throttled_since_s: float | None = None
        while True:
            try:
                return self._follow_redirects(request)
            except Retryable as error:
                if error.throttled:
                    # limited by the clock: a site that throttles everybody would use up a count of tries at once
                    now_s = time.monotonic()
                    throttled_since_s = throttled_since_s or now_s
                    if now_s - throttled_since_s > self.max_throttled_s:
                        reason = f"{error} for {now_s - throttled_since_s:,.0f} s"
                        raise TransientFetchError("error", request.url, reason) from None
                    tries, delays, max_s = delays, delays + 1, MAX_THROTTLED_BACKOFF_S
                else:
                    tries, failures, max_s = failures, failures + 1, MAX_BACKOFF_S
                    if failures > self.retries:
                        reason = f"{error} ({failures} {'tries' if failures > 1 else 'try'})"
                        raise TransientFetchError("error", request.url, reason) from None
            # with jitter, or threads that failed together would try again together
            wait_s = min(self.backoff_s * 2 ** min(tries, 30), max_s) * random.uniform(0.5, 1.5)
            if self._stop.wait(wait_s):
                raise Stopped(f"{request.url}: stopped")

    def _follow_redirects(self, request: "_Request") -> Fetched:
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            if not is_allowed(url, self.base_url):
                reason = f"leads to {url}, which is not a host of {self.base_url}"
                raise FetchError("refused", request.url, reason)
            if request.obeys_robots:
                self._check_robots(url)
            answer = self._send(url, request)
            if isinstance(answer, Fetched):
                return answer
            before, url = url, _joined(url, answer)
            if is_downgrade(before, url):
                reason = f"leads from https to {url[:200]}, which is not encrypted"
                raise FetchError("refused", request.url, reason)
            if request.obeys_robots and is_allowed(url, self.base_url) and _leads_elsewhere(request, url):
                raise Redirected("error", request.url, f"{LEADS_TO}{url[:200]}", REDIRECT_STATUS)
        raise FetchError("refused", request.url, f"more than {MAX_REDIRECTS} redirects")

    def _check_robots(self, url: str) -> None:
        rules = self._robots.rules(url)
        if not rules.allow(url):
            raise RobotsRefused("refused", url, "its site's robots.txt forbids it")
        if not self.may_train and not rules.allow_training(url):
            raise RobotsRefused("refused", url, f"its site's robots.txt says ai-train=no; {WITH_PERMISSION}")
        if rules.crawl_delay_s:
            self._limiter(url).cap(1 / rules.crawl_delay_s)

    def _send(self, url: str, request: "_Request") -> Fetched | str:
        """Send one request when the rate allows it; returns the response, or the target of a redirect."""
        limiter = self._limiter(url)
        try:
            permit = limiter.acquire()
        except WaitTooLong as error:
            raise TransientFetchError("error", url, f"its site {error}") from None
        try:
            self._budget.spend()
            return self._exchange(url, request, permit)
        except Retryable as error:
            limiter.slow_down()
            if error.retry_after_s is not None:
                limiter.pause(error.retry_after_s)
            raise
        finally:
            permit.sent()

    def _exchange(self, url: str, request: "_Request", permit: Permit) -> Fetched | str:
        adapter = self._adapter()
        limits = ResponseLimits(url, request.max_bytes, self.timeout_s, self._stop)
        adapter.on_sent, adapter.on_received = permit.sent, limits.received
        try:
            with adapter.get(url, request.headers, self.timeout_s) as response:
                if response.headers.get("cf-mitigated", "").strip().lower() == "challenge":
                    self._limiter(url).pause(CHALLENGE_PAUSE_S, CHALLENGE)
                    raise TransientFetchError("error", url, f"its site {CHALLENGE}")
                if response.is_redirect:
                    return response.headers["Location"].encode("latin-1").decode()
                checks_training = request.obeys_robots and not self.may_train and response.status_code == 200
                if checks_training and (refusal := training_refusal(response.raw.headers)):
                    raise RobotsRefused("refused", url, f"its {refusal}; {WITH_PERMISSION}")
                return read_response(response, limits, request.validators)
        except PrivateAddressError as error:
            raise FetchError("refused", url, str(error)) from None
        except PERMANENT_ERRORS as error:
            raise FetchError("error", url, str(error)[:200]) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            for cause in _causes(error):
                if isinstance(cause, ssl.SSLCertVerificationError):
                    reason = f"its certificate is not accepted: {cause}"[:300]
                    raise FetchError("error", url, reason) from None
            raise Retryable(_summary(error)) from None

    def _limiter(self, url: str) -> RateLimiter:
        """The rate limiter of the host of `url`, whatever the port."""
        host = urlsplit(url).hostname or ""
        with self._lock:
            if host not in self._limiters:
                self._limiters[host] = RateLimiter(self._rate_per_s, self._stop, self.max_throttled_s)
            return self._limiters[host]

    def _adapter(self) -> GuardedAdapter:
        """The connections of this thread; requests does not promise that an adapter is safe to share."""
        own: GuardedAdapter | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = GuardedAdapter(self.user_agent, self.base_url)
            with self._lock:
                self._adapters.append(own)
        return own


@dataclass(frozen=True, slots=True)
class _Request:
    """One call of `fetch`. Requests for robots.txt itself do not obey it; `is_data` is as in `fetch`."""

    url: str
    max_bytes: int
    headers: dict[str, str]
    validators: Validators | None = None
    obeys_robots: bool = True
    is_data: bool = False


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise FetchError("refused", url[:200], f"is no address: {error}") from None


def is_downgrade(url: str, target: str) -> bool:
    """Whether a redirect from `url` to `target` leads from https to http."""
    return urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http"


def _leads_elsewhere(request: _Request, target: str) -> bool:
    """Whether a redirect to `target`, on the same site, leads to other content: an error page, for data any page."""
    path, target_path = unquote(urlsplit(request.url).path), unquote(urlsplit(target).path)
    if path.rstrip("/").lower() == target_path.rstrip("/").lower():  # another host or spelling of the same page
        return False
    return request.is_data or (ERROR_PAGE.search(target_path) is not None and ERROR_PAGE.search(path) is None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions nested in an exception of requests or urllib3, outermost first."""
    visited: set[int] = set()
    pending = [error]
    while pending:
        inner = pending.pop()
        if isinstance(inner, BaseException) and id(inner) not in visited:
            visited.add(id(inner))
            yield inner
            pending += [inner.__cause__, inner.__context__, getattr(inner, "reason", None), *inner.args]


def _summary(error: Exception) -> str:
    """A network error in a few words, without the object addresses and nesting that urllib3 puts into its text."""
    for words, summary in (
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
            return summary
    return f"{type(error).__name__}: {str(error)[:200]}"
