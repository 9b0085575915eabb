"""Decode the bytes of a file of a known kind to a Pillow image of 8-bit samples, with the meaning of its colours.

Pillow decodes most kinds. libvips decodes TIFFs and 16-bit PNGs, which Pillow reads wrong or not at all, and tells
whether the data of a progressive JPEG are complete. Files are hostile: sizes are checked before anything is decoded.
"""

import io
import re
import struct
from contextlib import suppress
from typing import Any, cast

from PIL import ExifTags, Image, ImageFile

from atelier.images import Truncated, Unreadable, colours, jpeg, tiff
from atelier.images.colours import DeclaredSpace, needs_conversion
from atelier.images.jpeg import DECODER_ERRORS
from atelier.pictures import array, libvips, profile_of

ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
UNSUPPORTED = re.compile(
    "unsupported|not supported|unknown|not implemented|not available|cannot handle|unhandled", re.IGNORECASE
)  # in the text of a decoder's exception
SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap width and height


class ImageDecoder:
    """Decodes one picture, whose header is read at once. `size` is as stored, before the picture is turned upright."""

    def __init__(self, kind: str, content: bytes) -> None:
        """Read the header. Raises Unreadable, and any exception of a decoder for damaged bytes."""
        self.kind, self.content, self.note = kind, content, ""
        self._layout = tiff.layout_of(content) if kind == "TIFF" else None
        if self._layout is None:
            self._image = _header(kind, content)
            self.size, self._mode = self._image.size, self._image.mode
            self.orientation = _orientation(self._image)
        else:
            tiff.check_supported(self._layout)
            self.size = self._layout.one(tiff.WIDTH, 0), self._layout.one(tiff.HEIGHT, 0)
            self.orientation = self._layout.one(tiff.ORIENTATION, 1)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size

    def check(self) -> None:
        """Verify a PNG's checksums, which decoding skips. Raises SyntaxError if one is wrong."""
        if self.kind == "PNG":
            _header("PNG", self.content).verify()

    def small_grey(self, side_px: int) -> Image.Image | None:
        """Decode a JPEG in full, to an upright grey copy with a shorter side of at least `side_px`. Raises Truncated.

        Returns None for all other pictures.
        """
        if self.kind != "JPEG" or self._mode not in ("L", "RGB"):
            return None
        image = jpeg.decode(self.content, "L", side_px)
        self.note = self._declared_space().note
        return self._upright(image)

    def load(self, at_least_px: int | None = None) -> Image.Image:
        """Decode the upright picture, in 8-bit L, LA, RGB, RGBA, CMYK, LAB or one of Pillow's palette modes.

        `info` has the meaning of its colours (see `colours.to_srgb`). A JPEG whose shorter side is at least four times
        `at_least_px` is decoded smaller, to at least twice that, in a fraction of the time. Raises Truncated,
        Unreadable, and any exception of a decoder for damaged bytes.
        """
        if self._layout is not None and not tiff.is_for_pillow(self._layout):
            image = tiff.decode(self.content, self._layout)
        elif self.kind == "PNG" and self.content[24:25] == b"\x10":
            image = _deep_png(self.content)
        elif self.kind == "JPEG":
            image = jpeg.decode(self.content, self._mode, None if at_least_px is None else 2 * at_least_px)
        else:
            image = self._image if self._layout is None else _header("TIFF", self.content)
            image.load()
        if self.kind == "PNG":  # whose EXIF may follow the pixels
            self.orientation = _orientation(self._image)
        declared = self._declared_space()
        if declared.hdr:
            raise Unreadable(f"{self.kind} with HDR samples ({declared.hdr}), which have no equal in sRGB")
        if declared.space is not None and not image.info.get(tiff.CONVERTED):
            image.info[colours.SPACE] = declared.space
        self.note = self._notes(image, declared)
        return self._upright(image)

    def _upright(self, image: Image.Image) -> Image.Image:
        if self.orientation not in ORIENTATIONS:
            return image
        upright = image.transpose(ORIENTATIONS[self.orientation])
        upright.info = image.info
        return upright

    def _notes(self, image: Image.Image, declared: DeclaredSpace) -> str:
        notes = [declared.note]
        if image.mode == "CMYK" and not needs_conversion(image.info.get("icc_profile"), "CMYK"):
            notes.append("CMYK without a colour profile: its colours are a guess")
        if image.mode == "LAB":
            notes.append("Lab colours: their white is taken as D50")
        if self._layout is not None and self._layout.pages > 1:
            notes.append(f"the first of {self._layout.pages:,} pages")
        return "; ".join(note for note in notes if note)

    def _declared_space(self) -> DeclaredSpace:
        """The colour space that the file declares by other means than a profile, if that has precedence."""
        if self._layout is not None:
            odd = {tiff.TRANSFER_FUNCTION, tiff.PRIMARIES} & {*self._layout.tags}
            note = "names a colour space by TIFF tags, which are not read: taken as sRGB"
            return DeclaredSpace(note=note if odd else "")
        info = self._image.info
        if self.kind == "PNG":
            declared = colours.space_from_png(_png_chunks(self.content))
            if declared != DeclaredSpace():
                return declared
        if info.get("icc_profile"):
            return DeclaredSpace()
        if self.kind == "HEIF" and (codes := info.get("nclx_profile")):
            return colours.space_from_codes(int(codes["color_primaries"]), int(codes["transfer_characteristics"]))
        if self.kind == "AVIF" and (found := re.search(rb"colrnclx(....)", self.content[: 1 << 16], re.DOTALL)):
            return colours.space_from_codes(*struct.unpack(">HH", found[1]))
        if self.kind == "BMP" and _bmp_declares_colours(self.content):
            return DeclaredSpace(note="names a colour space by its BMP header, which is not read: taken as sRGB")
        if "exif" in info:
            with suppress(*DECODER_ERRORS):  # an unreadable EXIF block is ignored
                return colours.space_from_exif(self._image.getexif())
        return DeclaredSpace()


