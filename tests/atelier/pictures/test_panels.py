"""Pictures under words."""

import numpy as np
import pytest
from PIL import Image

from atelier.pictures import srgb
from atelier.pictures.sheets import GAP_PX, Panel, fitted, panels, write_panels


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(32, 20, (96, 60)), (100, 90, (100, 90)), (300, 150, (100, 50))]
)
def test_a_picture_is_fitted_in_whole_pixels_or_reduced(height: int, width: int, shown: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    fits = fitted(picture, 100)
    assert fits.shape == (*shown, 3)
    if height <= 100:
        assert np.array_equal(fits[:: shown[0] // height, :: shown[0] // height], picture)


def test_words_stand_above_and_the_pictures_of_a_row_on_one_level() -> None:
    picture = pictures(1, 300)[0]
    given = [Panel("one", (), picture), Panel("two", ("a line that is too long " * 10,), picture)]
    drawn = panels("two pictures", given, 2)
    left, right = (
        drawn[-GAP_PX - 300 : -GAP_PX, GAP_PX : GAP_PX + 300],
        drawn[-GAP_PX - 300 : -GAP_PX, -GAP_PX - 300 : -GAP_PX],
    )
    assert np.array_equal(left, picture)
    assert np.array_equal(right, picture)
    assert (drawn[: -GAP_PX - 300, -GAP_PX:] == 255).all()  # folded, not running out
    assert (drawn[: -GAP_PX - 300, 300 + 2 * GAP_PX : -GAP_PX] < 100).any()


def test_rows_are_filled_from_the_left_and_the_last_may_be_short() -> None:
    given = [Panel(str(n), (), pictures(1, 100, n)[0]) for n in range(3)]
    drawn = panels("three", given, 2)
    assert drawn.shape[1] == 2 * 100 + 3 * GAP_PX
    assert np.array_equal(drawn[-GAP_PX - 100 : -GAP_PX, GAP_PX : GAP_PX + 100], given[2].picture)
    assert (drawn[-GAP_PX - 100 :, -GAP_PX - 100 :] == 255).all()


def test_the_same_panels_give_the_same_file(tmp_path) -> None:
    for name in ("a.png", "b.png"):
        write_panels(tmp_path / name, "one", [Panel("title", ("kid 0.1",), pictures(1, 64)[0])], 3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as shown:
        assert shown.mode == "RGB" and shown.info["icc_profile"] == srgb()
