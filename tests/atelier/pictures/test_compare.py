"""How alike pictures are, and how several hang on a sheet."""

import numpy as np
import pytest

from atelier.pictures.compare import compare_pixels


def picture(dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (12, 20, 3), dtype)


def test_a_picture_does_not_differ_from_itself_in_bands_of_any_height() -> None:
    likeness = compare_pixels(np.array_split(picture(), 5), picture())
    assert (likeness.differing, likeness.largest, likeness.pixels, likeness.place) == (0, 0, 0, "")
    assert likeness.values == 12 * 20 * 3


def test_what_differs_is_counted_measured_and_placed_across_bands() -> None:
    other = picture()
    other[2, 5, 0] ^= 1
    other[9, 3] = 255 - other[9, 3]
    likeness = compare_pixels(np.array_split(picture(), 5), other)
    assert likeness.differing == 1 + np.count_nonzero(other[9, 3] != picture()[9, 3])
    assert likeness.pixels == 2
    assert likeness.place == "columns 3 to 5, rows 2 to 9"
    assert likeness.largest == max(abs(255 - 2 * int(value)) for value in picture()[9, 3])


def test_sixteen_bits_are_measured_in_255ths_too() -> None:
    other = picture(np.uint16)
    other[0, 0, 0] ^= 1
    assert compare_pixels([picture(np.uint16)], other).largest == pytest.approx(1 / 257)


@pytest.mark.parametrize(
    "other", [picture()[:, :-1], picture()[:-1], np.concatenate([picture()] * 2), picture(np.uint16)]
)
def test_pictures_of_another_size_or_depth_are_not_compared(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"differ|rows"):
        compare_pixels([picture()], other)
