"""Colours become sRGB by what a file says of them: its profile whatever that is called, PNG chunks, codes, EXIF."""

import math
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
from PIL import Image, ImageCms

from atelier.images.verify import ImageLimits, Refused, Verified, read_rgb, verify
from tests.pictures import colour_field, encoded

LIMITS = ImageLimits(min_side_px=32, max_pixels=1_000_000)
FIELD: npt.NDArray[np.uint8] = np.asarray(colour_field())
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)  # white, red, green, blue
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def profile(linear: bool, name: bytes = b"sRGB") -> bytes:
    """Little CMS's sRGB profile, its curves made straight or not, under a name of four letters."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    content = bytearray(bytes(content).replace("sRGB".encode("utf-16-be"), name.decode().encode("utf-16-be")))
    at = content.find(b"para\0\0\0\0")
    while linear and at >= 0:
        content[at + 8 : at + 16] = struct.pack(">HHI", 0, 0, 1 << 16)  # a power, 1
        at = content.find(b"para\0\0\0\0", at + 1)
    return bytes(content)


def brightened(samples: npt.NDArray[np.generic], top: int) -> npt.NDArray[np.float64]:
    """Linear samples as sRGB of 8 bits."""
    linear = samples.astype(float) / top
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(content: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks after its header."""
    return content[:33] + b"".join(chunk(*each) for each in chunks) + content[33:]


def deep_png(samples: npt.NDArray[np.uint16], *chunks: tuple[bytes, bytes]) -> bytes:
    height, width, channels = samples.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return with_chunks(b"\x89PNG\r\n\x1a\n" + header + rest, *chunks)


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def chromaticities(values: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values))


def shown(content: bytes) -> npt.NDArray[np.int16]:
    """The picture as it is read, once it has passed without a note."""
    assert note(content) == ""
    return np.asarray(read_rgb(content)).astype(np.int16)


def note(content: bytes) -> str:
    """The note on a picture, the same whether it would be kept, or made smaller."""
    notes = []
    for size_px in (0, math.inf, 40):
        verdict = verify(content, LIMITS, size_px)
        assert isinstance(verdict, Verified), verdict
        notes.append(verdict.note)
    assert len({*notes}) == 1
    return notes[0]


def display_p3() -> npt.NDArray[np.int16]:
    """The field's samples as Display P3, converted by libvips."""
    image = pyvips.Image.new_from_array(FIELD, interpretation="srgb")
    return image.icc_transform("srgb", input_profile="p3", intent="relative").numpy().astype(np.int16)


def assert_display_p3(picture: npt.NDArray[np.int16]) -> None:
    apart = np.abs(picture - display_p3())
    assert apart.mean() < 0.5 and apart.max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_a_profile_is_applied_whatever_it_is_called_and_srgb_is_left_alone(kind: str) -> None:
    options = {} if kind in ("PNG", "TIFF") else {"quality": 95}
    plain = np.asarray(read_rgb(encoded(colour_field(), kind, **options))).astype(np.int16)
    linear = shown(encoded(colour_field(), kind, icc_profile=profile(linear=True), **options))
    assert np.abs(linear - brightened(plain, 255)).max() <= 1.5
    renamed = encoded(colour_field(), kind, icc_profile=profile(linear=False, name=b"Test"), **options)
    assert np.array_equal(shown(renamed), plain)


def test_sixteen_linear_bits_keep_their_darks() -> None:
    ramp = np.repeat(np.linspace(0, 3000, 96).astype(np.uint16)[None], 64, axis=0)
    colours = np.repeat(ramp[..., None], 3, axis=2)
    packed = zlib.compress(profile(linear=True))
    for content in (
        deep_png(colours, (b"iCCP", b"sRGB\0\0" + packed)),
        deep_png(colours, gamma(1.0)),
        deep_png(ramp[..., None], gamma(1.0)),
    ):
        assert np.abs(shown(content)[..., 1] - brightened(ramp, 65535)).max() <= 1


