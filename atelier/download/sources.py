"""Where a work's picture comes from: a site over HTTP, the built-in gallery, or a folder of images.

A SourceSpec is the description from which each process and machine opens its own source. The end of the file chooses
among WikiArt's smaller copies of an image. Which exist follows from the original's size, as in the field `map` of 512
of 512 list records. Without a size the choice is an estimate: a wrong one costs a request, never a wrong picture.
"""

import hashlib
import re
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import PIL

import atelier.gallery
from atelier.data.catalog import Work
from atelier.gallery.server import VIRTUAL, live_url
from atelier.web.client import PoliteClient
from atelier.web.response import Fetched, FetchError

FORBIDDEN_STATUSES = (401, 403)
MAX_FORBIDDEN_AT_FIRST = 5  # works that a host forbids before it has given any; then it gets no more requests
MAX_FORBIDDEN_IN_A_ROW = 25  # the same for a host that has given some

MAX_VARIANTS = 3  # requested before the original, so that a work without variants costs few requests
USUAL_ASPECT = 0.75  # shorter side : longer side, if the catalog has no size
ASPECT_TOLERANCE = 0.03  # and a pixel, for rounding
PLAIN_URL = re.compile(r"https?://[^?#!]+")  # a variant's name can be appended to such a URL only


class Source(Protocol):
    """Fetches the pictures of works, from any number of threads."""

    def fetch(self, work: Work) -> Fetched:
        """Fetch the bytes at `work.image_url`. Raises FetchError."""

    def version(self, work: Work) -> str:
        """What else decides those bytes, as a text: a file's size and date, or the gallery's version."""

    def stop(self) -> None:
        """Make running and later calls of `fetch` end soon by an exception. A read from a disk is not interrupted."""


class SourceSpec(Protocol):
    """A description of a source that can be pickled, and opened in any process."""

    @property
    def rate_per_s(self) -> float | None:
        """The most requests a second; None: no limit."""

    def with_rate(self, rate_per_s: float | None) -> Self:
        """The same source at another rate, for example one process's share of it."""

    def open(self) -> AbstractContextManager[Source]:
        """Open the source until the block ends."""


@dataclass(frozen=True)
class SiteSpec:
    """A site over HTTP; see PoliteClient for the settings and SiteSource for `gallery_version`."""

    base_url: str
    contact: str
    rate_per_s: float | None
    retries: int
    timeout_s: float
    max_bytes: int
    gallery_version: str = ""
    may_train: bool = False

    def with_rate(self, rate_per_s: float | None) -> Self:
        return replace(self, rate_per_s=rate_per_s)

    @contextmanager
    def open(self) -> Iterator[Source]:
        with PoliteClient(
            self.base_url,
            contact=self.contact,
            rate_per_s=self.rate_per_s,
            retries=self.retries,
            timeout_s=self.timeout_s,
            may_train=self.may_train,
        ) as client:
            yield SiteSource(client, self.max_bytes, self.gallery_version)


@dataclass(frozen=True)
class FolderSpec:
    """A folder that has the same path in all processes and on all machines."""

    path: Path
    max_bytes: int
    rate_per_s: float | None = None

    def with_rate(self, rate_per_s: float | None) -> Self:
        return self

    @contextmanager
    def open(self) -> Iterator[Source]:
        yield FolderSource(self.path, self.max_bytes)


class SiteSource:
    """WikiArt, a mirror of it, or the built-in gallery at its present port, with its `gallery_version`."""

    def __init__(self, client: PoliteClient, max_bytes: int, gallery_version: str = "") -> None:
        self.client, self.max_bytes, self.gallery_version = client, max_bytes, gallery_version
        self._lock = threading.Lock()
        self._forbidden: defaultdict[str, set[str]] = defaultdict(set)  # by host, ids of works in a row
        self._answering: set[str] = set()  # hosts that have given any other answer

    def fetch(self, work: Work) -> Fetched:
        """See Source. A host that forbids one work after the other gets no more requests."""
        url = work.image_url
        if url.startswith(VIRTUAL):
            url = live_url(url, self.client.base_url)
        host = urlsplit(url).netloc
        with self._lock:
            forbidden = len(self._forbidden[host] - {work.id})
            if forbidden >= (MAX_FORBIDDEN_IN_A_ROW if host in self._answering else MAX_FORBIDDEN_AT_FIRST):
                reason = f"{host} answers HTTP 401 or 403 for {forbidden} works in a row and is left alone"
                raise FetchError("refused", url, reason)
        try:
            fetched = self.client.fetch(url, max_bytes=self.max_bytes)
        except FetchError as error:
            if error.status is not None:
                self._record_status(host, work, error.status)
            raise
        self._record_status(host, work, 200)
        return fetched

    def _record_status(self, host: str, work: Work, status: int) -> None:
        with self._lock:
            if status in FORBIDDEN_STATUSES:
                self._forbidden[host].add(work.id)
            else:
                self._forbidden[host].clear()
                self._answering.add(host)

    def version(self, work: Work) -> str:
        return self.gallery_version

    def stop(self) -> None:
        self.client.stop()


