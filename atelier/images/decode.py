"""Decoders: the bytes of a file of a known kind as a Pillow image of 8-bit samples, with what its colours mean.

Pillow decodes most kinds. libvips decodes what Pillow reads wrong or not at all (TIFFs, 16-bit PNGs), and says of a
progressive JPEG whether its data are complete. Bytes are hostile: sizes are checked before anything is decoded.
"""

import io
import re
import struct
from functools import cache
from typing import Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from atelier.images import jpeg, tiff
from atelier.images.colours import (
    SPACE,
    DeclaredSpace,
    needs_conversion,
    space_from_codes,
    space_from_exif,
    space_from_png,
)
from atelier.images.jpeg import DECODER_ERRORS
from atelier.images.kinds import Truncated, Unreadable
from atelier.images.tiff import CONVERTED
from atelier.pictures.vips import array, libvips, profile_of

PLUGINS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile, "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile, "BMP": BmpImagePlugin.BmpImageFile, "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}  # fmt: skip
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap width and height


class ImageDecoder:
    """A picture whose header has been read, not its pixels. `size` is as stored, before it is turned upright."""

    def __init__(self, kind: str, content: bytes) -> None:
        """Raises Unreadable, and whatever a decoder raises for damaged bytes."""
        self.kind, self.content, self.note = kind, content, ""
        self._layout = tiff.layout_of(content) if kind == "TIFF" else None
        if self._layout is None:
            self._image = _header(kind, content)
            self.size, self._mode = self._image.size, self._image.mode
            self.orientation = _orientation(self._image)
            self._fresh = True
        else:
            tiff.refuse_unclear(self._layout)
            self.size = self._layout.one(tiff.WIDTH, 0), self._layout.one(tiff.HEIGHT, 0)
            self.orientation = self._layout.one(tiff.ORIENTATION, 1)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as the picture is shown."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size

    def check(self) -> None:
        """Compare a PNG's checksums, which decoding skips. Raises SyntaxError where one is wrong."""
        if self.kind == "PNG":
            _header("PNG", self.content).verify()

    def small_grey(self, side_px: int) -> Image.Image | None:
        """A JPEG decoded in full, painted upright, small and grey; None where a verdict needs all of its pixels.

        Raises Truncated.
        """
        if self.kind != "JPEG" or self._mode not in ("L", "RGB"):
            return None
        image = jpeg.decode(self.content, self._unread(), "L", side_px)
        self.note = self._named().note
        return self._upright(image)

    def load(self, at_least_px: int | None = None) -> Image.Image:
        """The picture upright, in 8-bit L, LA, RGB, RGBA, CMYK, LAB or one of Pillow's palette modes.

        `info` has what its colours mean (see `colours.to_srgb`). A JPEG whose shorter side is at least four times
        `at_least_px` comes smaller, with at least twice that, for a fraction of the time. Raises Truncated, Unreadable,
        and whatever a decoder raises for damaged bytes.
        """
        if self._layout is not None and not tiff.is_for_pillow(self._layout):
            image = tiff.decode(self.content, self._layout)
        elif self.kind == "PNG" and self.content[24:25] == b"\x10":
            image = _deep_png(self.content)
        elif self.kind == "JPEG":
            image = jpeg.decode(
                self.content, self._unread(), self._mode, None if at_least_px is None else 2 * at_least_px
            )
        else:
            image = self._image if self._layout is None else _header("TIFF", self.content)
            image.load()
        if self.kind == "PNG":  # whose EXIF may follow the pixels
            self.orientation = _orientation(self._image)
        named = self._named()
        if named.hdr:
            raise Unreadable(f"{self.kind} with HDR samples ({named.hdr}), which have no equal in sRGB")
        if named.space is not None and not image.info.get(CONVERTED):
            image.info[SPACE] = named.space
        self.note = self._notes(image, named)
        return self._upright(image)

    def _unread(self) -> Image.Image:
        """The header of a JPEG none of whose pixels has been read."""
        if not self._fresh:
            return jpeg.header(self.content)
        self._fresh = False
        return self._image

    def _upright(self, image: Image.Image) -> Image.Image:
        if self.orientation not in ORIENTATIONS:
            return image
        info = image.info
        image = image.transpose(ORIENTATIONS[self.orientation])
        image.info = info
        return image

    def _notes(self, image: Image.Image, named: DeclaredSpace) -> str:
        notes = [named.note]
        if image.mode == "CMYK" and not needs_conversion(image.info.get("icc_profile"), "CMYK"):
            notes.append("CMYK without a colour profile: its colours are a guess")
        if image.mode == "LAB":
            notes.append("Lab colours: their white is taken as D50")
        if self._layout is not None and self._layout.pages > 1:
            notes.append(f"the first of {self._layout.pages:,} pages")
        return "; ".join(note for note in notes if note)

    def _named(self) -> DeclaredSpace:
        """What the file says of its colours other than by a profile; of the two, the one that counts."""
        if self._layout is not None:
            odd = {tiff.TRANSFER_FUNCTION, tiff.PRIMARIES} & {*self._layout.tags}
            return DeclaredSpace(
                note="names a colour space by TIFF tags, which are not read: taken as sRGB" if odd else ""
            )
        info = self._image.info
        if self.kind == "PNG":
            named = space_from_png(_png_chunks(self.content))
            if named != DeclaredSpace():
                return named
        if info.get("icc_profile"):
            return DeclaredSpace()
        if self.kind == "HEIF" and (codes := info.get("nclx_profile")):
            return space_from_codes(int(codes["color_primaries"]), int(codes["transfer_characteristics"]))
        if self.kind == "AVIF" and (
            found := re.search(rb"colrnclx(....)", self.content[: 1 << 16], re.DOTALL)
        ):
            return space_from_codes(*struct.unpack(">HH", found[1]))
        if self.kind == "BMP" and self._says_bmp_colours():
            return DeclaredSpace(
                note="names a colour space by its BMP header, which is not read: taken as sRGB"
            )
        if "exif" in info:
            try:
                return space_from_exif(self._image.getexif())
            except DECODER_ERRORS:  # an EXIF block that cannot be read says nothing
                return DeclaredSpace()
        return DeclaredSpace()

    def _says_bmp_colours(self) -> bool:
        length = int.from_bytes(self.content[14:18], "little")
        space = self.content[14 + 56 : 14 + 60]
        return length >= 108 and (
            space in (b"DEBM", b"KNIL") or (space == bytes(4) and any(self.content[74:110]))
        )


