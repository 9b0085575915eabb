"""What one HTTP answer is worth: its bytes, read within bounds, or the reason why there are none.

Sends nothing and waits for nobody; which answers deserve another try it says by raising Transient.
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
from atelier.web.pace import Stopped

Kind = Literal["missing", "refused", "too-large", "error"]

PIECE_BYTES = 65_536
LEADS_TO = "leads to "
MOST_MEMBERS = 10_000  # of a gzip body; real ones have one, or one for every 64 KB
SLOWEST_BYTES_PER_S = 1000  # an answer that trickles in below this, once timeout_s has passed, is given up
HEAD_BYTES = 1_000_000  # what may come beside the body: headers, interim answers, trailers
LONGEST_VALIDATOR = 1000
MISSING = (404, 410)
REFUSED = (401, 403, 451)
THROTTLED = (429, 503)


@dataclass(frozen=True, slots=True)
class Validators:
    """The site's own names for one version of an answer: asked with them, it may say that nothing has changed."""

    etag: str = ""
    last_modified: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What asks for anything but this version."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer of status 200: the address it came from at last, its declared type, its decoded bytes.

    `unchanged`: status 304, to a request that named `validators`; there are no bytes then.
    """

    url: str
    content_type: str
    content: bytes
    validators: Validators = Validators()
    unchanged: bool = False


class FetchError(AtelierError):
    """Why no answer came. `kind`: missing (404, 410), refused (by them or by us), too-large, error (after retries).

    `reason` is the message without the address that was asked for; `status` is the answer's, where it decided.
    """

    def __init__(self, kind: Kind, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"{url}: {reason}")
        self.kind: Kind = kind
        self.url, self.reason, self.status = url, reason, status

    def __reduce__(self) -> tuple[type[Self], tuple[Kind, str, str, int | None]]:
        return type(self), (self.kind, self.url, self.reason, self.status)  # other processes raise it too


class NoAnswer(FetchError, TransientError):
    """Nothing but trouble that may pass, however often it was tried."""


class Challenged(NoAnswer):
    """The host asks for proof that a person is at a browser. Says nothing about the address that was asked for."""


class Redirected(FetchError):
    """The address leads to another one of the same site, which was not asked for: an error page, for example."""

    @property
    def target(self) -> str:
        """The address that it leads to."""
        return self.reason.removeprefix(LEADS_TO)


class Transient(Exception):
    """Worth another try; `retry_after_s` where the site said when, `throttled` where it only asks for patience."""

    def __init__(self, message: str, retry_after_s: float | None = None, *, throttled: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s, self.throttled = retry_after_s, throttled


class Bounds:
    """What one answer may cost: bytes, seconds of silence; `stop` ends it. Told of all that comes over the wire."""

    def __init__(self, url: str, max_bytes: int, timeout_s: float, stop: threading.Event) -> None:
        self.url, self.max_bytes, self.timeout_s, self.stop = url, max_bytes, timeout_s, stop
        self._bytes = 0
        self._began_s: float | None = None

    def received(self, count: int) -> None:
        """So many bytes have come, of headers or body. Raises Stopped, Transient or FetchError."""
        now_s = time.monotonic()
        self._began_s = self._began_s or now_s
        self._bytes += count
        if self.stop.is_set():
            raise Stopped(f"{self.url}: stopped")
        if self._bytes < (now_s - self._began_s - self.timeout_s) * SLOWEST_BYTES_PER_S:
            raise Transient(f"trickles in slower than {SLOWEST_BYTES_PER_S:,} bytes a second")
        if self._bytes > self.max_bytes * 5 // 4 + HEAD_BYTES:  # the quarter is for chunks' sizes
            raise self.too_large()

    def too_large(self) -> FetchError:
        return FetchError("too-large", self.url, f"more than {self.max_bytes:,} bytes")


def read(response: requests.Response, bounds: Bounds, asked_with: Validators | None) -> Fetched:
    """The answer, whole. Raises FetchError, Transient or Stopped."""
    url, status = bounds.url, response.status_code
    if status in (408, 429) or status >= 500:
        after_s = retry_after_s(response.headers.get("Retry-After", ""))
        raise Transient(f"HTTP {status}", after_s, throttled=status in THROTTLED)
    if status in MISSING:
        raise FetchError("missing", url, f"HTTP {status}", status)
    if status in REFUSED:
        raise FetchError("refused", url, f"HTTP {status}", status)
    content_type = response.headers.get("Content-Type", "")
    if status == 304 and asked_with and asked_with.headers:
        return Fetched(url, content_type, b"", asked_with, unchanged=True)
    if status != 200:
        raise FetchError("error", url, f"HTTP {status}", status)
    return Fetched(url, content_type, _content(response, bounds), _validators(response))


def retry_after_s(value: str) -> float | None:
    """Retry-After, seconds or an HTTP date, as seconds from now; None where it is absent or unreadable."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return float(value[:12])
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # "-0000" says UTC without saying so
            moment = moment.replace(tzinfo=UTC)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):  # a zone may lie days away, or lead out of the years 1 to 9999
        return None


def _content(response: requests.Response, bounds: Bounds) -> bytes:
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared[:20]) > bounds.max_bytes:
        raise FetchError(
            "too-large", bounds.url, f"{int(declared[:20]):,} bytes, more than {bounds.max_bytes:,}"
        )
    body = _body(response, bounds)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "gzip":
        return _gunzip(body, bounds)
    if encoding not in ("identity", ""):
        raise FetchError(
            "error", bounds.url, f"came in the encoding {encoding[:40]!r}, which was not asked for"
        )
    return body


def _body(response: requests.Response, bounds: Bounds) -> bytes:
    """The bytes on the wire; urllib3 itself raises where they are fewer than Content-Length."""
    body = bytearray()
    while piece := response.raw.read1(PIECE_BYTES, decode_content=False):
        body += piece
        if len(body) > bounds.max_bytes:
            raise bounds.too_large()
    return bytes(body)


def _gunzip(body: bytes, bounds: Bounds) -> bytes:
    """All members of a gzip body, one after the other (RFC 1952); zeros may follow as padding."""
    content = bytearray()
    decoder, members = zlib.decompressobj(wbits=31), 1
    for at in range(0, len(body), PIECE_BYTES):  # in pieces: zlib copies what follows the end of each member
        piece = body[at : at + PIECE_BYTES]
        while piece:
            if decoder.eof:
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                if members == MOST_MEMBERS:
                    raise FetchError("error", bounds.url, f"has more than {MOST_MEMBERS:,} gzip members")
                decoder, members = zlib.decompressobj(wbits=31), members + 1
            try:
                # a bomb is cut here, whatever it would grow to
                content += decoder.decompress(piece, bounds.max_bytes + 1 - len(content))
            except zlib.error:
                raise Transient("its gzip encoding is damaged") from None
            if len(content) > bounds.max_bytes:
                raise FetchError(
                    "too-large", bounds.url, f"more than {bounds.max_bytes:,} bytes when unpacked"
                )
            piece = decoder.unused_data
    if not decoder.eof:
        raise Transient("its gzip encoding ends early")
    return bytes(content)


def _validators(response: requests.Response) -> Validators:
    etag, last_modified = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
    return Validators(etag[:LONGEST_VALIDATOR], last_modified[:LONGEST_VALIDATOR])
