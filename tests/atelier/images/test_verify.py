"""Hostile bytes are refused with a reason, before they cost anything."""

import math
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from atelier.errors import AtelierError
from atelier.images.verify import (
    PIXELS_AT_ONCE,
    ImageLimits,
    Refused,
    Verified,
    decoding_slot,
    is_placeholder_url,
    read_rgb,
    verify,
)
from tests.pictures import colour_field, encoded

LIMITS = ImageLimits(min_side_px=32, max_pixels=1_000_000)


def refused(content: bytes, limits: ImageLimits = LIMITS) -> Refused:
    """The verdict, which is the same whether the bytes would be kept or painted anew."""
    verdict = verify(content, limits)
    assert isinstance(verdict, Refused), verdict
    assert verdict.reason
    assert verify(content, limits, math.inf) == verdict
    return verdict


def passed(content: bytes, limits: ImageLimits = LIMITS) -> Verified:
    """The verdict, which is the same whether the bytes would be kept or painted anew; all but the hash's last bits."""
    verdict, of_kept = verify(content, limits), verify(content, limits, math.inf)
    assert isinstance(verdict, Verified), verdict
    assert isinstance(of_kept, Verified), of_kept
    assert (of_kept.extension, of_kept.width, of_kept.height) == (
        verdict.extension,
        verdict.width,
        verdict.height,
    )
    assert (int(of_kept.phash, 16) ^ int(verdict.phash, 16)).bit_count() <= 4
    return verdict


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


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "PCX", "JPEG2000"])
def test_formats_that_no_archive_of_paintings_serves_never_reach_a_decoder(kind: str) -> None:
    assert refused(encoded(colour_field(), kind)).status == "not-an-image"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 100}])
@pytest.mark.parametrize("lost", [1, 2, 10, 400, 0.5, 0.95])
def test_a_jpeg_cut_anywhere_is_truncated(options: dict[str, object], lost: float) -> None:
    whole = encoded(colour_field((320, 200)), "JPEG", **options)
    cut = lost if isinstance(lost, int) else int(len(whole) * lost)
    assert refused(whole[:-cut]).status == "truncated"