def classify_failure(kind: str, content: bytes, error: Exception) -> tuple[bool, str]:
    """Whether what a decoder raised means damage, or a kind that is not read; and a sentence, the same in every run."""
    if isinstance(error, Unreadable | Truncated):
        return isinstance(error, Truncated), str(error)
    if kind == "JPEG" and (odd := jpeg.unsupported(content)):
        return False, odd
    words = (str(error).splitlines() or [""])[0]
    words = re.sub(r"\s*<[^<>]*>|\s*(at )?0x[0-9a-fA-F]+", "", words)[:200].strip() or type(error).__name__
    if re.search(
        r"unsupported|not supported|unknown|not implemented|not available|cannot handle|unhandled",
        words,
        re.I,
    ):
        return False, f"{kind} of a kind that is not read: {words}"
    return True, f"damaged {kind}: {words}"


@cache
def _heif_plugin() -> Any:
    """Pillow's opener of HEIC files. Raises Unreadable where pillow-heif cannot be loaded."""
    try:
        from pillow_heif import HeifImageFile
    except (ImportError, OSError):
        raise Unreadable("HEIC pictures need pillow-heif, which cannot be loaded") from None
    return HeifImageFile


def _header(kind: str, content: bytes) -> ImageFile.ImageFile:
    """Open with the kind's own plugin, which says what is wrong; Pillow's `open` says that it is no picture."""
    if kind == "JPEG":
        return jpeg.header(content)
    plugin: Any = _heif_plugin() if kind == "HEIF" else PLUGINS[kind]
    image: ImageFile.ImageFile = plugin(io.BytesIO(content), "")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    except DECODER_ERRORS:  # an EXIF block that cannot be read turns nothing
        return 1


def _png_chunks(content: bytes) -> dict[bytes, bytes]:
    """A PNG's small chunks before its pixels."""
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
    """A PNG of 16-bit samples, which Pillow cuts to 8 before its colours are converted."""
    vips = libvips()
    try:
        image = vips.Image.pngload_buffer(content, fail_on="warning")
        samples, profile = array(image), profile_of(image)
    except vips.Error:
        raise Truncated("damaged PNG: its pixels cannot be decoded") from None
    channels = samples.shape[2] if samples.ndim == 3 else 1
    named = space_from_png(_png_chunks(content))
    return tiff.eight_bits(
        samples, 1 if channels < 3 else 3, channels in (2, 4), None if named.space else profile, named
    )
