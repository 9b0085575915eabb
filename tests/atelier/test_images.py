"""Hostile bytes are refused with a reason; every kind of true picture becomes the same plain sRGB."""

import io
import struct
import zlib
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageCms

from atelier.errors import AtelierError
from atelier.images import (
    ImageLimits,
    Refused,
    Verified,
    is_placeholder_url,
    read_rgb,
    shrink,
    verify,
)
from tests.pictures import encoded

LIMITS = ImageLimits(min_side_px=32, max_pixels=1_000_000)


def picture(size: tuple[int, int] = (96, 64), seed: int = 0) -> Image.Image:
    """A smooth colour field with an orientation: no two corners alike."""
    coarse = np.random.default_rng(seed).integers(20, 236, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def apart(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of two pictures of one size, in levels of 255."""
    assert (first.mode, first.size) == (second.mode, second.size)
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).mean())


def refused(content: bytes, limits: ImageLimits = LIMITS) -> Refused:
    verdict = verify(content, limits)
    assert isinstance(verdict, Refused), verdict
    assert verdict.reason
    return verdict


# what is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Just a moment...</body></html>", "HTML"),
        (b"\xef\xbb\xbf\n <HTML><head>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "markup"),
        (b"%PDF-1.4\n" + b"0 " * 2000, "neither"),
        (b"BM", "neither"),
        (b'{"error": "quota"}', "neither"),
        (bytes(5000), "neither"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_bytes(content: bytes, words: str) -> None:
    verdict = refused(content)
    assert verdict.status == "not-an-image"
    assert words in verdict.reason


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "PCX", "AVIF", "JPEG2000"])
def test_formats_that_no_archive_of_paintings_serves_never_reach_a_decoder(kind: str) -> None:
    assert refused(encoded(picture(), kind)).status == "not-an-image"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 100}])
@pytest.mark.parametrize("lost", [1, 2, 10, 400, 0.5, 0.95])
def test_a_jpeg_cut_anywhere_is_truncated(options: dict[str, object], lost: float) -> None:
    whole = encoded(picture((320, 200)), "JPEG", **options)
    cut = lost if isinstance(lost, int) else int(len(whole) * lost)
    assert refused(whole[:-cut]).status == "truncated"


def test_a_jpeg_whose_missing_half_was_sealed_with_an_end_marker_is_truncated() -> None:
    noisy = Image.effect_noise((320, 200), 60).convert("RGB")
    for image in (noisy, noisy.convert("L")):
        whole = encoded(image, "JPEG", quality=90)
        assert isinstance(verify(whole, LIMITS), Verified)
        assert refused(whole[: len(whole) // 2] + b"\xff\xd9").status == "truncated"


def test_a_grey_mount_around_a_painting_is_not_taken_for_filler() -> None:
    mount = Image.new("RGB", (160, 160), (128, 128, 128))
    mount.paste(picture(), (32, 48))
    assert isinstance(verify(encoded(mount, "JPEG"), LIMITS), Verified)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_format_cut_in_half_is_refused(kind: str) -> None:
    whole = encoded(Image.effect_noise((200, 150), 60).convert("RGB"), kind)
    assert isinstance(verify(whole, LIMITS), Verified)
    assert refused(whole[: len(whole) // 2]).status == "truncated"


def test_a_png_with_one_flipped_bit_is_refused() -> None:
    whole = bytearray(encoded(picture(), "PNG"))
    whole[len(whole) // 2] ^= 1
    assert refused(bytes(whole)).status == "truncated"


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 60_000
    verdict = refused(bomb, ImageLimits(32, 120_000_000))
    assert verdict.status == "too-large"
    assert "20000×20000" in verdict.reason


def test_a_header_that_claims_more_pixels_than_it_has_bytes_for_costs_no_memory() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    lie = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert refused(lie).status in ("too-large", "truncated")


def test_a_picture_above_pillows_own_bomb_limit_passes_when_ours_allows_it() -> None:
    wide = Image.new("1", (20_000, 10_000))
    wide.paste(1, (0, 0, 10_000, 5_000))
    verdict = verify(encoded(wide, "PNG"), ImageLimits(32, 200_000_000))
    assert isinstance(verdict, Verified)


def test_a_small_picture_is_refused_with_its_size() -> None:
    verdict = refused(encoded(picture((200, 31)), "PNG"))
    assert verdict.status == "too-small"
    assert "200×31" in verdict.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_one_colour_all_over_is_a_placeholder(kind: str) -> None:
    assert refused(encoded(Image.new("RGB", (600, 480), (200, 200, 200)), kind)).status == "placeholder"


def test_a_painting_with_one_stroke_on_one_colour_is_no_placeholder() -> None:
    canvas = Image.new("RGB", (600, 480), (20, 40, 200))
    canvas.paste((250, 250, 250), (301, 201, 304, 204))
    assert isinstance(verify(encoded(canvas, "PNG"), LIMITS), Verified)


@pytest.mark.parametrize(
    "url",
    [
        "https://uploads.wikiart.org/Content/images/FRAME-600x480.jpg",
        "https://uploads.wikiart.org/Content/images/ARTIST-480x600.jpg",
        "https://uploads.wikiart.org/Content/wiki/img/favicon-256x256.png",
        "http://127.0.0.1:8000/Content/images/FRAME-600x480.jpg!Large.jpg?x=1",
    ],
)
def test_wikiarts_stand_ins_are_known_by_their_address(url: str) -> None:
    assert is_placeholder_url(url)
    assert not is_placeholder_url("https://uploads0.wikiart.org/images/x/my-frame-600x480.jpg")


def test_float_samples_are_refused_for_their_white_is_not_known() -> None:
    samples = Image.fromarray(np.linspace(0, 9000, 64 * 96, dtype=np.float32).reshape(64, 96))
    assert refused(encoded(samples, "TIFF")).status == "refused"


def test_random_damage_never_escapes_as_an_exception() -> None:
    rng = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = encoded(picture((64, 48)), kind)
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                damaged[place] = rng.integers(0, 256)
            verdict = verify(bytes(damaged), LIMITS)
            if isinstance(verdict, Verified):
                assert read_rgb(bytes(damaged)).size == (verdict.width, verdict.height)


def test_bytes_that_were_verified_and_then_spoilt_are_reported() -> None:
    with pytest.raises(AtelierError, match="not a whole picture"):
        read_rgb(encoded(picture(), "JPEG")[:-300])


# what is kept, and how it looks


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_true_picture_passes_whatever_its_name_and_type_say(kind: str) -> None:
    verdict = verify(encoded(picture(), kind), LIMITS)
    assert isinstance(verdict, Verified)
    assert (verdict.width, verdict.height) == (96, 64)
    assert verdict.extension == {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    assert len(verdict.phash) == 16
    assert apart(read_rgb(encoded(picture(), kind)), picture()) < 8


def test_adobes_inverted_cmyk_keeps_its_colours() -> None:
    content = encoded(picture().convert("CMYK"), "JPEG", quality=98)
    assert b"Adobe" in content
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert apart(read_rgb(content), picture()) < 4


def test_cmyk_tiff_keeps_its_colours() -> None:
    assert apart(read_rgb(encoded(picture().convert("CMYK"), "TIFF")), picture()) < 4


def test_grey_becomes_equal_channels() -> None:
    image = read_rgb(encoded(picture().convert("L"), "JPEG", quality=98))
    assert apart(image, picture().convert("L").convert("RGB")) < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    levels = np.asarray(picture().convert("L"), np.uint16)
    content = encoded(Image.fromarray(levels * 257), kind)
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified) and verdict.image.mode.startswith("I;16")
    assert apart(read_rgb(content), picture().convert("L").convert("RGB")) == 0


def test_a_palette_is_looked_up() -> None:
    content = encoded(picture().quantize(256), "PNG")
    assert Image.open(io.BytesIO(content)).mode == "P"
    assert apart(read_rgb(content), picture()) < 8


def test_a_transparent_palette_colour_becomes_white() -> None:
    flat = Image.new("P", (64, 64), 0)
    flat.putpalette([10, 20, 30, 200, 100, 50])
    flat.paste(1, (32, 0, 64, 64))
    for kind in ("PNG", "GIF"):
        image = read_rgb(encoded(flat, kind, transparency=0))
        assert image.getpixel((5, 5)) == (255, 255, 255)
        assert image.getpixel((50, 5)) == (200, 100, 50)


def test_transparency_shows_white() -> None:
    colour, grey = picture(), picture().convert("L")
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
    image = read_rgb(encoded(picture().convert("1"), "PNG"))
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
    upright = picture()
    lying = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(lying, "JPEG", quality=98, exif=exif)
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified)
    assert (verdict.width, verdict.height) == upright.size
    assert apart(read_rgb(content), upright) < 3


def test_an_unreadable_exif_block_spoils_nothing() -> None:
    content = encoded(picture(), "JPEG", quality=98, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert isinstance(verify(content, LIMITS), Verified)
    assert apart(read_rgb(content), picture()) < 3


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
    content = encoded(picture(), kind, icc_profile=swapped_profile(), **options)
    red, green, blue = picture().split()
    assert apart(read_rgb(content), Image.merge("RGB", (green, red, blue))) < 8
    assert apart(read_rgb(content), picture()) > 15


def test_a_profile_and_transparency_go_together() -> None:
    layered = picture()
    layered.putalpha(255)
    red, green, blue = picture().split()
    image = read_rgb(encoded(layered, "PNG", icc_profile=swapped_profile()))
    assert apart(image, Image.merge("RGB", (green, red, blue))) < 4


@pytest.mark.parametrize("profile", [b"no profile at all", swapped_profile()[:200], bytes(128)])
def test_a_broken_profile_says_nothing(profile: bytes) -> None:
    content = encoded(picture(), "PNG", icc_profile=profile)
    assert isinstance(verify(content, LIMITS), Verified)
    assert apart(read_rgb(content), picture()) == 0


def test_an_rgb_profile_in_a_grey_or_cmyk_file_is_ignored() -> None:
    grey = picture().convert("L")
    assert apart(read_rgb(encoded(grey, "PNG", icc_profile=swapped_profile())), grey.convert("RGB")) == 0
    content = encoded(picture().convert("CMYK"), "TIFF", icc_profile=swapped_profile())
    assert apart(read_rgb(content), picture()) < 4


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert isinstance(verify(content, LIMITS), Verified)
        assert apart(read_rgb(content), frames[0]) < 8


# what is made smaller


def test_a_larger_picture_is_shrunk_to_its_shorter_side_without_aliasing() -> None:
    stripes = Image.fromarray(
        np.tile(np.array([0, 255], np.uint8), (400, 300))
    )  # 600×400, the finest there are
    content, size = shrink(stripes, 100)
    image = read_rgb(content)
    assert image.size == size == (150, 100)
    assert abs(np.asarray(image, np.float32) - 127.5).max() < 12  # even grey: no moiré
    assert apart(read_rgb(shrink(picture((960, 640)), 64)[0]), picture()) < 3


def test_a_scroll_longer_than_a_jpeg_may_be_is_cut_to_what_it_may() -> None:
    assert shrink(Image.linear_gradient("L").resize((66_000, 32)), 32)[1] == (65_500, 32)


def test_the_hash_of_a_smaller_copy_is_near_and_of_another_picture_far() -> None:
    def phash(image: Image.Image) -> int:
        verdict = verify(encoded(image, "JPEG", quality=90), LIMITS)
        assert isinstance(verdict, Verified)
        return int(verdict.phash, 16)

    large = picture((960, 640))
    assert (phash(large) ^ phash(large.resize((240, 160)))).bit_count() <= 4
    assert (phash(large) ^ phash(picture((960, 640), seed=1))).bit_count() > 12


def test_the_hash_is_imagehashs_own() -> None:
    for seed in range(40):
        image = picture((32, 32), seed)  # a size at which both see the same pixels
        verdict = verify(encoded(image, "PNG"), LIMITS)
        assert isinstance(verdict, Verified)
        assert verdict.phash == str(imagehash.phash(image))


def test_real_paintings_pass(paintings: Path) -> None:
    for path in sorted((paintings / "images").glob("*.jpg"))[::60]:
        verdict = verify(path.read_bytes(), ImageLimits(64, 120_000_000))
        assert isinstance(verdict, Verified), (path.name, verdict)
