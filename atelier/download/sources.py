"""Where a catalogued picture's bytes come from: a site over HTTP, or a folder. Judges none of them."""

import hashlib
import stat
from pathlib import Path, PurePosixPath
from typing import Protocol

import PIL

import atelier.gallery
from atelier.catalog import Work
from atelier.gallery.server import VIRTUAL, live_url
from atelier.web.polite import Fetched, FetchError, PoliteClient


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

    def fetch(self, work: Work) -> Fetched:
        url = work.image_url
        if url.startswith(VIRTUAL):
            url = live_url(url, self.client.base_url)
        return self.client.fetch(url, max_bytes=self.max_bytes)

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
