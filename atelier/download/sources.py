"""Where a catalogued picture's bytes come from: a site over HTTP, or a folder."""

import hashlib
import stat
import threading
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

import PIL

import atelier.gallery
from atelier.data.catalog import Work
from atelier.gallery.server import VIRTUAL, live_url
from atelier.web.client import Fetched, FetchError, PoliteClient

FORBIDDEN = (401, 403)
CLOSED_AFTER = 5  # works that a host forbids before it has given any; then it is asked for nothing more
CLOSED_LATER = 25  # the same of a host that has given some: works in a row may be forbidden ones


def is_of_site(work: Work) -> bool:
    """Whether a work's picture comes from a site rather than from a folder."""
    return work.image_url.startswith(("http://", "https://", VIRTUAL))


class Source(Protocol):
    """Gives the bytes of a work."""

    def fetch(self, work: Work) -> Fetched:
        """The bytes behind `work.image_url`. Raises FetchError."""

    def version(self, work: Work) -> str:
        """What else decides those bytes, as far as it can be known without asking."""

    def stop(self) -> None:
        """Let every `fetch` end soon."""


class Site:
    """WikiArt, a mirror, or the built-in gallery at its present address; `edition` names what the gallery paints."""

    def __init__(self, client: PoliteClient, max_bytes: int, edition: str = "") -> None:
        self.client, self.max_bytes, self.edition = client, max_bytes, edition
        self._lock = threading.Lock()
        self._forbidden: defaultdict[str, set[str]] = defaultdict(set)  # host → ids in a row
        self._giving: set[str] = set()  # hosts that have answered with anything else

    def fetch(self, work: Work) -> Fetched:
        """See Source. A host that forbids one work after the other is asked for nothing more."""
        url = work.image_url
        if url.startswith(VIRTUAL):
            url = live_url(url, self.client.base_url)
        host = urlsplit(url).netloc
        with self._lock:
            forbidden = len(self._forbidden[host] - {work.id})
            if forbidden >= (CLOSED_LATER if host in self._giving else CLOSED_AFTER):
                reason = f"{host} answers HTTP 401 or 403 for {forbidden} works in a row and is left alone"
                raise FetchError("refused", url, reason)
        try:
            fetched = self.client.fetch(url, max_bytes=self.max_bytes)
        except FetchError as error:
            if error.status is not None:
                self._note(host, work, error.status)
            raise
        self._note(host, work, 200)
        return fetched

    def _note(self, host: str, work: Work, status: int) -> None:
        with self._lock:
            if status in FORBIDDEN:
                self._forbidden[host].add(work.id)
            else:
                self._forbidden[host].clear()
                self._giving.add(host)

    def version(self, work: Work) -> str:
        return self.edition

    def stop(self) -> None:
        self.client.stop()


class Folder:
    """Files under a folder of one's own; addresses that lead out of it are refused."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes

    def fetch(self, work: Work) -> Fetched:
        name = PurePosixPath(work.image_url)
        if name.is_absolute() or ".." in name.parts:
            raise FetchError("refused", work.image_url, "leads out of the folder")
        path = self.path / name
        try:
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise FetchError("refused", work.image_url, "is no regular file")
            if facts.st_size > self.max_bytes:
                raise FetchError("too-large", work.image_url, f"{facts.st_size:,} bytes")
            return Fetched(work.image_url, "", path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise FetchError("missing", work.image_url, "is not in the folder any more") from None
        except PermissionError:
            raise FetchError("refused", work.image_url, "may not be read by you") from None
        except OSError as error:
            raise FetchError("refused", work.image_url, f"cannot be read: {error.strerror}") from None

    def version(self, work: Work) -> str:
        try:
            facts = (self.path / work.image_url).stat()
        except OSError:
            return "absent"
        return f"{facts.st_size} {facts.st_mtime_ns}"

    def stop(self) -> None:
        """Nothing waits here."""


def gallery_edition(seed: int, size_px: int) -> str:
    """What decides the gallery's bytes: its code, Pillow, the seed and the size."""
    code = hashlib.sha256()
    for path in sorted(Path(atelier.gallery.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return f"{code.hexdigest()[:16]} Pillow {PIL.__version__} seed {seed} size {size_px}"
