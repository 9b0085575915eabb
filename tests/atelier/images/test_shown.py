"""Every kind of true picture becomes the same plain sRGB, as large as asked, and is known again by its hash."""

import io
import struct
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageCms

from atelier.images.verify import ImageLimits, Verified, encode_jpeg, read_rgb, resize_shorter_side, verify
from tests.pictures import colour_field, encoded

LIMITS = ImageLimits(min_side_px=32, max_pixels=1_000_000)


def apart(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of two pictures of one size, in levels of 255."""
    assert (first.mode, first.size) == (second.mode, second.size)
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_true_picture_passes_whatever_its_name_and_type_say(kind: str) -> None:
    verdict = verify(encoded(colour_field(), kind), LIMITS)
    assert isinstance(verdict, Verified)
    assert (verdict.width, verdict.height) == (96, 64)
    assert verdict.extension == {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    assert len(verdict.phash) == 16
    assert apart(read_rgb(encoded(colour_field(), kind)), colour_field()) < 8


def test_adobes_inverted_cmyk_keeps_its_colours() -> None:
    content = encoded(colour_field().convert("CMYK"), "JPEG", quality=98)
    assert b"Adobe" in content
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert apart(read_rgb(content), colour_field()) < 4


def test_cmyk_tiff_keeps_its_colours() -> None:
    assert apart(read_rgb(encoded(colour_field().convert("CMYK"), "TIFF")), colour_field()) < 4


def test_grey_becomes_equal_channels() -> None:
    image = read_rgb(encoded(colour_field().convert("L"), "JPEG", quality=98))
    assert apart(image, colour_field().convert("L").convert("RGB")) < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    levels = np.asarray(colour_field().convert("L"), np.uint16)
    content = encoded(Image.fromarray(levels * 257), kind)
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified)
    assert apart(read_rgb(content), colour_field().convert("L").convert("RGB")) == 0


def test_a_palette_is_looked_up() -> None:
    content = encoded(colour_field().quantize(256), "PNG")
    assert Image.open(io.BytesIO(content)).mode == "P"
    assert apart(read_rgb(content), colour_field()) < 8


def test_a_transparent_palette_colour_becomes_white() -> None:
    flat = Image.new("P", (64, 64), 0)
    flat.putpalette([10, 20, 30, 200, 100, 50])
    flat.paste(1, (32, 0, 64, 64))
    for kind in ("PNG", "GIF"):
        image = read_rgb(encoded(flat, kind, transparency=0))
        assert image.getpixel((5, 5)) == (255, 255, 255)
        assert image.getpixel((50, 5)) == (200, 100, 50)


def test_transparency_shows_white() -> None:
    colour, grey = colour_field(), colour_field().convert("L")
    half = Image.linear_gradient("L").resize(colour.size)
    for image in (colour, grey):
        layered = image.copy()
        layered.putalpha(half)
        expected = Image.composite(image.convert("RGB"), Image.new("RGB", image.size, "white"), half)
        assert apart(read_rgb(encoded(layered, "PNG")), expected) < 0.6
    layered = colour.copy()
    layered.putalpha(0)
    assert read_rgb(encoded(layered, "PNG")).getextrema() == ((255, 255),) * 3


def test_a_transparent_colour_of_a_grey_png_becomes_white() -> None:
    image = read_rgb(encoded(Image.linear_gradient("L"), "PNG", transparency=0))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((0, 255)) == (255, 255, 255)
    assert image.getpixel((0, 100)) == (100, 100, 100)


def test_black_and_white_becomes_black_and_white() -> None:
    image = read_rgb(encoded(colour_field().convert("1"), "PNG"))
    assert {colour for _, colour in image.getcolors() or []} == {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = colour_field()
    lying = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(lying, "JPEG", quality=98, exif=exif)
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified)
    assert (verdict.width, verdict.height) == upright.size
    assert apart(read_rgb(content), upright) < 3


def test_an_unreadable_exif_block_is_ignored() -> None:
    content = encoded(colour_field(), "JPEG", quality=98, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert isinstance(verify(content, LIMITS), Verified)
    assert apart(read_rgb(content), colour_field()) < 3


def swapped_profile() -> bytes:
    """An RGB profile that calls red what sRGB calls green, and the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    at = profile.find("sRGB".encode("utf-16-be"))
    while at >= 0:  # its name must not say sRGB, for that is believed
        profile[at : at + 8] = "Test".encode("utf-16-be")
        at = profile.find("sRGB".encode("utf-16-be"))
    return bytes(profile)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_embedded_profile_decides_the_colours(kind: str) -> None:
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    content = encoded(colour_field(), kind, icc_profile=swapped_profile(), **options)
    red, green, blue = colour_field().split()
    assert apart(read_rgb(content), Image.merge("RGB", (green, red, blue))) < 8
    assert apart(read_rgb(content), colour_field()) > 15


def test_a_profile_and_transparency_go_together() -> None:
    layered = colour_field()
    layered.putalpha(255)
    red, green, blue = colour_field().split()
    image = read_rgb(encoded(layered, "PNG", icc_profile=swapped_profile()))
    assert apart(image, Image.merge("RGB", (green, red, blue))) < 4


@pytest.mark.parametrize("profile", [b"no profile at all", swapped_profile()[:200], bytes(128)])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    content = encoded(colour_field(), "PNG", icc_profile=profile)
    assert isinstance(verify(content, LIMITS), Verified)
    assert apart(read_rgb(content), colour_field()) == 0


def test_an_rgb_profile_in_a_grey_or_cmyk_file_is_ignored() -> None:
    grey = colour_field().convert("L")
    assert apart(read_rgb(encoded(grey, "PNG", icc_profile=swapped_profile())), grey.convert("RGB")) == 0
    content = encoded(colour_field().convert("CMYK"), "TIFF", icc_profile=swapped_profile())
    assert apart(read_rgb(content), colour_field()) < 4


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [colour_field(seed=seed) for seed in range(3)]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert isinstance(verify(content, LIMITS), Verified)
        assert apart(read_rgb(content), frames[0]) < 8


# what is made smaller


def test_a_larger_picture_is_shrunk_to_its_shorter_side_without_aliasing() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (400, 300)))  # 600×400, the finest there are
    image = resize_shorter_side(stripes, stripes.size, 100)
    assert image.size == (150, 100)
    assert apart(read_rgb(encode_jpeg(image)), image) < 2
    assert abs(np.asarray(image, np.float32) - 127.5).max() < 12  # even grey: no moiré
    assert apart(resize_shorter_side(colour_field((960, 640)), (960, 640), 64), colour_field()) < 3


