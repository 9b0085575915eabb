"""Hostile bytes → verified pictures, or the reason why not; verified bytes → plain sRGB. Opens no connection."""

import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from atelier.errors import AtelierError
from atelier.images.colours import to_srgb
from atelier.images.decode import ImageDecoder, classify_failure
from atelier.images.kinds import EXTENSIONS, describe_unknown, missing_decoder, sniff

# Pillow's own bomb check is one global number; ours is an argument, asked of the header before anything is decoded
Image.MAX_IMAGE_PIXELS = None
# a damaged picture is answered by a status; Pillow's remarks on its tags tell a person nothing
warnings.filterwarnings("ignore", module=r"PIL\.")

_DCT = np.cos(np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(32) + 1))  # type II, of which 8 of 32 rows

Refusal = Literal["placeholder", "truncated", "not-an-image", "too-small", "too-large", "refused"]

# what WikiArt shows where it may not show the painting
PLACEHOLDERS = frozenset({"frame-600x480.jpg", "artist-480x600.jpg", "favicon-256x256.png"})
WHITE = (255, 255, 255)
JPEG_SIDE = 65_500
SMALL_PX = 128  # sides that a small copy has at least: its perceptual hash is the whole picture's, or a bit or two off
PIXELS_AT_ONCE = (
    32_000_000  # of all pictures that are being decoded in a process; a larger one is decoded alone
)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may measure: its shorter side at least, its area at most."""

    min_side_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A picture decoded once in full, and its size upright.

    `image` is upright in the file's own colours; sRGB and smaller where it was to be made smaller; None where it is
    kept as it came. `note` says what of its colours or pages could not be honoured; mostly nothing.
    """

    extension: str
    width: int
    height: int
    phash: str
    image: Image.Image | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why bytes are no painting: a status of data/downloads.parquet and a sentence."""

    status: Refusal
    reason: str


def verify(content: bytes, limits: ImageLimits, kept_px: float = 0) -> Verified | Refused:
    """Decode `content` in full and measure it. The type is what the bytes say, whatever a header or a name claims.

    `kept_px`: pictures of a shorter side up to this are kept as they came, larger ones come made smaller, to this as
    their shorter side; 0 changes nothing. Of JPEGs that are kept every coefficient is decoded, which is where damage
    shows, but only a small grey copy is painted, for half the time. Whatever a decoder raises is a refusal.
    """
    kind = sniff(content)
    if kind is None:
        return Refused("not-an-image", describe_unknown(content))
    if why := missing_decoder(kind):
        return Refused("refused", why)
    try:
        opened = ImageDecoder(kind, content)
        width, height = opened.size
        if refusal := _size_refused(width, height, limits):
            return refusal
        opened.check()
        with decoding_slot(width * height):
            return _verified(opened, limits, kept_px)
    except Exception as error:  # noqa: BLE001  # no one file ends a stage, whatever its decoder raises
        damaged, reason = classify_failure(kind, content, error)
        return Refused("truncated" if damaged else "refused", reason)


def read_rgb(content: bytes, name: str = "") -> Image.Image:
    """Verified bytes as upright sRGB on white. Raises AtelierError, with `name`, where they cannot be decoded.

    Many threads that read large pictures do so within `decoding_slot(claimed_pixels(content))`.
    """
    kind = sniff(content)
    try:
        if kind is None:
            raise OSError(describe_unknown(content))
        return to_rgb(ImageDecoder(kind, content).load())
    except Exception as error:  # noqa: BLE001
        why = classify_failure(kind or "picture", content, error)[1]
        what = f"{name}: not a whole picture" if name else "not a whole picture"
        raise AtelierError(f"{what} ({why}): `dvc repro` makes it again") from None


def claimed_pixels(content: bytes) -> int:
    """How many pixels a picture's header claims; 0 where it cannot be read."""
    kind = sniff(content)
    try:
        return math.prod(ImageDecoder(kind, content).size) if kind else 0
    except Exception:  # noqa: BLE001  # whoever decodes it says what is wrong
        return 0


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as `decoding.Opened` loads it as sRGB: its colours converted, transparency on white."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not transparent:
        return to_srgb(image)
    alpha = image.convert("RGBA").getchannel("A")
    colour = to_srgb(image.convert("LA").getchannel("L") if image.mode in ("L", "LA", "La") else image)
    sheet = Image.new("RGB", image.size, WHITE)
    sheet.paste(colour, mask=alpha)
    return sheet