def classify_failure(kind: str, content: bytes, error: Exception) -> tuple[bool, str]:
    """Whether a decoder's exception means damage (else an unsupported kind), and a sentence, equal in every run."""
    if isinstance(error, Unreadable | Truncated):
        return isinstance(error, Truncated), str(error)
    if kind == "JPEG" and (odd := jpeg.unsupported(content)):
        return False, odd
    words = (str(error).splitlines() or [""])[0]
    words = re.sub(r"\s*<[^<>]*>|\s*(at )?0x[0-9a-fA-F]+", "", words)[:200].strip() or type(error).__name__
    if UNSUPPORTED.search(words):
        return False, f"{kind} of a kind that is not read: {words}"
    return True, f"damaged {kind}: {words}"


def _bmp_declares_colours(content: bytes) -> bool:
    length, space = int.from_bytes(content[14:18], "little"), content[70:74]
    return length >= 108 and (space in (b"DEBM", b"KNIL") or (space == bytes(4) and any(content[74:110])))


def _header(kind: str, content: bytes) -> ImageFile.ImageFile:
    """Open a picture with its kind's plugin, whose errors are precise; `Image.open` only says that it cannot."""
    if kind == "JPEG":
        return jpeg.header(content)
    if kind == "HEIF":
        try:
            import pillow_heif
        except (ImportError, OSError):
            raise Unreadable("HEIC pictures need pillow-heif, which cannot be loaded") from None
        plugin: Any = pillow_heif.HeifImageFile
        return cast(ImageFile.ImageFile, plugin(io.BytesIO(content), ""))
    Image.init()
    return Image.OPEN[kind][0](io.BytesIO(content), "")


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    except DECODER_ERRORS:  # an unreadable EXIF block is ignored
        return 1


def _png_chunks(content: bytes) -> dict[bytes, bytes]:
    """The small chunks of a PNG before its pixels."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in (b"IDAT", b"IEND"):
            break
        chunks.setdefault(kind, content[at + 8 : at + 8 + length] if length <= 64 else b"")
        at += length + 12
    return chunks


def _deep_png(content: bytes) -> Image.Image:
    """Decode a PNG of 16-bit samples, which Pillow would cut to 8 bits before its colours are converted."""
    vips = libvips()
    try:
        image = vips.Image.pngload_buffer(content, fail_on="warning")
        samples, profile = array(image), profile_of(image)
    except vips.Error:
        raise Truncated("damaged PNG: its pixels cannot be decoded") from None
    channels = samples.shape[2] if samples.ndim == 3 else 1
    declared = colours.space_from_png(_png_chunks(content))
    return tiff.eight_bits(
        samples, 1 if channels < 3 else 3, channels in (2, 4), None if declared.space else profile, declared
    )