def test_a_scroll_longer_than_a_jpeg_may_be_is_cut_to_what_it_may() -> None:
    scroll = Image.linear_gradient("L").resize((66_000, 32))
    assert resize_shorter_side(scroll, scroll.size, 32).size == (65_500, 32)


def test_the_hash_of_a_smaller_copy_is_near_and_of_another_picture_far() -> None:
    def phash(image: Image.Image) -> int:
        verdict = verify(encoded(image, "JPEG", quality=90), LIMITS)
        assert isinstance(verdict, Verified)
        return int(verdict.phash, 16)

    large = colour_field((960, 640))
    assert (phash(large) ^ phash(large.resize((240, 160)))).bit_count() <= 4
    assert (phash(large) ^ phash(colour_field((960, 640), seed=1))).bit_count() > 12


def test_the_hash_is_imagehashs_own() -> None:
    for seed in range(40):
        image = colour_field((32, 32), seed)  # a size at which both see the same pixels
        verdict = verify(encoded(image, "PNG"), LIMITS)
        assert isinstance(verdict, Verified)
        assert verdict.phash == str(imagehash.phash(image))


def test_real_paintings_pass(paintings: Path) -> None:
    for path in sorted((paintings / "images").glob("*.jpg"))[::60]:
        verdict = verify(path.read_bytes(), ImageLimits(64, 120_000_000))
        assert isinstance(verdict, Verified), (path.name, verdict)
