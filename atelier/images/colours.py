"""Convert pictures to 8-bit sRGB, from ICC profiles and from colour spaces that a file declares without a profile.

The spaces that PNG, EXIF, AVIF and HEIC declare are computed here: Little CMS converts between profiles only.
"""

import hashlib
import io
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from atelier.pictures import Pixels, Samples

Transfer = float | str  # the power that makes samples linear, or "srgb" for the curve of sRGB

SPACE = "rgb_space"  # key of an image's `info`: the RgbSpace of its samples
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # ICC's names of colour spaces, by Pillow's mode
SRGB_TOLERANCE = 2  # of 255: a profile that moves no probed colour by more is sRGB
MAX_CACHED_PROFILES = 1024
ROWS = 256  # converted at once, to limit memory

D65, DCI_WHITE = (0.3127, 0.329), (0.314, 0.351)
BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SMPTE_C, P3 = (0.63, 0.34, 0.31, 0.595, 0.155, 0.07), (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
PRIMARIES = {  # ITU-T H.273, table 2; chromaticities x, y of red, green, blue, white
    1: (*BT709, *D65),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),
    **dict.fromkeys((6, 7), (*SMPTE_C, *D65)),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, *D65),
    11: (*P3, *DCI_WHITE),
    12: (*P3, *D65),
}
# H.273, table 3. Video's curve (1, 6, 14, 15) is shown as sRGB's by every viewer of still pictures
TRANSFERS: dict[int, Transfer] = {4: 2.2, 5: 2.8, 8: 1.0, **dict.fromkeys((1, 6, 13, 14, 15), "srgb")}
HDR = {16: "PQ", 18: "HLG"}
UNSPECIFIED = 2  # code of an unspecified value
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True, slots=True)
class RgbSpace:
    """An RGB colour space: x and y of red, green, blue and white, and the transfer curve of its samples."""

    primaries: tuple[float, ...]
    transfer: Transfer

    @property
    def is_srgb(self) -> bool:
        """Whether the space equals sRGB within the rounding of files."""
        curve = self.transfer == "srgb" or (not isinstance(self.transfer, str) and abs(self.transfer - 2.2) < 0.03)
        return curve and max(abs(a - b) for a, b in zip(self.primaries, SRGB.primaries, strict=True)) < 0.004

    def to_srgb(self, samples: Samples) -> Pixels:
        """Convert 8- or 16-bit samples, RGB (H, W, 3) or grey, to 8-bit sRGB; colours outside of sRGB are clipped."""
        values = np.arange(np.iinfo(samples.dtype).max + 1) / np.iinfo(samples.dtype).max  # every possible sample
        if isinstance(self.transfer, str):
            linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        else:
            linear = values**self.transfer
        linear = linear.astype(np.float32)
        matrix = (np.linalg.inv(_to_xyz(SRGB.primaries)) @ _to_xyz(self.primaries)).T.astype(np.float32)
        encoded = _srgb_table()
        out = np.empty(samples.shape, np.uint8)
        for top in range(0, len(samples), ROWS):
            band = linear[samples[top : top + ROWS]]
            if samples.shape[2:] == (3,):
                band = band @ matrix
            out[top : top + ROWS] = encoded[(band.clip(0, 1) * (len(encoded) - 1) + 0.5).astype(np.int32)]
        return out


SRGB = RgbSpace((*BT709, *D65), "srgb")
ADOBE_RGB = RgbSpace((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65), 563 / 256)  # Adobe RGB (1998), 4.3.1


@dataclass(frozen=True, slots=True)
class DeclaredSpace:
    """The colour space that a file declares without a profile, None for sRGB, and what of it is not supported."""

    space: RgbSpace | None = None
    note: str = ""
    hdr: str = ""  # the transfer curve of HDR samples, which sRGB cannot represent


def space_from_codes(primaries: int, transfer: int) -> DeclaredSpace:
    """The colour space of H.273 codes, as PNG's cICP, AVIF and HEIC carry them."""
    if transfer in HDR:
        return DeclaredSpace(hdr=HDR[transfer])
    if primaries not in (*PRIMARIES, UNSPECIFIED) or transfer not in (*TRANSFERS, UNSPECIFIED):
        codes = f"the codes {primaries} and {transfer}"
        return DeclaredSpace(note=f"names its colour space by {codes}, which are not read: taken as sRGB")
    return _declared(PRIMARIES.get(primaries, SRGB.primaries), TRANSFERS.get(transfer, "srgb"))


