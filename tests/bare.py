"""A web server of a few bytes: it answers each request with exactly the pieces it is given, however wrong."""

import socketserver
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

Pieces = Iterable[bytes | float]  # a number is a pause in seconds
OK = b"HTTP/1.1 200 OK\r\n"


class Bare:
    """What a test holds of it: `base_url`, and the heads of all requests but those for robots.txt."""

    def __init__(self, answers: list[Pieces]) -> None:
        self.answers = iter(answers)
        self.heads: list[str] = []
        self.base_url = ""


@contextmanager
def bare(*answers: Pieces) -> Iterator[Bare]:
    """Serve `answers`, one a request, each on its own connection; there is no robots.txt."""
    site = Bare(list(answers))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = []
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                lines.append(line.decode("latin-1"))
            if not lines:
                return
            if "/robots.txt" in lines[0]:
                self.wfile.write(b"HTTP/1.1 404 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            site.heads.append("".join(lines))
            try:
                for piece in next(site.answers):
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                    else:
                        time.sleep(piece)
            except ConnectionError:
                pass  # hanging up is what the tests want

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        site.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield site
        server.shutdown()