def test_a_png_without_a_profile_is_read_by_its_gamma_and_its_primaries() -> None:
    plain = encoded(colour_field(), "PNG")
    assert np.abs(shown(with_chunks(plain, gamma(1.0))) - brightened(FIELD, 255)).max() <= 1
    grey = colour_field().convert("L")
    content = with_chunks(encoded(grey, "PNG"), gamma(1.0))
    assert np.abs(shown(content)[..., 0] - brightened(np.asarray(grey), 255)).max() <= 1
    assert np.array_equal(shown(with_chunks(plain, gamma(0.45455), chromaticities(SRGB))), FIELD)
    assert np.array_equal(shown(with_chunks(plain, (b"sRGB", b"\0"), gamma(1.0))), FIELD)
    by_primaries = shown(with_chunks(plain, chromaticities(P3)))
    assert_display_p3(by_primaries)
    palette = with_chunks(encoded(colour_field().quantize(256), "PNG"), gamma(1.0))
    assert np.abs(shown(palette) - brightened(np.asarray(colour_field().quantize(256).convert("RGB")), 255)).max() <= 1


def test_codes_for_display_p3_are_read_in_png_avif_and_heic() -> None:
    content = with_chunks(encoded(colour_field(), "PNG"), (b"cICP", bytes([12, 13, 0, 1])))
    assert_display_p3(shown(content))
    over_profile = encoded(colour_field(), "PNG", icc_profile=profile(linear=True))
    content = with_chunks(over_profile, (b"cICP", bytes([12, 13, 0, 1])))
    assert_display_p3(shown(content))
    for kind in ("AVIF", "HEIF"):
        assert np.abs(shown(coded(kind, 12, 13)) - display_p3()).mean() < 4
        assert np.abs(shown(coded(kind, 1, 13)) - FIELD).mean() < 4


def coded(kind: str, primaries: int, transfer: int) -> bytes:
    """The field with these codes in place of sRGB's."""
    if kind == "PNG":
        return with_chunks(encoded(colour_field(), "PNG"), (b"cICP", bytes([primaries, transfer, 0, 1])))
    head, _, tail = encoded(colour_field(), kind, quality=95).partition(b"colrnclx")
    return head + b"colrnclx" + struct.pack(">HH", primaries, transfer) + tail[4:]


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "HEIF"])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_samples_are_refused_by_name(kind: str, transfer: int, name: str) -> None:
    verdict = verify(coded(kind, 9, transfer), LIMITS)
    assert isinstance(verdict, Refused)
    assert verdict.status == "refused" and name in verdict.reason


def test_codes_that_are_not_read_are_noted() -> None:
    assert "codes 200 and 13" in note(coded("PNG", 200, 13))
    nonsense = with_chunks(encoded(colour_field(), "PNG"), chromaticities((0.3, 0.3) * 4))
    assert "span no space" in note(nonsense)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_adobe_rgb_is_known_by_its_exif_and_another_space_is_noted(kind: str) -> None:
    def with_exif(space: int, index: str = "") -> bytes:
        exif = Image.Exif()
        exif[0x0112] = 1
        inner = exif.get_ifd(0x8769)
        inner[0xA001] = space
        if index:
            inner[0xA005] = {1: index}
        return encoded(colour_field(), kind, exif=exif, **({} if kind == "PNG" else {"quality": 95}))

    plain = shown(with_exif(1))
    adobe = shown(with_exif(0xFFFF, "R03"))
    assert np.array_equal(adobe, shown(with_exif(2)))
    strong = np.ptp(plain, axis=2) > 100
    assert np.abs(adobe - plain)[strong].mean() > 4  # stronger still
    assert "EXIF names a colour space other than sRGB" in note(with_exif(0xFFFF))


def test_cmyk_without_a_profile_is_noted() -> None:
    for kind in ("JPEG", "TIFF"):
        assert "CMYK without a colour profile" in note(encoded(colour_field().convert("CMYK"), kind))
