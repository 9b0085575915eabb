"""A JPEG is whole or truncated by what its decoder finds, whatever colours it shows."""

import math
from itertools import product

import numpy as np
import pytest
from PIL import Image

from atelier.images.verify import ImageLimits, Refused, Verified, read_rgb, verify
from tests.pictures import colour_field, encoded

LIMITS = ImageLimits(min_side_px=32, max_pixels=100_000_000)
KINDS = [
    {}, {"quality": 40}, {"quality": 100}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1},
    {"optimize": True}, {"restart_marker_blocks": 7}, {"restart_marker_rows": 1}, {"progressive": True, "quality": 97},
]  # fmt: skip


def on_grey_card(mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture photographed before a board of middle grey, which fills the lower right corner exactly."""
    card = Image.new("RGB", size, (128, 128, 128))
    card.paste(colour_field((size[0] // 2, size[1] // 2)), (10, 10))
    return card.convert(mode)


def textured(size: tuple[int, int] = (323, 201)) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 12, (*size[::-1], 3))
    return Image.fromarray((np.asarray(colour_field(size), float) + noise).clip(0, 255).astype(np.uint8))


def verdicts(content: bytes) -> list[Verified | Refused]:
    """As a picture is kept whole, as it came, and as it is made smaller."""
    return [verify(content, LIMITS, size_px) for size_px in (0, math.inf, 40)]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_whole_jpeg_passes_though_it_ends_in_mid_grey(mode: str, options: dict[str, object]) -> None:
    for size in ((160, 120), (161, 113), (640, 480)):
        for verdict in verdicts(encoded(on_grey_card(mode, size), "JPEG", **options)):
            assert isinstance(verdict, Verified), (size, verdict)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("card", [False, True])
def test_a_jpeg_cut_at_any_place_is_truncated_also_with_an_end_marker_put_behind_it(
    mode: str, options: dict[str, object], card: bool
) -> None:
    picture = on_grey_card(mode, (320, 200)) if card else textured().convert(mode)
    whole = encoded(picture, "JPEG", **options)
    start = whole.index(b"\xff\xda")
    # of a board of one grey the last blocks are a few bits: the cut is made where the picture is
    for share in (0.05, 0.2, 0.4, 0.5) if card else (0.05, 0.3, 0.5, 0.7, 0.9, 0.97):
        cut = whole[: start + 20 + int((len(whole) - start - 20) * share)].rstrip(b"\xff")
        for content in (cut, cut + b"\xff\xd9"):
            for verdict in verdicts(content):
                assert isinstance(verdict, Refused), (share, content is cut, verdict)
                assert verdict.status == "truncated"


def test_a_jpeg_that_lacks_a_piece_of_its_middle_between_restart_markers_is_truncated() -> None:
    whole = encoded(textured(), "JPEG", quality=90, restart_marker_rows=1)
    first, second = whole.index(b"\xff\xd2"), whole.index(b"\xff\xd4")
    for verdict in verdicts(whole[:first] + whole[second:]):
        assert isinstance(verdict, Refused) and verdict.status == "truncated"


@pytest.mark.parametrize("options", KINDS)
def test_bytes_after_the_end_of_a_jpeg_are_ignored(options: dict[str, object]) -> None:
    for verdict in verdicts(encoded(on_grey_card("RGB", (160, 120)), "JPEG", **options) + b"\0trailer\xff\xd9"):
        assert isinstance(verdict, Verified)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize(("mode", "orientation"), [*product(["RGB", "L", "CMYK"], [1, 6])])
def test_a_jpeg_that_is_made_smaller_is_decoded_smaller_and_looks_the_same(
    mode: str, orientation: int, options: dict[str, object]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(colour_field((1280, 960), seed=2).convert(mode), "JPEG", exif=exif, **options)
    verdict = verify(content, LIMITS, 96)
    assert isinstance(verdict, Verified) and verdict.image is not None
    expected = read_rgb(content)
    assert (verdict.width, verdict.height) == expected.size
    expected = expected.resize(verdict.image.size, Image.Resampling.LANCZOS)
    assert min(expected.size) == 96
    assert np.abs(np.asarray(verdict.image, float) - np.asarray(expected, float)).mean() < 0.6


@pytest.mark.parametrize(
    ("marker", "precision", "words"),
    [
        (0xC3, 8, "lossless JPEG"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xF7, 8, "JPEG-LS"),
        (0xC1, 12, "12-bit samples"),
    ],
)
def test_a_jpeg_of_a_kind_that_is_not_read_is_no_damaged_one(marker: int, precision: int, words: str) -> None:
    content = bytearray(encoded(colour_field(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 1], content[frame + 4] = marker, precision
    verdict = verify(bytes(content), LIMITS)
    assert isinstance(verdict, Refused)
    assert verdict.status == "refused" and words in verdict.reason
