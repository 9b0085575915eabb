"""Every kind of TIFF is read as what it shows, or refused with a sentence that says why."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from atelier.images.verify import ImageLimits, Refused, Verified, read_rgb, verify
from tests.pictures import colour_field, encoded, tiff

LIMITS = ImageLimits(min_side_px=32, max_pixels=1_000_000)
COLOURS: npt.NDArray[np.uint8] = np.asarray(colour_field())
GREYS: npt.NDArray[np.uint8] = np.asarray(colour_field().convert("L"))
HEIGHT, WIDTH = GREYS.shape
ALPHA: npt.NDArray[np.uint8] = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
BLACK, WHITE, RGB, CMYK = 1, 0, 2, 5  # photometric interpretations


def tiff_of(
    samples: npt.NDArray[np.generic],
    photometric: int,
    big_ends: bool = False,
    big: bool = False,
    planar: bool = False,
    rows: int = 16,
    **more: list[int],
) -> bytes:
    """Samples (H, W) or (H, W, channels) as a plain TIFF in strips of `rows`; `more` are tags, named t338 and so."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    channels, bits = samples.shape[2], 8 * samples.itemsize
    form = {"u": 1, "i": 2, "f": 3, "c": 6}[samples.dtype.kind]
    ordered = samples.astype(samples.dtype.newbyteorder(">" if big_ends else "<"))
    planes = [ordered[..., [channel]] for channel in range(channels)] if planar else [ordered]
    strips = [plane[top : top + rows].tobytes() for plane in planes for top in range(0, HEIGHT, rows)]
    tags = {
        256: [WIDTH], 257: [HEIGHT], 258: [bits] * channels, 259: [1], 262: [photometric], 277: [channels],
        278: [rows], 284: [2 if planar else 1], 339: [form] * channels,
        **{int(name[1:]): numbers for name, numbers in more.items()},
    }  # fmt: skip
    return tiff(tags, strips, big_ends, big)


def shown(content: bytes) -> npt.NDArray[np.uint8]:
    """The picture as it is read, once it has passed."""
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified), verdict
    return np.asarray(read_rgb(content))


