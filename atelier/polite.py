"""An HTTP client that a site can live with: one pace for all threads, retries that wait, bytes that are bounded.

Knows nothing of what it fetches. One client speaks to one site: WikiArt's nine image hosts are one operator's
machines, so they share the pace of a single client instead of getting nine times the set rate.
"""

import random
import threading
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urljoin

import requests
import urllib3
from requests.adapters import HTTPAdapter

from atelier import __version__
from atelier.errors import AtelierError
from atelier.hosts import is_allowed, is_loopback
from atelier.pace import Pace, Stopped

__all__ = ["FetchError", "Fetched", "PoliteClient", "Stopped"]

Kind = Literal["missing", "refused", "too-large", "error"]

PIECE_BYTES = 65_536
REDIRECTS = 5
SLOWEST_BYTES_PER_S = 1000  # an answer that trickles in below this, once timeout_s has passed, is given up
LONGEST_WAIT_S = 120.0  # a Retry-After beyond this is cut, and the longest back-off
MISSING = (404, 410)
REFUSED = (401, 403, 451)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer of status 200: the address it came from at last, its declared type, its decoded bytes."""

    url: str
    content_type: str
    content: bytes


class FetchError(AtelierError):
    """Why no answer came. `kind`: missing (404, 410), refused (by them or by us), too-large, error (after retries).

    `reason` is the message without the address that was asked for.
    """

    def __init__(self, kind: Kind, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.kind: Kind = kind
        self.reason = reason


class PoliteClient:
    """GETs from one site, from any number of threads, never faster than `rate_per_s` (None: as fast as it goes).

    429, 5xx and broken connections slow all threads down and are tried again, `retries` times; the pace comes
    back when the trouble stays away. Redirects are followed only to hosts that `base_url` may send us to.
    """

    def __init__(
        self,
        base_url: str,
        *,
        contact: str,
        rate_per_s: float | None,
        retries: int,
        timeout_s: float,
        backoff_s: float = 1.0,
    ) -> None:
        if not contact and not is_loopback(base_url):
            raise AtelierError(
                f"{base_url} is not asked anonymously: set scrape.wikiart.contact to your e-mail address or URL"
            )
        self.base_url = base_url
        self.retries, self.timeout_s, self.backoff_s = retries, timeout_s, backoff_s
        self.user_agent = f"Mozilla/5.0 (compatible; Atelier/{__version__}; +{contact or 'local'})"
        self._stop = threading.Event()
        self._pace = Pace(rate_per_s, self._stop)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._sessions_lock = threading.Lock()

    def fetch(self, url: str, *, max_bytes: int, headers: dict[str, str] | None = None) -> Fetched:
        """The answer of `url` (absolute, or relative to the base). Raises FetchError, or Stopped after `stop`."""
        url = _joined(self.base_url, url)
        for attempt in range(self.retries + 1):
            try:
                return self._follow(url, max_bytes, headers or {})
            except _Transient as trouble:
                self._pace.slow_down()
                if trouble.retry_after_s is not None:
                    self._pace.pause(trouble.retry_after_s)
                if attempt == self.retries:
                    tries = f"{attempt + 1} tries" if attempt else "1 try"
                    raise FetchError("error", url, f"{trouble} ({tries})") from None
            # jitter keeps the threads that failed together from coming back together
            wait_s = min(self.backoff_s * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.5)
            if self._stop.wait(wait_s):
                raise Stopped(f"{url}: stopped")
        raise AssertionError("unreachable")

    @property
    def rate_per_s(self) -> float:
        """The present pace; infinite where none is set. Below the set one while the site is in trouble."""
        return self._pace.rate_per_s

    def stop(self) -> None:
        """Make every waiting and coming `fetch` raise Stopped; a body being read ends at its next piece."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        with self._sessions_lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self, url: str, max_bytes: int, headers: dict[str, str]) -> Fetched:
        start = url
        for _ in range(REDIRECTS + 1):
            if not is_allowed(url, self.base_url):
                raise FetchError("refused", start, f"leads to {url}, which is not a host of {self.base_url}")
            self._pace.wait()
            session = self._session()
            try:
                with session.get(
                    url, headers=headers, timeout=self.timeout_s, stream=True, allow_redirects=False
                ) as response:
                    target = session.get_redirect_target(response)
                    if target is None:
                        return self._read(response, url, max_bytes)
            except (requests.exceptions.SSLError, requests.exceptions.InvalidURL, UnicodeError) as error:
                raise FetchError("error", url, str(error)) from None
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise _Transient(_in_short(error)) from None
            url = _joined(url, target)
        raise FetchError("refused", start, f"more than {REDIRECTS} redirects")

    def _read(self, response: requests.Response, url: str, max_bytes: int) -> Fetched:
        status = response.status_code
        if status in (408, 429) or status >= 500:
            raise _Transient(f"HTTP {status}", retry_after_s(response.headers.get("Retry-After", "")))
        if status in MISSING:
            raise FetchError("missing", url, f"HTTP {status}")
        if status in REFUSED:
            raise FetchError("refused", url, f"HTTP {status}")
        if status != 200:
            raise FetchError("error", url, f"HTTP {status}")
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise FetchError("too-large", url, f"{int(declared):,} bytes, more than {max_bytes:,}")
        body = self._body(response, url, max_bytes)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding == "gzip":
            body = _gunzip(body, url, max_bytes)
        elif encoding not in ("identity", ""):
            raise FetchError("error", url, f"came in the encoding {encoding[:40]!r}, which was not asked for")
        return Fetched(url, response.headers.get("Content-Type", ""), body)

    def _body(self, response: requests.Response, url: str, max_bytes: int) -> bytes:
        """The bytes on the wire; urllib3 itself raises where they are fewer than Content-Length."""
        body = bytearray()
        began_s = time.monotonic()
        while piece := response.raw.read1(PIECE_BYTES, decode_content=False):
            body += piece
            if len(body) > max_bytes:
                raise FetchError("too-large", url, f"more than {max_bytes:,} bytes")
            if self._stop.is_set():
                raise Stopped(f"{url}: stopped")
            late_s = time.monotonic() - began_s - self.timeout_s
            if len(body) < late_s * SLOWEST_BYTES_PER_S:
                raise _Transient(f"trickles in slower than {SLOWEST_BYTES_PER_S:,} bytes a second")
        return bytes(body)

    def _session(self) -> requests.Session:
        """This thread's own session: requests does not promise that one may be shared."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = not is_loopback(self.base_url)  # a proxy cannot reach our own loopback
            session.headers.update({"User-Agent": self.user_agent, "Accept-Encoding": "gzip"})
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_connections=12, pool_maxsize=1))  # nine image hosts
            self._local.session = session
            with self._sessions_lock:
                self._sessions.append(session)
        return session


class _Transient(Exception):
    """Worth another try; `retry_after_s` where the site said when."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise FetchError("refused", url[:200], f"is no address: {error}") from None


def retry_after_s(value: str) -> float | None:
    """Retry-After, seconds or an HTTP date, between 0 and LONGEST_WAIT_S; None where it is absent or unreadable."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return min(float(value[:9]), LONGEST_WAIT_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000" says UTC without saying so
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT_S)


def _gunzip(body: bytes, url: str, max_bytes: int) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    try:
        content = decoder.decompress(body, max_bytes + 1)  # a bomb is cut here, whatever it would grow to
    except zlib.error:
        raise _Transient("its gzip encoding is damaged") from None
    if len(content) > max_bytes:
        raise FetchError("too-large", url, f"more than {max_bytes:,} bytes when unpacked")
    if not decoder.eof:
        raise _Transient("its gzip encoding ends early")
    return content


def _in_short(error: Exception) -> str:
    """A network error without the object addresses and nesting that urllib3 puts into it."""
    for words, sentence in (
        ("NameResolution", "its host name cannot be resolved: is this machine online?"),
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
