"""A WikiArt look-alike on loopback that answers well or with faults, and records all requests.

Written independently of atelier's own code, from the notes on WikiArt's formats, so that the two check each other. Use:

    with lookalike({"genre/landscape": offers}) as site:
        site.fail(site.path_of(offers[0]), "500", "drop", "truncate")  # one a request, then the offer's behaviour
        ... site.base_url, site.requests, site.peak_per_s() ...
"""

import gzip
import html
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.pictures import fitted, gzip_bomb, left_half, pixel_bomb, placeholder

PAGE = 60
PLACEHOLDER = "/Content/images/FRAME-600x480.jpg"
ERROR_PAGE = "/en/App/Home/Error/500"
# WikiArt's smaller copies, `<image>!<name>.jpg`: the box each fits into
VARIANTS = {
    "PinterestSmall": (210, 10**6), "PinterestLarge": (280, 10**6), "Portrait": (400, 400), "Blog": (500, 500),
    "Large": (600, 750), "HalfHD": (1000, 1000), "HD": (1200, 1200),
}  # fmt: skip
BEHAVIOURS = (
    "good", "429", "500", "503", "401", "403", "404",
    "drop",             # half the bytes, then a connection reset
    "truncate",         # half the bytes of the announced length, then an orderly end
    "truncated-jpeg",   # half the bytes, announced as the whole
    "html-200", "empty",
    "dead-id",          # a redirect to an error page that answers 500
    "challenge",        # Cloudflare's check that a person is at a browser
    "wrong-type",       # a PDF with the type of a JPEG
    "placeholder",      # a redirect to WikiArt's placeholder picture
    "bomb",             # a PNG of 49 KB and 400 megapixels
    "gzip", "gzip-cut", "odd-encoding",
    "gzip-bomb",        # 1 MB packed, 200 MB unpacked
    "huge",             # announces ten gigabytes
    "endless",          # announces no length and does not stop
    "drip",             # a byte every 50 ms
    "foreign-redirect", "redirect", "redirect-loop",
    "451", "400",
    "tiny",             # a thumbnail of 40 px
    "cropped",          # its left half
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A work of the site. Each request of its image has the next of `faults`, and after them `behaviour`.

    `variants` are its smaller copies by name, with the behaviour of each.
    """

    id: str
    title: str = "The Sea"
    artist: str = "Anna Ancher"
    year: str = "1887"
    width: int = 64
    height: int = 48
    image: bytes = b""
    content_type: str = "image/jpeg"
    faults: tuple[str, ...] = ()
    behaviour: str = "good"
    variants: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)  # overrides keys of its list record, also with wrong values

    @property
    def artist_slug(self) -> str:
        return self.artist.lower().replace(" ", "-")


@dataclass(frozen=True)
class Request:
    time_s: float
    path: str
    user_agent: str
    headers: Mapping[str, str]


class Site:
    """The running look-alike server."""

    def __init__(
        self,
        lists: Mapping[str, Sequence[Offer]],
        *,
        cap: int = 3600,
        claimed: int | None = None,
        end: Any = None,
        retry_after: str = "0",
        artists: Mapping[str, Mapping[str, Any]] | None = None,
        index_html: str = "",
    ) -> None:
        self.lists, self.cap, self.claimed, self.end = dict(lists), cap, claimed, end
        self.retry_after, self.artists, self.index_html = retry_after, dict(artists or {}), index_html
        self.pages: dict[str, bytes] = {}  # by path with query, bytes in place of the usual body, as JSON
        self.requests: list[Request] = []
        self.sent_bytes: Counter[str] = Counter()  # of bodies, by path
        self.robots_requests: list[Request] = []  # for /robots.txt, whose content is pages["/robots.txt"]
        self.headers: dict[str, str] = {}  # added to every good response
        self.throttled_until_s = 0.0  # by time.monotonic(): until then every response is 429
        self.base_url = ""
        self.lock = threading.Lock()
        self._faults: defaultdict[tuple[str, int | None], deque[str]] = defaultdict(deque)
        self._images: dict[str, Offer] = {}
        for offer in (offer for offers in lists.values() for offer in offers):
            self._images[self.path_of(offer)] = offer
            self.fail(self.path_of(offer), *offer.faults)

    def path_of(self, offer: Offer) -> str:
        """The path of its image."""
        return f"/images/{offer.artist_slug}/{offer.id}.jpg"

    def url_of(self, offer: Offer) -> str:
        return self.base_url + self.path_of(offer)

    def fail(self, path: str, *behaviours: str, page: int | None = None) -> None:
        """Answer the next requests of `path`, or of the given page of a list, with these behaviours in order."""
        unknown = set(behaviours) - set(BEHAVIOURS)
        assert not unknown, unknown
        if "gzip-bomb" in behaviours:
            gzip_bomb()  # packed now: on a busy machine that takes longer than a client waits
        self._faults[path, page].extend(behaviours)

    def asked(self, path: str) -> int:
        """The number of requests of `path`, whatever their query."""
        return sum(urlsplit(request.path).path == path for request in list(self.requests))

    def variants_asked(self, offer: Offer) -> list[str]:
        """The names of the variants that were requested, in order; the original is ""."""
        paths = [unquote(urlsplit(request.path).path) for request in list(self.requests)]
        mine = [path.partition("!") for path in paths if path.partition("!")[0] == self.path_of(offer)]
        return [name.removesuffix(".jpg") for _, _, name in mine]

    def peak_per_s(self) -> int:
        """The most requests that arrived within any one second."""
        times = sorted(request.time_s for request in [*self.requests, *self.robots_requests])
        return max((sum(0 <= later - first < 1 for later in times) for first in times), default=0)

    def next_fault(self, path: str, page: int | None) -> str | None:
        with self.lock:
            faults = self._faults.get((path, page))
            return faults.popleft() if faults else None

    def offer_at(self, path: str) -> Offer | None:
        return self._images.get(unquote(path))

    def listed(self, key: str, page: int) -> bytes | None:
        """The list JSON of `genre/<slug>`, `style/<slug>` or `artist/<slug>`; None where there is no such list."""
        if key not in self.lists:
            return None
        offers = self.lists[key][: self.cap]
        shown = offers[(page - 1) * PAGE : page * PAGE]
        claimed = len(self.lists[key]) if self.claimed is None else self.claimed
        envelope = {
            "ArtistsHtml": None, "CanLoadMoreArtists": False,
            "Paintings": [self._record(offer) for offer in shown] if shown else self.end,
            "Artists": None, "AllArtistsCount": 0, "PaintingsHtml": None, "PaintingsHtmlBeta": None,
            "AllPaintingsCount": claimed, "PageSize": PAGE, "TimeLog": None,
        }  # fmt: skip
        return json.dumps(envelope).encode()

    def _record(self, offer: Offer) -> dict[str, Any]:
        return {
            "id": offer.id, "title": _escaped(offer.title), "year": offer.year,
            "width": offer.width, "height": offer.height, "artistName": _escaped(offer.artist),
            "image": self.base_url + quote(self.path_of(offer)), "map": "0123**67*",
            "paintingUrl": f"/en/{offer.artist_slug}/{offer.id}", "artistUrl": f"/en/{offer.artist_slug}",
            "albums": None, "flags": 2, "images": None, **offer.record,
        }  # fmt: skip


@contextmanager
def lookalike(lists: Mapping[str, Sequence[Offer]], **settings: Any) -> Iterator[Site]:
    """Serve `lists` (see `Site` for the settings) until the block ends."""
    site = Site(lists, **settings)

    class Bound(_Handler):
        pass

    Bound.site = site
    server = _Server(("127.0.0.1", 0), Bound)
    site.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that stops reading closes the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Site

    def do_GET(self) -> None:
        site, parts = self.site, urlsplit(self.path)
        agent = self.headers.get("User-Agent", "")
        with site.lock:
            log = site.robots_requests if parts.path == "/robots.txt" else site.requests
            log.append(Request(time.monotonic(), self.path, agent, dict(self.headers.items())))
        query = parse_qs(parts.query)
        page = int(query["page"][0]) if "page" in query else None
        path, _, variant = parts.path.partition("!")
        offer = site.offer_at(path)
        fault = site.next_fault(parts.path, page) or (site.next_fault(parts.path, None) if page else None)
        content, content_type = self._good(parts.path, page or 1, offer)
        behaviour = fault or (offer.behaviour if offer else "good")
        if offer and variant:
            name = variant.removesuffix(".jpg")
            behaviour = fault or offer.variants.get(name, "404")
            content, content_type = (
                (fitted(offer.image, VARIANTS[name]) if name in VARIANTS else None),
                "image/jpeg",
            )
        if content is None and behaviour == "good":
            behaviour = "404"
        if parts.path == ERROR_PAGE:
            behaviour = "500"
        if time.monotonic() < site.throttled_until_s:
            behaviour = "429"
        self._answer(behaviour, content or b"", content_type)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the tests read `site.requests`."""

    def _good(self, path: str, page: int, offer: Offer | None) -> tuple[bytes | None, str]:
        names = path.strip("/").split("/")
        if self.path in self.site.pages:
            return self.site.pages[self.path], "application/json; charset=utf-8"
        if offer:
            return offer.image, offer.content_type
        if path == PLACEHOLDER:
            return placeholder(), "image/jpeg"
        if path == "/robots.txt":
            return b"User-agent: *\nAllow: /\n", "text/plain"
        if path in ("/en/paintings-by-style", "/en/paintings-by-genre"):
            return self.site.index_html.encode() or None, "text/html; charset=utf-8"
        listed: bytes | None = None
        if path.startswith(("/en/paintings-by-genre/", "/en/paintings-by-style/")):
            listed = self.site.listed(f"{names[1].removeprefix('paintings-by-')}/{names[2]}", page)
        elif path.endswith("/mode/all-paintings"):
            listed = self.site.listed(f"artist/{names[1]}", page)
        elif len(names) == 2 and names[1] in self.site.artists:
            listed = json.dumps(self.site.artists[names[1]]).encode()
        return listed, "application/json; charset=utf-8"

    def _answer(self, behaviour: str, content: bytes, content_type: str) -> None:
        match behaviour:
            case "good":
                self._send(200, content, content_type, self.site.headers)
            case "429" | "500" | "503" | "401" | "403" | "404" | "400" | "451":
                extra = {"Retry-After": self.site.retry_after} if behaviour in ("429", "503") else {}
                self._send(int(behaviour), b"<html>no</html>", "text/html", extra)
            case "drop" | "truncate":
                self._send(200, content[: len(content) // 2], content_type, length=len(content) or 100)
                if behaviour == "drop":
                    linger = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                self.close_connection = True
            case "truncated-jpeg":
                self._send(200, content[: len(content) // 2], content_type)
            case "tiny":
                self._send(200, fitted(content, (40, 40)), content_type)
            case "cropped":
                self._send(200, left_half(content), content_type)
            case "html-200":
                self._send(200, b"<!DOCTYPE html><html><body>Something went wrong</body></html>", "text/html")
            case "empty":
                self._send(200, b"", content_type)
            case "wrong-type":
                self._send(200, b"%PDF-1.4\n" + b"0 " * 2000, "image/jpeg")
            case "placeholder":
                self._redirect(PLACEHOLDER)
            case "dead-id":
                self._redirect(ERROR_PAGE)
            case "challenge":
                self._send(403, b"<html>Just a moment...</html>", "text/html", {"cf-mitigated": "challenge"})
            case "bomb":
                self._send(200, pixel_bomb(), "image/png")
            case "gzip" | "gzip-cut" | "gzip-bomb":
                packed = gzip_bomb() if behaviour == "gzip-bomb" else gzip.compress(content, mtime=0)
                cut = len(packed) // 2 if behaviour == "gzip-cut" else None
                self._send(200, packed[:cut], content_type, {"Content-Encoding": "gzip"})
            case "odd-encoding":
                self._send(200, content, content_type, {"Content-Encoding": "br"})
            case "huge":
                self._send(200, b"\xff\xd8\xff", content_type, length=10_000_000_000)
                self.close_connection = True
            case "endless" | "drip":
                self._stream(content_type, *((b"\0" * 65536, 0.0) if behaviour == "endless" else (b"\0", 0.05)))
            case "foreign-redirect":
                self._redirect("http://elsewhere.invalid/images/sea.jpg")
            case "redirect":
                self._redirect(self.path)  # to itself: the next request has the next fault
            case "redirect-loop":
                self.site.fail(urlsplit(self.path).path, "redirect-loop")
                self._redirect(self.path)

    def _send(
        self,
        status: int,
        content: bytes,
        content_type: str,
        extra: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        with self.site.lock:
            self.site.sent_bytes[urlsplit(self.path).path] += len(content)
        self.wfile.write(content)

    def _redirect(self, location: str) -> None:
        self._send(302, b"", "text/html", {"Location": location})

    def _stream(self, content_type: str, piece: bytes, pause_s: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(piece)
            time.sleep(pause_s)


def _escaped(text: str) -> str:
    """As WikiArt escapes: `&#39; &quot; &#233; &amp;`."""
    return html.escape(text).replace("&#x27;", "&#39;").encode("ascii", "xmlcharrefreplace").decode()
