"""A large WikiArt server on loopback: lists with the site's cap, the App layer, artists' lists, works' pages.

Written independently of atelier's own code, from the notes on WikiArt's formats. It is fast enough for sixteen thousand
works in a test, and serves no images. Use:

    with archive(painted(16_212, artists=300)) as site:
        site.rule = lambda path, asked: "429" if asked == 1 else None
        ... site.base_url, site.requests, site.answered ...
"""

import hashlib
import html
import json
import random
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

PAGE, PAGES = 60, 60
SORRY = b"<!DOCTYPE html><html><body>We are sorry, an error occurred</body></html>"
ERROR_PAGE = "/en/App/Home/Error/500"  # answers 500; the site redirects dead ids to it
ALIVE_MS = 253402300799999

Rule = Callable[
    [str, int], str | None
]  # path, number of its requests → a status, "drop", "html", "challenge", "to <URL>" (a redirect) or None


@dataclass(frozen=True, kw_only=True)
class Painting:
    """One work. Lists are sorted by `place`, a year; `year` is what they say: "1881", "", "XX cent."."""

    number: int
    artist: str
    place: int
    year: str
    styles: tuple[str, ...]
    genres: tuple[str, ...] = ("landscape",)
    is_free: bool = False  # by the mark on its page
    in_artist_list: bool = True

    @property
    def hex_id(self) -> str:
        return hashlib.sha256(f"hex {self.number}".encode()).hexdigest()[:24]

    @property
    def content_id(self) -> int:
        """Some numbers are larger than a float can represent, as WikiArt's newer ones."""
        return 197_000 + self.number if self.number % 3 else 9_223_372_036_850_000_000 + self.number

    @property
    def title(self) -> str:
        return f"L'été & la mer {self.number}"

    @property
    def file(self) -> str:
        return f"{self.number % 97:05d}/images/{self.artist}/été({self.number}).jpg"


@dataclass(frozen=True)
class Request:
    time_s: float
    path: str
    headers: Mapping[str, str]
    status: int


