"""A server on loopback that offers the built-in archive in WikiArt's formats and paints its images on request."""

import hashlib
import html
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import resource_tracker
from typing import Any
from urllib.parse import parse_qs, urlsplit

from atelier.gallery.painter import paint
from atelier.gallery.scene import GENRE, describe
from atelier.text import slug

VIRTUAL = "gallery:"  # replaces the base URL in catalogs, since the port differs each time
PAGE_SIZE = 60
JPEG_QUALITY = 92


def virtual_url(live: str, base_url: str) -> str:
    """The URL in the catalog, `gallery:/images/…`, of `http://127.0.0.1:PORT/images/…`."""
    return VIRTUAL + live.removeprefix(base_url)


def live_url(virtual: str, base_url: str) -> str:
    """The URL of a catalog's `gallery:/images/…` at the server `base_url`."""
    return base_url + virtual.removeprefix(VIRTUAL)


@contextmanager
def serve(seed: int, works: int, size_px: int) -> Iterator[str]:
    """Serve the archive `seed` until the block ends; yields its base URL."""
    with closing(_PainterPool()) as painters:
        archive = _Archive(seed, works, size_px)
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": archive, "painters": painters}))
        archive.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield archive.base_url
        finally:
            server.shutdown()
            server.server_close()


def work_id(seed: int, index: int) -> str:
    """The work's id: 24 hex digits, as on WikiArt."""
    return hashlib.sha256(f"atelier gallery {seed} {index}".encode()).hexdigest()[:24]


class _Archive:
    """The facts of all works, and the pages that list them."""

    def __init__(self, seed: int, works: int, size_px: int) -> None:
        self.seed, self.size_px, self.base_url = seed, size_px, ""
        self._labels = [describe(seed, index) for index in range(works)]
        self.index_of_image = {self._image_path(index): index for index in range(works)}
        self._lists: dict[str, list[int]] = {}
        # in the order of completion, as on WikiArt
        for index in sorted(range(works), key=lambda index: (self._labels[index].year, index)):
            self._lists.setdefault(f"/en/paintings-by-genre/{GENRE}", []).append(index)
            self._lists.setdefault(f"/en/paintings-by-style/{slug(self._labels[index].style)}", []).append(index)

    def page(self, path: str, number: int) -> bytes | None:
        """One page of a list as JSON; None if there is no such list."""
        if path not in self._lists:
            return None
        indices = self._lists[path]
        shown = indices[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        envelope = {
            "ArtistsHtml": None, "CanLoadMoreArtists": False, "Paintings": [self._record(i) for i in shown] or None,
            "Artists": None, "AllArtistsCount": 0, "PaintingsHtml": None, "PaintingsHtmlBeta": None,
            "AllPaintingsCount": len(indices), "PageSize": PAGE_SIZE, "TimeLog": None,
        }  # fmt: skip
        return json.dumps(envelope).encode()

    def index(self, path: str) -> bytes:
        """The index of genres or styles as HTML."""
        titles = {slug(label.style): label.style for label in self._labels} | {GENRE: GENRE}
        entries = [
            f'<li class="dottedItem"><a target="_self" href="{address}">{titles[address.rpartition("/")[2]]} '
            f"<sup>{len(works)}</sup></a></li>"
            for address, works in sorted(self._lists.items())
            if address.startswith(path + "/")
        ]
        return f'<ul class="dictionaries-list">{"".join(entries)}</ul>'.encode()

    def _image_path(self, index: int) -> str:
        label = self._labels[index]
        # with the size: at another size it is another image
        name = f"{slug(label.title)}-{label.year}-{work_id(self.seed, index)[:12]}-{self.size_px}px"
        return f"/images/{slug(label.artist)}/{name}.jpg"

    def _record(self, index: int) -> dict[str, Any]:
        label = self._labels[index]
        width, height = label.size(self.size_px)
        identity, artist = work_id(self.seed, index), slug(label.artist)
        return {
            "id": identity, "title": _escaped(label.title), "year": str(label.year), "width": width, "height": height,
            "artistName": _escaped(label.artist), "image": self.base_url + self._image_path(index),
            "map": "0********", "paintingUrl": f"/en/{artist}/{identity}", "artistUrl": f"/en/{artist}",
            "albums": None, "flags": 2, "images": None,
        }  # fmt: skip


class _PainterPool:
    """Processes that paint, one for each core, started with the first image."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._pool:
                self._pool.shutdown(cancel_futures=True)

    def jpeg(self, seed: int, index: int, size_px: int) -> bytes:
        """Paint one work. Raises BrokenProcessPool if a process died (the next call starts new ones) or on closing."""
        with self._lock, _sigint_blocked():  # processes that are started here inherit the mask
            if self._closed:
                raise BrokenProcessPool("the archive is closing")
            if self._pool is None:
                # plain fork is unsafe with threads; the fork server also starts processes within milliseconds
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["__main__", __name__])
                self._pool = ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_end_with_parent)
            pool = self._pool
            future = pool.submit(painting_jpeg, seed, index, size_px)
        try:
            return future.result()
        except CancelledError:
            raise BrokenProcessPool("the archive is closing") from None
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            raise


def painting_jpeg(seed: int, index: int, size_px: int) -> bytes:
    """Paint one work as a JPEG file; the same bytes every time."""
    file = io.BytesIO()
    paint(seed, index, size_px).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread until the block ends, and in the processes that it starts meanwhile, for good."""
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Start a thread that ends this process when its parent ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()  # returns also if the parent was killed
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # not for a client that closed the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the header and the body are two writes
    archive: _Archive
    painters: _PainterPool

    def do_GET(self) -> None:
        """Answer with an image, an index, a page of a list, or 404."""
        parts = urlsplit(self.path)
        number = parse_qs(parts.query).get("page", ["1"])[0]
        index = self.archive.index_of_image.get(parts.path)
        if index is not None:
            try:
                self._send(200, self.painters.jpeg(self.archive.seed, index, self.archive.size_px), "image/jpeg")
            except BrokenProcessPool:
                self._send(503, b"a painter died", "text/plain")
        elif parts.path in ("/en/paintings-by-genre", "/en/paintings-by-style"):
            self._send(200, self.archive.index(parts.path), "text/html; charset=utf-8")
        elif number.isdecimal() and (page := self.archive.page(parts.path, max(1, int(number[:6])))):
            self._send(200, page, "application/json; charset=utf-8")
        else:
            self._send(404, b"not here", "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _escaped(text: str) -> str:
    """Escape text as WikiArt does: `&#39; &quot; &#233; &amp;`."""
    return html.escape(text).replace("&#x27;", "&#39;").encode("ascii", "xmlcharrefreplace").decode()
