"""Reading one HTTP response within limits, and the errors for the ones that bring no content.

The body is read and unpacked here, because requests and urllib3 decompress without a limit.
"""

import threading
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Self

import requests

from atelier.errors import AtelierError, TransientError
from atelier.web.limits import Stopped

FailureKind = Literal["missing", "refused", "too-large", "error"]

CHUNK_BYTES = 65_536
LEADS_TO = "leads to "
MAX_GZIP_MEMBERS = 10_000  # real bodies have one, or one for every 64 KB
MIN_BYTES_PER_S = 1000  # a response slower than this, once timeout_s has passed, is given up
MAX_HEAD_BYTES = 1_000_000  # headers, interim responses and trailers
MAX_VALIDATOR_CHARS = 1000
MISSING = (404, 410)
REFUSED = (401, 403, 451)
THROTTLED = (429, 503)


@dataclass(frozen=True, slots=True)
class Validators:
    """ETag and Last-Modified of a response: a request with them may be answered by 304, not modified."""

    etag: str = ""
    last_modified: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The request headers of a conditional request."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete response: its final URL after redirects, Content-Type, and decoded body. Its status is 200, or 304."""

    url: str
    content_type: str
    content: bytes
    validators: Validators = Validators()
    unchanged: bool = False  # the status was 304 to a request with `validators`, and `content` is empty


class FetchError(AtelierError):
    """A request that brought no content.

    `kind` is missing (404, 410), refused (by the site or by this client), too-large, or error (also after retries).
    `reason` is the message without the URL. `status` is the HTTP status if that is the cause, else None.
    """

    def __init__(self, kind: FailureKind, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"{url}: {reason}")
        self.kind: FailureKind = kind
        self.url, self.reason, self.status = url, reason, status

    def __reduce__(self) -> tuple[type[Self], tuple[FailureKind, str, str, int | None]]:
        return type(self), (self.kind, self.url, self.reason, self.status)  # worker processes raise it too


class TransientFetchError(FetchError, TransientError):
    """A request that kept failing for a reason that may be temporary."""


class Redirected(FetchError):
    """The URL redirects to another page of the same site, for example to an error page."""

    @property
    def target(self) -> str:
        """The URL that it redirects to, at most 200 characters."""
        return self.reason.removeprefix(LEADS_TO)


class Retryable(Exception):
    """A failed try that may be repeated.

    `retry_after_s` is set where the site named a time; `throttled` means that the site limits our requests (429, 503).
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, throttled: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s, self.throttled = retry_after_s, throttled


class ResponseLimits:
    """Checks one response, as it is received, against `max_bytes`, `timeout_s` and a least speed; `stop` ends it."""

    def __init__(self, url: str, max_bytes: int, timeout_s: float, stop: threading.Event) -> None:
        self.url, self.max_bytes, self.timeout_s, self.stop = url, max_bytes, timeout_s, stop
        self._bytes = 0
        self._began_s: float | None = None

    def received(self, count: int) -> None:
        """Count received bytes of head or body. Raises Stopped, Retryable (too slow) or FetchError (too large)."""
        now_s = time.monotonic()
        self._began_s = self._began_s or now_s
        self._bytes += count
        if self.stop.is_set():
            raise Stopped(f"{self.url}: stopped")
        if self._bytes < (now_s - self._began_s - self.timeout_s) * MIN_BYTES_PER_S:
            raise Retryable(f"trickles in slower than {MIN_BYTES_PER_S:,} bytes a second")
        if self._bytes > self.max_bytes * 5 // 4 + MAX_HEAD_BYTES:  # a quarter more, for the sizes of chunks
            raise self.too_large()

    def too_large(self) -> FetchError:
        return FetchError("too-large", self.url, f"more than {self.max_bytes:,} bytes")


def read_response(response: requests.Response, limits: ResponseLimits, validators: Validators | None) -> Fetched:
    """Return the decoded body of a 200, or an empty, `unchanged` one of a 304 to a request with `validators`.

    Raises Retryable for 408, 429, 5xx, a damaged or too slow body, FetchError for other statuses and for a body above
    the limit, and Stopped where the run was stopped.
    """
    url, status = limits.url, response.status_code
    if status in (408, 429) or status >= 500:
        after_s = retry_after_s(response.headers.get("Retry-After", ""))
        raise Retryable(f"HTTP {status}", after_s, throttled=status in THROTTLED)
    content_type = response.headers.get("Content-Type", "")
    if status == 304 and validators and validators.headers:
        return Fetched(url, content_type, b"", validators, unchanged=True)
    if status != 200:
        kind: FailureKind = "missing" if status in MISSING else "refused" if status in REFUSED else "error"
        raise FetchError(kind, url, f"HTTP {status}", status)
    etag, modified = (response.headers.get(name, "")[:MAX_VALIDATOR_CHARS] for name in ("ETag", "Last-Modified"))
    return Fetched(url, content_type, _content(response, limits), Validators(etag, modified))


def retry_after_s(value: str) -> float | None:
    """Parse a Retry-After header, seconds or an HTTP date, as seconds from now; None if absent or unreadable."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return float(value[:12])
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # the zone is "-0000", which means UTC
            moment = moment.replace(tzinfo=UTC)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):  # the zone may be days off, or lead out of the years 1 to 9999
        return None


def _content(response: requests.Response, limits: ResponseLimits) -> bytes:
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.max_bytes:
        raise FetchError("too-large", limits.url, f"{int(declared[:20]):,} bytes, more than {limits.max_bytes:,}")
    body = bytearray()  # not decoded; urllib3 raises if it is shorter than Content-Length
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > limits.max_bytes:
            raise limits.too_large()
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "gzip":
        return _gunzip(bytes(body), limits)
    if encoding not in ("identity", ""):
        raise FetchError("error", limits.url, f"came in the encoding {encoding[:40]!r}, which was not asked for")
    return bytes(body)


def _gunzip(body: bytes, limits: ResponseLimits) -> bytes:
    """Unpack all members of a gzip body (RFC 1952), which zeros may follow as padding."""
    content = bytearray()
    decoder, members = zlib.decompressobj(wbits=31), 1
    for start in range(0, len(body), CHUNK_BYTES):  # in chunks: zlib copies all that follows the end of a member
        chunk = body[start : start + CHUNK_BYTES]
        while chunk:
            if decoder.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                if members == MAX_GZIP_MEMBERS:
                    raise FetchError("error", limits.url, f"has more than {MAX_GZIP_MEMBERS:,} gzip members")
                decoder, members = zlib.decompressobj(wbits=31), members + 1
            try:
                # a decompression bomb is cut off here
                content += decoder.decompress(chunk, limits.max_bytes + 1 - len(content))
            except zlib.error:
                raise Retryable("its gzip encoding is damaged") from None
            if len(content) > limits.max_bytes:
                raise FetchError("too-large", limits.url, f"more than {limits.max_bytes:,} bytes when unpacked")
            chunk = decoder.unused_data
    if not decoder.eof:
        raise Retryable("its gzip encoding ends early")
    return bytes(content)