def space_from_png(chunks: Mapping[bytes, bytes]) -> DeclaredSpace:
    """The colour space of a PNG by the first of its chunks cICP, sRGB, gAMA and cHRM.

    A profile (iCCP) has precedence over all but cICP (PNG, third edition, 4.3); the caller applies it.
    """
    codes = chunks.get(b"cICP", b"")
    if len(codes) == 4:
        return space_from_codes(codes[0], codes[1])
    if b"sRGB" in chunks or b"iCCP" in chunks:
        return DeclaredSpace()
    gamma, chroma = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    transfer: Transfer = "srgb"
    if len(gamma) == 4 and (value := int.from_bytes(gamma)) and not 0.1 <= (transfer := 100_000 / value) <= 10:
        return DeclaredSpace(note="has a gamma that no picture has: taken as sRGB")
    primaries = SRGB.primaries
    if len(chroma) == 32:
        white_x, white_y, *colours = (value / 100_000 for value in struct.unpack(">8I", chroma))
        primaries = (*colours, white_x, white_y)
    return _declared(primaries, transfer)


def space_from_exif(exif: Image.Exif) -> DeclaredSpace:
    """The colour space of an EXIF block: sRGB, Adobe RGB (as DCF 2.0 or some cameras declare it), or another."""
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    space = inner.get(ExifTags.Base.ColorSpace)
    if space in (None, 1):
        return DeclaredSpace()
    interoperability = ""
    with suppress(KeyError):
        interoperability = str(exif.get_ifd(ExifTags.IFD.Interop).get(1, ""))
    if space == 2 or interoperability.strip("\0 ") == "R03":
        return DeclaredSpace(ADOBE_RGB)
    return DeclaredSpace(note="EXIF names a colour space other than sRGB and no profile: taken as sRGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an opaque image to sRGB by the profile or space in `image.info`, if that fits; without one it is sRGB."""
    profile = image.info.get("icc_profile")
    space = image.info.get(SPACE)
    if image.mode == "LAB":
        return _convert_by_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.mode not in SPACES:
        image = image.convert("RGB")
    if isinstance(space, RgbSpace):
        samples = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        return Image.fromarray(space.to_srgb(samples)).convert("RGB")
    if profile and needs_conversion(profile, image.mode):
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # a broken profile is ignored
            return _convert_by_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return image.convert("RGB")


def needs_conversion(profile: Any, mode: str) -> bool:
    """Whether an embedded profile is valid, fits pixels of Pillow's `mode`, and differs from sRGB in its effect."""
    if not isinstance(profile, bytes) or not profile:
        return False
    key = hashlib.sha256(profile).digest(), mode
    needed = _cache.get(key)
    if needed is None:
        needed = _moves_colours(profile, mode)
        if len(_cache) >= MAX_CACHED_PROFILES:
            _cache.clear()
        _cache[key] = needed
    return needed


_cache: dict[tuple[bytes, str], bool] = {}  # by SHA-256 of the profile, and mode


def _moves_colours(profile: bytes, mode: str) -> bool:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return False
        if mode == "CMYK":
            return True
        probe = _probe(mode)
        moved = np.asarray(_convert_by_profile(probe, source)).astype(int)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return bool(np.abs(moved - np.asarray(probe.convert("RGB"))).max() > SRGB_TOLERANCE)


@cache
def _probe(mode: str) -> Image.Image:
    """One row of pixels with all greys, and for RGB with 9³ colours."""
    greys = np.arange(256, dtype=np.uint8)[None]
    if mode == "L":
        return Image.fromarray(greys)
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.concatenate([cube, np.repeat(greys[..., None], 3, axis=2)], axis=1))


def _convert_by_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # inPlace=False
    return converted


def _declared(primaries: tuple[float, ...], transfer: Transfer) -> DeclaredSpace:
    space = RgbSpace(primaries, transfer)
    try:
        if space.is_srgb:
            return DeclaredSpace()
        if np.isfinite(_to_xyz(primaries)).all():
            return DeclaredSpace(space)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        pass
    return DeclaredSpace(note="has primary colours that span no space: taken as sRGB")


def _to_xyz(primaries: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The matrix from linear RGB to XYZ, adapted to D65 by Bradford's method."""
    columns = np.array([_xyz(*primaries[at : at + 2]) for at in (0, 2, 4)]).T
    white, wanted = _xyz(*primaries[6:8]), _xyz(*D65)
    matrix = columns * np.linalg.solve(columns, white)
    cones = BRADFORD @ wanted / (BRADFORD @ white)
    adapted: npt.NDArray[np.float64] = np.linalg.inv(BRADFORD) @ (cones[:, None] * BRADFORD) @ matrix
    return adapted


def _xyz(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


@cache
def _srgb_table() -> Pixels:
    """The 8-bit sRGB values of 65,536 linear values from 0 to 1."""
    linear = np.linspace(0, 1, 1 << 16)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curve * 255).round().astype(np.uint8)
