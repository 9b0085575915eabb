"""Where a catalogued picture's bytes come from: a site over HTTP, or a folder.

All that it takes to open a source, as data that travels to other processes and machines.

WikiArt's smaller copies of its images: which to ask for where pictures are kept small, and whether one is a copy.

Which copies exist follows from the original's size: in 512 of 512 real list records, `map`, which says it copy by
copy, is what `exists_from` gives, and the works of the App layer have a size but no `map`. Sizes that WikiArt does not
tell are guesses, the smaller ones: a wrong guess may cost a request or some bytes, never a wrong picture.
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


class Opening(Protocol):
    """Opens the same source wherever it is asked to."""

    @property
    def rate_per_s(self) -> float | None:
        """Requests a second, at most; None: as many as go."""

    def slowed(self, rate_per_s: float | None) -> Self:
        """The same source at another rate: the share of one among several processes."""

    def opened(self) -> AbstractContextManager[Source]:
        """The source, for as long as the block lasts."""


@dataclass(frozen=True)
class SiteOpening:
    """A site over HTTP."""

    base_url: str
    contact: str
    rate_per_s: float | None
    retries: int
    timeout_s: float
    max_bytes: int
    edition: str = ""
    may_train: bool = False

    def slowed(self, rate_per_s: float | None) -> Self:
        return replace(self, rate_per_s=rate_per_s)

    @contextmanager
    def opened(self) -> Iterator[Source]:
        with PoliteClient(
            self.base_url,
            contact=self.contact,
            rate_per_s=self.rate_per_s,
            retries=self.retries,
            timeout_s=self.timeout_s,
            may_train=self.may_train,
        ) as client:
            yield Site(client, self.max_bytes, self.edition)


@dataclass(frozen=True)
class FolderOpening:
    """A folder, under the same path wherever it is opened."""

    path: Path
    max_bytes: int
    rate_per_s: float | None = None

    def slowed(self, rate_per_s: float | None) -> Self:
        return self

    @contextmanager
    def opened(self) -> Iterator[Source]:
        yield Folder(self.path, self.max_bytes)


TRIED = 3  # variants before the original: a work of which none is there costs no more requests in vain

USUAL_SHAPE = 0.75  # shorter side : longer side, where the catalog tells no size

SHAPE_TOLERANCE = 0.03  # and a pixel, for rounding

_PLAIN = re.compile(r"https?://[^?#!]+")  # nothing can be appended to other addresses


class _Variant(NamedTuple):
    """The box that a variant fits into at least; it is never larger than the original.

    `exists_from`: WikiArt makes it of originals that are so wide or so high.
    """

    name: str
    width: int
    height: int | None = None  # None: as high as it gets
    exists_from: tuple[int, int] = (0, 0)


# smallest first; WikiArt has the first two of all works, the last of a fifth
VARIANTS = (
    _Variant("PinterestSmall", 210),
    _Variant("PinterestLarge", 280),
    _Variant("Portrait", 400, 400, (400, 400)),
    _Variant("Blog", 500, 500, (500, 500)),
    _Variant("Large", 600, 750, (750, 600)),
    _Variant("HalfHD", 800, 800, (1366, 800)),
    _Variant("HD", 1200, 1200, (1920, 1200)),
)


def addresses(work: Work, size_px: int | None, min_side_px: int) -> list[str]:
    """Where to ask for a work's picture, one after the other: variants whose shorter side suffices, the original last.

    The original alone where nobody may make do with less: its size must be seen to be believed, or is below what is
    asked for anyway.
    """
    original = work.image_url
    if size_px is None or work.source != "wikiart" or not _PLAIN.fullmatch(original):
        return [original]
    size = catalogued_size(work)
    if size is None and min_side_px > size_px:  # a variant would not tell whether the original is too small
        return [original]
    if size is not None and min(size) < max(size_px, min_side_px):
        return [original]
    enough = [variant for variant in VARIANTS if _suffices(variant, size, size_px)]
    return [f"{original}!{variant.name}.jpg" for variant in enough[:TRIED]] + [original]


def catalogued_size(work: Work) -> tuple[int, int] | None:
    """The original's width and height, where the catalog has both."""
    if not work.width or not work.height or min(work.width, work.height) < 1:
        return None
    return work.width, work.height


def is_copy(size: tuple[int, int], original: tuple[int, int] | None) -> bool:
    """Whether a picture of `size` has the shape of the original and not more pixels: no crop, no frame, no stand-in."""
    if original is None:
        return True
    (width, height), (full_width, full_height) = size, original
    due = full_height * width / full_width
    return width <= full_width and abs(height - due) <= 1 + SHAPE_TOLERANCE * due


def _suffices(variant: _Variant, original: tuple[int, int] | None, size_px: int) -> bool:
    if original is None:
        return min(variant.width, variant.height or variant.width) * USUAL_SHAPE >= size_px
    width, height = original
    if width < variant.exists_from[0] and height < variant.exists_from[1]:
        return False
    factor = min(variant.width / width, (variant.height or height) / height)
    return factor < 1 and round(min(original) * factor) >= size_px
