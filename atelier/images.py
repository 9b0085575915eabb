"""Hostile bytes → verified pictures, or the reason why not; verified bytes → plain sRGB. Opens no connection."""

import io
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL import TiffImagePlugin as _tiff  # noqa: F401  # loaded here, not by the first of many threads
from PIL import WebPImagePlugin as _webp  # noqa: F401

from atelier.errors import AtelierError
from atelier.kinds import EXTENSIONS, sniff, unreadable, what_instead

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
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
SMALL_PX = 128  # sides that a small copy has at least: its perceptual hash is the whole picture's, or a bit or two off
LARGE_PIXELS = 25_000_000  # pictures from here on are decoded one at a time, for memory's sake
_one_large = threading.Lock()

# what Pillow raises for bytes that lie; its plugins do not check everything that they index
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError,
    AssertionError, AttributeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may measure: its shorter side at least, its area at most."""

    min_side_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A picture decoded once in full, upright; `image` has the mode of the file (see `to_rgb`), or is a small copy."""

    extension: str
    width: int
    height: int
    phash: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Refused:
    """Why bytes are no painting: a status of data/downloads.parquet and a sentence."""

    status: Refusal
    reason: str


def verify(content: bytes, limits: ImageLimits, kept_px: float = 0) -> Verified | Refused:
    """Decode `content` in full and measure it. The type is what the bytes say, whatever a header or a name claims.

    `kept_px`: pictures of a shorter side up to this are kept as they came. Of their JPEGs every coefficient is
    decoded, which is where damage shows, but only a small grey copy is painted, for half the time.
    """
    kind = sniff(content)
    if kind is None:
        return Refused("not-an-image", what_instead(content))
    if why := unreadable(kind):
        return Refused("refused", why)
    if kind == "HEIF":
        _register_heif()
    try:
        if kind == "PNG":  # checksums, which decoding skips
            Image.open(io.BytesIO(content), formats=[kind]).verify()
        image = Image.open(io.BytesIO(content), formats=[kind])
    except DAMAGE as error:
        return Refused("truncated", f"damaged {kind}: {_first_line(error)}")
    width, height = image.size
    if width * height > limits.max_pixels:
        reason = f"{width}×{height} px is more than download.max_pixels, {limits.max_pixels:,}"
        return Refused("too-large", reason)
    if min(width, height) < limits.min_side_px:
        return Refused("too-small", f"{width}×{height} px; download.min_side_px is {limits.min_side_px}")
    try:
        with _one_large if width * height > LARGE_PIXELS else nullcontext():
            if kind == "JPEG" and min(width, height) <= kept_px:
                if _loads_small(image):
                    size = (height, width) if _orientation(image) in SIDEWAYS else (width, height)
                    return Verified(EXTENSIONS[kind], *size, _phash(_upright(image)), image)
                image = Image.open(io.BytesIO(content), formats=[kind])
            image.load()
    except DAMAGE as error:
        return Refused("truncated", f"damaged {kind}: {_first_line(error)}")
    if image.width * image.height > limits.max_pixels:  # a GIF's first frame may enlarge its canvas
        return Refused("too-large", f"{image.width}×{image.height} px is more than download.max_pixels")
    if kind == "JPEG" and _ends_in_filler(image):
        return Refused("truncated", "the JPEG's picture data ends early; the rest is filler")
    if image.mode in ("F", "I") or image.mode.startswith("I;32"):
        return Refused("refused", f"{kind} with 32-bit samples, whose white is not known")
    if _is_flat(image):
        return Refused("placeholder", "one colour all over")
    upright = _upright(image)
    try:
        phash = _phash(upright)
    except DAMAGE as error:
        return Refused("refused", f"{kind} whose colours cannot be converted: {_first_line(error)}")
    return Verified(EXTENSIONS[kind], upright.width, upright.height, phash, upright)