class FolderSource:
    """Files in a folder; a path that leads out of the folder is refused."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes

    def fetch(self, work: Work) -> Fetched:
        name = PurePosixPath(work.image_url)
        if name.is_absolute() or ".." in name.parts:
            raise FetchError("refused", work.image_url, "leads out of the folder")
        path = self.path / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise FetchError("refused", work.image_url, "is no regular file")
            if status.st_size > self.max_bytes:
                raise FetchError("too-large", work.image_url, f"{status.st_size:,} bytes")
            return Fetched(work.image_url, "", path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise FetchError("missing", work.image_url, "is not in the folder any more") from None
        except PermissionError:
            raise FetchError("refused", work.image_url, "may not be read by you") from None
        except OSError as error:
            raise FetchError("refused", work.image_url, f"cannot be read: {error.strerror}") from None

    def version(self, work: Work) -> str:
        try:
            status = (self.path / work.image_url).stat()
        except OSError:
            return "absent"
        return f"{status.st_size} {status.st_mtime_ns}"

    def stop(self) -> None:
        """Do nothing: a file is read at once."""


def gallery_version(seed: int, size_px: int) -> str:
    """What decides the gallery's bytes: its code, Pillow's version, the seed and the size."""
    code = hashlib.sha256()
    for path in sorted(Path(atelier.gallery.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return f"{code.hexdigest()[:16]} Pillow {PIL.__version__} seed {seed} size {size_px}"


def is_from_site(work: Work) -> bool:
    """Whether a work's picture comes from a site rather than from a folder."""
    return work.image_url.startswith(("http://", "https://", VIRTUAL))


class Variant(NamedTuple):
    """A smaller copy that WikiArt makes of an image, scaled to cover a box (`height` None: of any height).

    `exists_from` is the width or height of the originals that have this variant.
    """

    name: str
    width: int
    height: int | None = None
    exists_from: tuple[int, int] = (0, 0)


# the smallest first; all works have the first two, a fifth of them the last
VARIANTS = (
    Variant("PinterestSmall", 210),
    Variant("PinterestLarge", 280),
    Variant("Portrait", 400, 400, (400, 400)),
    Variant("Blog", 500, 500, (500, 500)),
    Variant("Large", 600, 750, (750, 600)),
    Variant("HalfHD", 800, 800, (1366, 800)),
    Variant("HD", 1200, 1200, (1920, 1200)),
)


def image_urls(work: Work, size_px: int | None, min_side_px: int) -> list[str]:
    """The URLs to try for a work's picture in order: variants with a shorter side of `size_px`, the original last.

    The original alone if its size must be measured, or is below `size_px` or `min_side_px` anyway.
    """
    original = work.image_url
    if size_px is None or work.source != "wikiart" or not PLAIN_URL.fullmatch(original):
        return [original]
    size = catalog_size(work)
    # without a size, a variant would not tell whether the original is too small
    if min_side_px > size_px if size is None else min(size) < max(size_px, min_side_px):
        return [original]
    large_enough = [variant for variant in VARIANTS if _is_large_enough(variant, size, size_px)]
    return [f"{original}!{variant.name}.jpg" for variant in large_enough[:MAX_VARIANTS]] + [original]


def catalog_size(work: Work) -> tuple[int, int] | None:
    """The original's width and height, if the catalog has both."""
    width, height = work.width or 0, work.height or 0
    return (width, height) if min(width, height) > 0 else None


def is_smaller_copy(size: tuple[int, int], original: tuple[int, int] | None) -> bool:
    """Whether a picture of `size` has the original's aspect ratio and is not larger: not cropped, not a placeholder."""
    if original is None:
        return True
    (width, height), (full_width, full_height) = size, original
    expected = full_height * width / full_width
    return width <= full_width and abs(height - expected) <= 1 + ASPECT_TOLERANCE * expected


def _is_large_enough(variant: Variant, original: tuple[int, int] | None, size_px: int) -> bool:
    if original is None:
        return min(variant.width, variant.height or variant.width) * USUAL_ASPECT >= size_px
    width, height = original
    if width < variant.exists_from[0] and height < variant.exists_from[1]:
        return False
    factor = min(variant.width / width, (variant.height or height) / height)
    return factor < 1 and round(min(original) * factor) >= size_px