def resize_shorter_side(image: Image.Image, size: tuple[int, int], size_px: int) -> Image.Image:
    """A picture of `size`, of which `image` may be a smaller copy, as sRGB with `size_px` as its shorter side.

    Antialiased. A longer side is cut to what a JPEG can hold.
    """
    factor = size_px / min(size)
    width, height = (min(max(round(side * factor), size_px), JPEG_SIDE) for side in size)
    return to_rgb(image).resize((width, height), Image.Resampling.LANCZOS)


def encode_jpeg(image: Image.Image) -> bytes:
    """An sRGB picture as a JPEG of quality 95, its colour at full resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


@contextmanager
def decoding_slot(pixels: int) -> Iterator[None]:
    """Wait until a picture of so many pixels may be decoded: a process has PIXELS_AT_ONCE, first come, first served."""
    global _pixels_free
    pixels = min(pixels, PIXELS_AT_ONCE)
    with _turn, _freed:
        _freed.wait_for(lambda: _pixels_free >= pixels)
        _pixels_free -= pixels
    try:
        yield
    finally:
        with _freed:
            _pixels_free += pixels
            _freed.notify_all()


_turn, _freed = threading.Lock(), threading.Condition()
_pixels_free = PIXELS_AT_ONCE


def is_placeholder_url(url: str) -> bool:
    """Whether the address that finally answered is one of WikiArt's stand-ins."""
    return PurePosixPath(urlsplit(url).path).name.split("!")[0].lower() in PLACEHOLDERS


def _size_refused(width: int, height: int, limits: ImageLimits) -> Refused | None:
    if width * height > limits.max_pixels:
        reason = f"{width}×{height} px is more than download.max_pixels, {limits.max_pixels:,}"
        return Refused("too-large", reason)
    if min(width, height) < limits.min_side_px:
        return Refused("too-small", f"{width}×{height} px; download.min_side_px is {limits.min_side_px}")
    return None


def _verified(opened: ImageDecoder, limits: ImageLimits, kept_px: float) -> Verified | Refused:
    """The verdict on a picture of a size that is allowed. Raises what `Opened.load` raises."""
    extension = EXTENSIONS[opened.kind]
    kept = min(opened.size) <= kept_px
    if kept and (small := opened.small_grey(SMALL_PX)) and not _is_flat(small):
        # of a picture of one colour nothing but the mean of its blocks is seen here
        return Verified(extension, *opened.upright_size, _phash(small), None, opened.note)
    image = opened.load(int(kept_px) if kept_px and not kept else None)
    size = opened.upright_size
    if opened.kind != "JPEG":
        size = image.size
        if refusal := _size_refused(*size, limits):  # a GIF's first frame may enlarge its canvas
            return refusal
        kept = min(size) <= kept_px
    if _is_flat(image):
        return Refused("placeholder", "one colour all over")
    phash = _phash(image)
    if kept:
        return Verified(extension, *size, phash, None, opened.note)
    if kept_px:
        image = resize_shorter_side(image, size, int(kept_px))
    return Verified(extension, *size, phash, image, opened.note)


def _is_flat(image: Image.Image) -> bool:
    if any(low != high for low, high in _extrema(image.resize((8, 8), Image.Resampling.NEAREST))):
        return False
    return all(low == high for low, high in _extrema(image))


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    extrema = image.getextrema()
    return extrema if isinstance(extrema[0], tuple) else (extrema,)  # type: ignore[return-value]


def _phash(image: Image.Image) -> str:
    """imagehash's phash in a tenth of its time: the 64 lowest frequencies, each above their median or not."""
    if "transparency" in image.info or image.mode not in ("L", "RGB"):
        image = to_rgb(image)
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    low = _DCT @ np.asarray(small, np.float64) @ _DCT.T
    middle = np.sort(low, axis=None)[31:33]  # np.median says the same in ten times the time
    return np.packbits(low > middle.sum() / 2).tobytes().hex()