def read_rgb(content: bytes) -> Image.Image:
    """Verified bytes as upright sRGB on white. Raises AtelierError where they cannot be decoded after all."""
    kind = sniff(content)
    try:
        if kind is None:
            raise OSError(what_instead(content))
        if kind == "HEIF":
            _register_heif()
        image = Image.open(io.BytesIO(content), formats=[kind])
        image.load()
    except DAMAGE as error:
        raise AtelierError(
            f"not a whole picture ({_first_line(error)}): `dvc repro` makes it again"
        ) from None
    return to_rgb(_upright(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode that `verify` lets through as sRGB: colour profile applied, transparency on white, 16 bits to 8."""
    if image.mode.startswith("I;16"):
        profile = image.info.get("icc_profile")
        image = Image.fromarray((np.asarray(image, np.uint16) / 257).round().astype(np.uint8))
        if profile:
            image.info["icc_profile"] = profile
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not transparent:
        return _to_srgb(image)
    alpha = image.convert("RGBA").getchannel("A")
    colour = _to_srgb(image.convert("LA").getchannel("L") if image.mode in ("L", "LA", "La") else image)
    sheet = Image.new("RGB", image.size, WHITE)
    sheet.paste(colour, mask=alpha)
    return sheet


def shrink(image: Image.Image, size_px: int) -> tuple[bytes, tuple[int, int]]:
    """A picture as JPEG with `size_px` as its shorter side, and its size.

    Antialiased, quality 95, colour at full resolution. A longer side is cut to what a JPEG can hold.
    """
    factor = size_px / min(image.size)
    width, height = (min(max(round(side * factor), size_px), JPEG_SIDE) for side in image.size)
    buffer = io.BytesIO()
    small = to_rgb(image).resize((width, height), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), small.size


def is_placeholder_url(url: str) -> bool:
    """Whether the address that finally answered is one of WikiArt's stand-ins."""
    return PurePosixPath(urlsplit(url).path).name.split("!")[0].lower() in PLACEHOLDERS


@cache
def _register_heif() -> None:
    """Let Pillow open HEIC files. Raises ImportError where pillow-heif is not installed."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def _loads_small(image: Image.Image) -> bool:
    """Decode a JPEG whole and paint it small and grey; False where its pixels have to be seen for a verdict."""
    if image.mode not in ("L", "RGB"):
        return False
    image.draft("L", (SMALL_PX, SMALL_PX))
    try:
        image.load()
    except DAMAGE:
        return False
    # of a block that libjpeg made up, and of one colour, nothing but its mean is seen here
    return image.getpixel((image.width - 1, image.height - 1)) != 128 and not _is_flat(image)


def _ends_in_filler(image: Image.Image) -> bool:
    """libjpeg paints what it lacks in exact mid-grey and calls it a day; few paintings end so and begin otherwise."""
    if min(image.size) < 16 or image.mode not in ("L", "RGB"):
        return False
    width, height = image.size
    grey = ((128, 128),) * len(image.getbands())
    last, first = image.crop((width - 8, height - 8, width, height)), image.crop((0, 0, 8, 8))
    return _extrema(last) == grey and _extrema(first) != grey


def _is_flat(image: Image.Image) -> bool:
    if any(low != high for low, high in _extrema(image.resize((8, 8), Image.Resampling.NEAREST))):
        return False
    return all(low == high for low, high in _extrema(image))


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    extrema = image.getextrema()
    return extrema if isinstance(extrema[0], tuple) else (extrema,)  # type: ignore[return-value]


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:  # an EXIF block that cannot be read turns nothing
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        # it copies what it does not turn
        return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
    except DAMAGE:
        return image


def _to_srgb(image: Image.Image) -> Image.Image:
    """Opaque pixels through their embedded profile, where there is one that fits; without one they are sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        return _through(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if isinstance(profile, bytes) and profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if not (image.mode == "RGB" and "sRGB" in (source.profile.profile_description or "")) and (
                space == {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[image.mode]
            ):
                return _through(image, source)
        except (ImageCms.PyCMSError, *DAMAGE):  # a broken profile says nothing
            pass
    return image.convert("RGB")


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # inPlace=False
    return converted


def _phash(image: Image.Image) -> str:
    """imagehash's phash in a tenth of its time: the 64 lowest frequencies, each above their median or not."""
    if image.mode.startswith("I;16") or "transparency" in image.info or image.mode not in ("L", "RGB"):
        image = to_rgb(image)
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    low = _DCT @ np.asarray(small, np.float64) @ _DCT.T
    middle = np.sort(low, axis=None)[31:33]  # np.median says the same in ten times the time
    return np.packbits(low > middle.sum() / 2).tobytes().hex()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
