"""Verify downloaded bytes: a fully decoded picture or the reason for its refusal; and decode verified bytes to sRGB."""

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
from atelier.images import EXTENSIONS, describe_unknown, missing_decoder, sniff
from atelier.images.colours import to_srgb
from atelier.images.decode import ImageDecoder, classify_failure

# Pillow's limit is one global number; `ImageLimits` is compared with the header before anything is decoded
Image.MAX_IMAGE_PIXELS = None
# damage becomes a status; Pillow's warnings about tags are of no use beside it
warnings.filterwarnings("ignore", module=r"PIL\.")

_DCT = np.cos(np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(32) + 1))  # the first 8 rows of a DCT-II of length 32

Refusal = Literal["placeholder", "truncated", "not-an-image", "too-small", "too-large", "refused"]

# WikiArt's pictures in place of paintings that it may not show
PLACEHOLDERS = frozenset({"frame-600x480.jpg", "artist-480x600.jpg", "favicon-256x256.png"})
MAX_JPEG_PX = 65_500  # of a side
SMALL_PX = 128  # least side of a small copy; its perceptual hash differs from the picture's by at most a bit or two
# of all pictures that are being decoded in a process; a larger one is decoded alone
PIXELS_AT_ONCE = 32_000_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The smallest allowed shorter side and the largest allowed area of a picture."""

    min_side_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A picture that was decoded in full, and its upright size.

    `image` is upright in the file's own colours; in sRGB if it was reduced; None if the file is stored unchanged.
    `note` names colours or pages that are not supported, and is empty for most pictures.
    """

    extension: str
    width: int
    height: int
    phash: str
    image: Image.Image | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why bytes were refused: a status of data/downloads.parquet and a sentence."""

    status: Refusal
    reason: str


def verify(content: bytes, limits: ImageLimits, size_px: float = 0) -> Verified | Refused:
    """Decode `content` in full and measure it. Its kind is detected from the bytes, not from a name or header.

    Pictures whose shorter side is longer than `size_px` are reduced to it, others stay unchanged (their `image` is
    None); with 0 the full image is returned. Of a JPEG that stays unchanged every coefficient is decoded, to reveal
    damage, but only a small grey copy is converted, in half the time. A decoder's exception becomes a refusal.
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
            return _verified(opened, limits, size_px)
    except Exception as error:  # noqa: BLE001  # no exception of a decoder may end a stage
        damaged, reason = classify_failure(kind, content, error)
        return Refused("truncated" if damaged else "refused", reason)


def read_rgb(content: bytes, name: str = "") -> Image.Image:
    """Decode verified bytes to upright sRGB on white. Raises AtelierError, with `name`, if that fails.

    Threads that read large pictures call it within `decoding_slot(claimed_pixels(content))`.
    """
    kind = sniff(content)
    try:
        if kind is None:
            raise OSError(describe_unknown(content))
        return to_rgb(ImageDecoder(kind, content).load())
    except Exception as error:  # noqa: BLE001
        why = classify_failure(kind or "picture", content, error)[1]
        where = f"{name}: " if name else ""
        raise AtelierError(f"{where}not a whole picture ({why}): `dvc repro` makes it again") from None


def claimed_pixels(content: bytes) -> int:
    """The number of pixels by a picture's header; 0 if it cannot be read."""
    kind = sniff(content)
    try:
        return math.prod(ImageDecoder(kind, content).size) if kind else 0
    except Exception:  # noqa: BLE001  # decoding reports what is wrong
        return 0


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of `decode.ImageDecoder.load` to sRGB, on white where it is transparent."""
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not transparent:
        return to_srgb(image)
    alpha = image.convert("RGBA").getchannel("A")
    colour = to_srgb(image.convert("LA").getchannel("L") if image.mode in ("L", "LA", "La") else image)
    sheet = Image.new("RGB", image.size, "white")
    sheet.paste(colour, mask=alpha)
    return sheet


def resize_shorter_side(image: Image.Image, size: tuple[int, int], size_px: int) -> Image.Image:
    """Reduce a picture of `size` to sRGB with a shorter side of `size_px`; `image` may be a smaller copy of it.

    Antialiased. The longer side is limited to the maximum of a JPEG.
    """
    factor = size_px / min(size)
    width, height = (min(max(round(side * factor), size_px), MAX_JPEG_PX) for side in size)
    return to_rgb(image).resize((width, height), Image.Resampling.LANCZOS)


def encode_jpeg(image: Image.Image) -> bytes:
    """Encode an sRGB picture as a JPEG of quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


@contextmanager
def decoding_slot(pixels: int) -> Iterator[None]:
    """Wait until `pixels` more can be decoded with at most PIXELS_AT_ONCE in all; calls proceed in order of arrival."""
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
    """Whether an image's final address is one of WikiArt's placeholders."""
    return PurePosixPath(urlsplit(url).path).name.split("!")[0].lower() in PLACEHOLDERS


def _size_refused(width: int, height: int, limits: ImageLimits) -> Refused | None:
    if width * height > limits.max_pixels:
        reason = f"{width}×{height} px is more than download.max_pixels, {limits.max_pixels:,}"
        return Refused("too-large", reason)
    if min(width, height) < limits.min_side_px:
        return Refused("too-small", f"{width}×{height} px; download.min_side_px is {limits.min_side_px}")
    return None


def _verified(opened: ImageDecoder, limits: ImageLimits, size_px: float) -> Verified | Refused:
    """Verify a picture of allowed size. Raises the exceptions of `ImageDecoder.load`."""
    extension = EXTENSIONS[opened.kind]
    unchanged = min(opened.size) <= size_px
    if unchanged and (small := opened.small_grey(SMALL_PX)) and not _is_flat(small):
        # flat pictures are decoded below, because a small copy shows only the mean of each block
        return Verified(extension, *opened.upright_size, _phash(small), None, opened.note)
    image = opened.load(int(size_px) if size_px and not unchanged else None)
    size = opened.upright_size
    if opened.kind != "JPEG":
        size = image.size
        if refusal := _size_refused(*size, limits):  # a GIF's first frame may enlarge its canvas
            return refusal
        unchanged = min(size) <= size_px
    if _is_flat(image):
        return Refused("placeholder", "one colour all over")
    phash = _phash(image)
    if size_px and not unchanged:
        image = resize_shorter_side(image, size, int(size_px))
    return Verified(extension, *size, phash, None if unchanged else image, opened.note)


def _is_flat(image: Image.Image) -> bool:
    if any(low != high for low, high in _extrema(image.resize((8, 8), Image.Resampling.NEAREST))):
        return False
    return all(low == high for low, high in _extrema(image))


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    extrema = image.getextrema()
    return extrema if isinstance(extrema[0], tuple) else (extrema,)  # type: ignore[return-value]


def _phash(image: Image.Image) -> str:
    """The perceptual hash of imagehash.phash, computed ten times faster: the signs of the 64 lowest frequencies."""
    if "transparency" in image.info or image.mode not in ("L", "RGB"):
        image = to_rgb(image)
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    low = _DCT @ np.asarray(small, np.float64) @ _DCT.T
    middle = np.sort(low, axis=None)[31:33]  # as np.median, ten times faster
    return np.packbits(low > middle.sum() / 2).tobytes().hex()