class Archive:
    """The running site. `died` has the years of death by artist, None for the living."""

    def __init__(
        self, works: Sequence[Painting], *, died: Mapping[str, int | None] | None = None, cap: int = PAGE * PAGES,
        claimed: int | None = None, etags: bool = False, unlisted_artists: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.cap, self.claimed, self.etags, self.unlisted_artists = cap, claimed, etags, unlisted_artists
        self.base_url, self.requests = "", []
        self.rule: Rule = lambda path, asked: None
        self.bodies: dict[str, bytes] = {}  # by path with query, bytes in place of the usual body
        self.answered: Counter[str] = Counter()  # with status 200
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.set_works(works, died or {})

    def set_works(self, works: Sequence[Painting], died: Mapping[str, int | None]) -> None:
        """Replace the site's works."""
        self.works, self.died = list(works), dict(died)
        self._order = sorted(works, key=lambda work: (work.place, work.number))
        self._by_content = {str(work.content_id): work for work in works}
        self._by_page = {f"/en/{work.artist}/{work.hex_id}": work for work in works}
        self._of_artist: dict[str, list[Painting]] = {}
        for work in self._order:
            self._of_artist.setdefault(work.artist, []).append(work)
        self._lists: dict[str, list[Painting]] = {}

    def kinds(self) -> Counter[str]:
        """The number of requests by kind."""
        return Counter(_kind(request.path) for request in self.requests)

    def body(self, path: str) -> tuple[int, bytes]:
        """Status and body of the response to a path without a fault."""
        if path in self.bodies:
            return 200, self.bodies[path]
        if path == ERROR_PAGE:
            return 500, SORRY
        parts = urlsplit(path)
        names, query = parts.path.strip("/").split("/"), parse_qs(parts.query)
        page = int(query.get("page", ["1"])[0])
        if parts.path.startswith(("/en/paintings-by-style/", "/en/paintings-by-genre/")):
            return self._list(names[1].removeprefix("paintings-by-"), names[2], page)
        if parts.path.endswith("/mode/all-paintings"):
            works = [work for work in self._of_artist.get(names[1], ()) if work.in_artist_list]
            return self._page(works, page, None) if names[1] in self._of_artist else (404, b"")
        if parts.path == "/en/App/Artist/AlphabetJson":
            named = sorted({*self._of_artist, *self.died} - {*self.unlisted_artists})
            return 200, _json([self._artist(slug) for slug in named])
        if parts.path == "/en/App/Painting/PaintingsByArtist":
            return 200, _json([self._piece(work) for work in self._of_artist.get(query["artistUrl"][0], ())])
        if len(names) == 5 and names[3] == "ImageJson":
            return self._details(names[4])
        if work := self._by_page.get(parts.path):
            return 200, _page_of(work)
        if len(names) == 2 and names[1] in self._of_artist and "json" in query:
            return 200, _json(self._artist(names[1]))
        return 404, b"not here"

    def _list(self, kind: str, slug: str, page: int) -> tuple[int, bytes]:
        key = f"{kind}/{slug}"
        if key not in self._lists:
            self._lists[key] = [
                work for work in self._order if slug in (work.styles if kind == "style" else work.genres)
            ]
        works = self._lists[key]
        if not works:
            return 404, b"no such list"
        return self._page(works[: self.cap], page, len(works) if self.claimed is None else self.claimed)

    def _page(self, works: Sequence[Painting], page: int, claimed: int | None) -> tuple[int, bytes]:
        shown = [self._record(work) for work in works[(page - 1) * PAGE : page * PAGE]]
        return 200, _json({
            "ArtistsHtml": None, "CanLoadMoreArtists": False, "Paintings": shown or None, "Artists": None,
            "AllArtistsCount": 0, "PaintingsHtml": None, "PaintingsHtmlBeta": None,
            "AllPaintingsCount": len(works) if claimed is None else claimed, "PageSize": PAGE, "TimeLog": None,
        })  # fmt: skip

    def _record(self, work: Painting) -> dict[str, object]:
        return {
            "id": work.hex_id, "title": html.escape(work.title), "year": work.year, "width": 634, "height": 750,
            "artistName": _name(work.artist), "image": f"{self.base_url}/{quote(work.file)}", "map": "0123**67*",
            "paintingUrl": f"/en/{work.artist}/{work.hex_id}", "artistUrl": f"/en/{work.artist}",
            "albums": None, "flags": 2, "images": None,
        }  # fmt: skip

    def _piece(self, work: Painting) -> dict[str, object]:
        return {
            "title": work.title, "contentId": work.content_id, "artistContentId": 7,
            "artistName": " ".join(reversed(_name(work.artist).split())),
            "completitionYear": int(work.year) if work.year.isdigit() else None, "yearAsString": work.year or None,
            "width": 634, "height": 750, "image": f"{self.base_url}/{work.file}!Large.jpg",
        }  # fmt: skip

    def _details(self, content_id: str) -> tuple[int, bytes]:
        work = self._by_content.get(content_id)
        if work is None:
            return 302, ERROR_PAGE.encode()
        details = {
            **self._piece(work), "artistUrl": work.artist, "url": work.hex_id, "dictionaries": [1, 2],
            "style": ", ".join(_title(style) for style in work.styles),
            "genre": ", ".join(_title(genre) for genre in work.genres),
        }  # fmt: skip
        return 200, _json({key: value for key, value in details.items() if value})

    def _artist(self, slug: str) -> dict[str, object]:
        died = self.died.get(slug)
        ms = ALIVE_MS if died is None else (died - 1970) * 31_556_952_000
        return {"contentId": 7, "url": slug, "artistName": _name(slug), "deathDay": f"/Date({ms})/"}


def painted(
    count: int,
    *,
    artists: int,
    others: int = 0,
    style: str = "impressionism",
    seed: int = 1,
    undated: float = 0.28,
) -> list[Painting]:
    """`count` works of a style between 1820 and 2000, and `others` of another style, by `artists` artists."""
    chance = random.Random(seed)
    works = []
    for number in range(count + others):
        place = int(1820 + 180 * chance.random() ** 0.9)
        said = place - chance.randrange(1, 12) if chance.random() < 0.01 else place  # is late in the list
        year = chance.choice(("", "XX cent.", "c. ?")) if chance.random() < undated else str(said)
        mine = number < count
        works.append(
            Painting(
                number=number, artist=f"artist-{number % artists}", place=place, year=year,
                styles=(style, "realism") if mine and number % 5 == 0 else (style,) if mine else ("realism",),
            )
        )  # fmt: skip
    return works


@contextmanager
def archive(works: Sequence[Painting], **settings: object) -> Iterator[Archive]:
    """Serve `works` (see `Archive` for the settings) until the block ends."""
    site = Archive(works, **settings)  # type: ignore[arg-type]

    class Bound(_Handler):
        pass

    Bound.site = site
    server = _Server(("127.0.0.1", 0), Bound)
    site.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128


class _Handler(socketserver.BaseRequestHandler):
    """HTTP/1.1 with keep-alive, without http.server, whose reading of headers takes a third of a millisecond."""

    site: Archive

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = b""
        while True:
            while b"\r\n\r\n" not in waiting:
                try:
                    piece = self.request.recv(65536)
                except ConnectionError:
                    return
                if not piece:
                    return
                waiting += piece
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            if not self._answer(head.decode("latin-1").split("\r\n")):
                return

    def _answer(self, lines: list[str]) -> bool:
        site, path = self.site, lines[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        with site.lock:
            site.asked[path] += 1
            fault = site.rule(path, site.asked[path])
        status, body = _faulty(fault) if fault else site.body(path)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if site.etags and status == 200 else ""
        if etag and headers.get("if-none-match") == etag:
            status, body = 304, b""
        with site.lock:
            site.requests.append(Request(time.monotonic(), path, headers, 0 if fault == "drop" else status))
            site.answered[path] += status == 200 and fault != "drop"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += f"ETag: {etag}\r\n" if etag else ""
        head += "Retry-After: 0\r\n" if status == 429 else ""
        head += f"Location: {body.decode()}\r\n" if status == 302 else ""
        head += "cf-mitigated: challenge\r\n" if fault == "challenge" else ""
        message = head.encode() + b"\r\n" + body
        try:
            if fault == "drop":
                self.request.sendall(message[: len(message) // 2])
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.request.close()
                return False
            self.request.sendall(message)
        except OSError:
            return False
        return True


def _faulty(fault: str) -> tuple[int, bytes]:
    if fault == "html":
        return 200, SORRY
    if fault == "challenge":
        return 403, b"<html>Just a moment...</html>"
    if fault.startswith("to "):
        return 302, fault.removeprefix("to ").encode()
    return (200, b"[" * 2000) if fault == "drop" else (int(fault), b"no")


def _page_of(work: Painting) -> bytes:
    icon, words = ("public-domain", "Public domain") if work.is_free else ("copyright-author", "Fair Use")
    return (
        '<html><body><div class="wiki-layout-artist-info"><article><h3>'
        f'{html.escape(work.title)}</h3></article><div class="copyright-wrapper"><a class="copyright" href="#">'
        f'<i class="copyright-icon-{icon}"></i> {words}</a></div></div></body></html>'
    ).encode()


def _kind(path: str) -> str:
    for words, kind in (
        ("/paintings-by-", "lists"), ("AlphabetJson", "artists"), ("PaintingsByArtist", "oeuvres"),
        ("ImageJson", "details"), ("/mode/all-paintings", "artist lists"), ("robots.txt", "robots"),
        ("?json=2", "artists"),
    ):  # fmt: skip
        if words in path:
            return kind
    return "painting pages"


def _name(slug: str) -> str:
    return slug.replace("-", " ").title()


def _title(slug: str) -> str:
    return slug.replace("-", " ").capitalize()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