def on_white(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    share = ALPHA[..., None] / 255
    return colours * share + 255 * (1 - share)


def grey(levels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.repeat(levels[..., None], 3, axis=2)


@pytest.mark.parametrize(("big_ends", "big"), [*product((False, True), repeat=2)])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("planar", [False, True])
def test_colours_and_greys_of_every_layout_are_right(big_ends: bool, big: bool, deep: bool, planar: bool) -> None:
    layout = {"big_ends": big_ends, "big": big, "planar": planar}
    colours, greys, alpha = (
        samples.astype(np.uint16) * 257 if deep else samples for samples in (COLOURS, GREYS, ALPHA)
    )
    top = 65535 if deep else 255
    assert np.array_equal(shown(tiff_of(colours, RGB, **layout)), COLOURS)
    assert np.array_equal(shown(tiff_of(greys, BLACK, **layout)), grey(GREYS))
    assert np.array_equal(shown(tiff_of(top - greys, WHITE, **layout)), grey(GREYS))
    clear = np.dstack([colours, alpha])
    assert np.abs(shown(tiff_of(clear, RGB, **layout, t338=[2])) - on_white(COLOURS)).max() <= 1
    assert np.array_equal(shown(tiff_of(clear, RGB, **layout, t338=[0])), COLOURS)  # a channel that means nothing
    times = (clear[..., :3] * (ALPHA[..., None] / 255)).round().astype(clear.dtype)
    multiplied = np.dstack([times, alpha])
    assert np.abs(shown(tiff_of(multiplied, RGB, **layout, t338=[1])) - on_white(COLOURS)).max() <= 2
    inks = np.dstack([top - colours, np.zeros_like(greys)])
    assert np.array_equal(shown(tiff_of(inks, CMYK, **layout)), COLOURS)


@pytest.mark.parametrize("big_ends", [False, True])
def test_grey_with_transparency_is_laid_on_white_whichever_way_it_counts(big_ends: bool) -> None:
    for factor, top in ((1, 255), (257, 65535)):
        dtype = np.uint8 if factor == 1 else np.uint16
        greys, alpha = GREYS.astype(dtype) * dtype(factor), ALPHA.astype(dtype) * dtype(factor)
        for photometric, levels in ((BLACK, greys), (WHITE, top - greys)):
            content = tiff_of(np.dstack([levels, alpha]), photometric, big_ends, t338=[2])
            assert np.abs(shown(content) - on_white(grey(GREYS))).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [BLACK, WHITE, 3])
def test_few_bits_are_unpacked(bits: int, photometric: int) -> None:
    levels = GREYS >> (8 - bits)
    palette = np.random.default_rng(0).integers(0, 256, (3, 2**bits))
    stored = 2**bits - 1 - levels if photometric == WHITE else levels
    packed = np.packbits(np.unpackbits(stored[..., None], axis=2)[..., 8 - bits :].reshape(HEIGHT, -1), axis=1)
    tags = {256: [WIDTH], 257: [HEIGHT], 258: [bits], 259: [1], 262: [photometric], 277: [1], 278: [HEIGHT]}
    if photometric == 3:
        content = tiff({**tags, 320: (palette * 257).ravel().tolist()}, [packed.tobytes()])
        expected = np.moveaxis(palette[:, levels], 0, 2)
    else:
        content, expected = tiff(tags, [packed.tobytes()]), grey(levels * (255 // (2**bits - 1)))
    assert np.array_equal(shown(content), expected)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_stands_upright(orientation: int, deep: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(read_rgb(encoded(colour_field(), "PNG", exif=exif)))
    content = tiff_of(COLOURS.astype(np.uint16) * 257 if deep else COLOURS, RGB, t274=[orientation])
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Verified)
    assert (verdict.width, verdict.height) == upright.shape[1::-1]
    assert np.array_equal(read_rgb(content), upright)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff_of(COLOURS.astype(np.float32), RGB), "floating-point samples, whose white is not known"),
        (tiff_of(GREYS.astype(np.float16), BLACK), "floating-point samples"),
        (tiff_of(GREYS.astype(np.float64), BLACK, True, True), "floating-point samples"),
        (tiff_of(GREYS.astype(np.uint32), BLACK), "32-bit samples, whose white is not known"),
        (tiff_of(GREYS.astype(np.int8), BLACK), "signed samples"),
        (tiff_of(GREYS.astype(np.int16), BLACK), "signed samples"),
        (tiff_of(GREYS.astype(np.complex64), BLACK), "complex samples"),
        (tiff_of(COLOURS, 9), "ICC Lab colours"),
        (tiff_of(GREYS, 32803), "a camera's raw samples"),
        (tiff_of(np.dstack([COLOURS, COLOURS]), RGB, t338=[0, 0, 0]), "6 channels, whose meaning is not known"),
        (tiff_of(np.dstack([GREYS, ALPHA]), BLACK, planar=True, t338=[2]), "2 separate planes"),
        (tiff_of(COLOURS, 6), "YCbCr colours"),
        (tiff_of(COLOURS, RGB, t259=[50002]), "compression 50002"),
        (tiff_of(COLOURS, RGB, t258=[5, 6, 5]), "channels differ in depth"),
        (tiff_of(COLOURS, RGB, t258=[12, 12, 12]), "packed 12-bit samples"),
        (tiff_of(COLOURS, RGB, t322=[60_000], t323=[60_000]), "tiles far larger than its picture"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_its_kind_and_the_same_in_every_run(content: bytes, words: str) -> None:
    verdict = verify(content, LIMITS)
    assert isinstance(verdict, Refused)
    assert verdict.status == "refused"
    assert words in verdict.reason
    assert "0x" not in verdict.reason
    assert verify(bytes(bytearray(content)), LIMITS) == verdict


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_tiff_that_was_cut_is_truncated_whatever_its_layout(share: float, deep: bool) -> None:
    samples = COLOURS.astype(np.uint16) * 257 if deep else COLOURS
    for planar, rows in product((False, True), (16, HEIGHT)):
        whole = tiff_of(samples, RGB, planar=planar, rows=rows)
        verdict = verify(whole[: int(len(whole) * share)], LIMITS)
        assert isinstance(verdict, Refused) and verdict.status == "truncated", verdict
    compressed = encoded(Image.effect_noise((96, 64), 60).convert("RGB"), "TIFF", compression="tiff_lzw")
    assert isinstance(verify(compressed[: int(len(compressed) * share)], LIMITS), Refused)


def test_of_a_preview_and_a_picture_the_picture_is_read_and_further_pages_are_noted() -> None:
    preview, picture = colour_field((48, 32), seed=1), colour_field()
    first = encoded(picture, "TIFF", save_all=True, append_images=[preview])
    verdict = verify(first, LIMITS)
    assert isinstance(verdict, Verified) and verdict.note == "the first of 2 pages"
    mark, none = (b"\xfe\x00\x04\x00\x01\x00\x00\x00" + value for value in (b"\x01", b"\x00"))
    previews = encoded(preview, "TIFF", save_all=True, append_images=[picture], tiffinfo={254: 1})
    before, _, after = previews.rpartition(mark)
    assert mark in before  # of the first page
    assert np.array_equal(read_rgb(before + none + after), picture)