def test_a_jpeg_whose_missing_half_was_sealed_with_an_end_marker_is_truncated() -> None:
    noisy = Image.effect_noise((320, 200), 60).convert("RGB")
    for image in (noisy, noisy.convert("L")):
        whole = encoded(image, "JPEG", quality=90)
        assert passed(whole)
        assert refused(whole[: len(whole) // 2] + b"\xff\xd9").status == "truncated"


def test_a_grey_mount_around_a_painting_is_not_taken_for_filler() -> None:
    mount = Image.new("RGB", (160, 160), (128, 128, 128))
    mount.paste(colour_field(), (32, 48))
    assert passed(encoded(mount, "JPEG"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(600, 480), (401, 400)])
def test_a_kept_jpeg_is_measured_upright(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    verdict = passed(encoded(colour_field(size), "JPEG", exif=exif))
    assert (verdict.width, verdict.height) == (size[::-1] if orientation > 4 else size)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"])
def test_every_format_cut_in_half_is_refused(kind: str) -> None:
    whole = encoded(Image.effect_noise((200, 150), 60).convert("RGB"), kind)
    assert passed(whole)
    assert refused(whole[: len(whole) // 2]).status == "truncated"


def test_a_png_with_one_flipped_bit_is_refused() -> None:
    whole = bytearray(encoded(colour_field(), "PNG"))
    whole[len(whole) // 2] ^= 1
    assert refused(bytes(whole)).status == "truncated"


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    bomb = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert len(bomb) < 60_000
    verdict = refused(bomb, ImageLimits(32, 120_000_000))
    assert verdict.status == "too-large"
    assert "12000×12000" in verdict.reason


def test_a_header_that_claims_more_pixels_than_it_has_bytes_for_costs_no_memory() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    lie = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert refused(lie).status in ("too-large", "truncated")


def test_a_picture_above_pillows_own_bomb_limit_passes_when_ours_allows_it() -> None:
    wide = Image.new("1", (18_000, 10_000))
    wide.paste(1, (0, 0, 9_000, 5_000))
    assert isinstance(verify(encoded(wide, "PNG"), ImageLimits(32, 200_000_000), math.inf), Verified)


def test_a_small_picture_is_refused_with_its_size() -> None:
    verdict = refused(encoded(colour_field((200, 31)), "PNG"))
    assert verdict.status == "too-small"
    assert "200×31" in verdict.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_one_colour_all_over_is_a_placeholder(kind: str) -> None:
    assert refused(encoded(Image.new("RGB", (600, 480), (200, 200, 200)), kind)).status == "placeholder"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_painting_with_one_stroke_on_one_colour_is_no_placeholder(kind: str) -> None:
    canvas = Image.new("RGB", (600, 480), (20, 40, 200))
    canvas.paste((250, 250, 250), (301, 201, 304, 204))
    for size_px in (0, math.inf):
        assert isinstance(verify(encoded(canvas, kind), LIMITS, size_px), Verified)


@pytest.mark.parametrize(
    "url",
    [
        "https://uploads.wikiart.org/Content/images/FRAME-600x480.jpg",
        "https://uploads.wikiart.org/Content/images/ARTIST-480x600.jpg",
        "https://uploads.wikiart.org/Content/wiki/img/favicon-256x256.png",
        "http://127.0.0.1:8000/Content/images/FRAME-600x480.jpg!Large.jpg?x=1",
    ],
)
def test_wikiarts_placeholders_are_recognised_by_their_address(url: str) -> None:
    assert is_placeholder_url(url)
    assert not is_placeholder_url("https://uploads0.wikiart.org/images/x/my-frame-600x480.jpg")


def test_float_samples_are_refused_for_their_white_is_not_known() -> None:
    samples = Image.fromarray(np.linspace(0, 9000, 64 * 96, dtype=np.float32).reshape(64, 96))
    assert refused(encoded(samples, "TIFF")).status == "refused"


def test_random_damage_never_escapes_as_an_exception() -> None:
    rng = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = encoded(colour_field((64, 48)), kind)
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                damaged[place] = rng.integers(0, 256)
            verdict = verify(bytes(damaged), LIMITS)
            of_kept = verify(bytes(damaged), LIMITS, math.inf)
            assert isinstance(of_kept, Verified) == isinstance(verdict, Verified)
            if isinstance(verdict, Verified):
                assert read_rgb(bytes(damaged)).size == (verdict.width, verdict.height)


def test_bytes_that_were_verified_and_then_spoilt_are_reported() -> None:
    with pytest.raises(AtelierError, match="not a whole picture"):
        read_rgb(encoded(colour_field(), "JPEG")[:-300])


def test_large_pictures_are_decoded_few_at_a_time() -> None:
    """The sum of pixels under way never exceeds what a process has, and everybody gets a turn."""
    lock, under_way, most = threading.Lock(), 0, 0

    def decode(pixels: int) -> None:
        nonlocal under_way, most
        with decoding_slot(pixels):
            with lock:
                under_way += min(pixels, PIXELS_AT_ONCE)
                most = max(most, under_way)
            time.sleep(0.005)
            with lock:
                under_way -= min(pixels, PIXELS_AT_ONCE)

    sizes = [PIXELS_AT_ONCE // 3, PIXELS_AT_ONCE // 2, 3 * PIXELS_AT_ONCE, 1000] * 10
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(decode, sizes))
    assert PIXELS_AT_ONCE // 2 < most <= PIXELS_AT_ONCE
    with pytest.raises(ZeroDivisionError), decoding_slot(PIXELS_AT_ONCE):
        raise ZeroDivisionError
    with decoding_slot(PIXELS_AT_ONCE):  # what an error held was given back
        pass


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_threads_that_make_large_pictures_smaller_hold_few_of_them_at_once(
    options: dict[str, object],
) -> None:
    """Measured in a process of its own: four threads, each with 36 megapixels in mind."""
    code = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from atelier.images.verify import ImageLimits, verify
content = sys.stdin.buffer.read()
def go(_):
    return type(verify(content, ImageLimits(32, 10**8), 512)).__name__
scale = 1 if sys.platform == "darwin" else 1024
verify(content[:2000], ImageLimits(32, 10**8), 512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    print(set(pool.map(go, range(4))), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale)
"""
    content = encoded(colour_field((60, 60)).resize((6000, 6000)), "JPEG", **options)
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    names, _, grown = done.stdout.decode().rpartition(" ")
    assert names == "{'Verified'}"
    assert int(grown) < 200_000_000  # one picture of 36 megapixels takes 144 MB, four of them half a gigabyte
