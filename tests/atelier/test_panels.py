"""Pictures under words."""

import numpy as np
import pytest
from PIL import Image

from atelier.panels import GAP_PX, Panel, grid, panels, write_panels


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(("side", "columns"), [(32, 8), (64, 8), (128, 4), (256, 3), (512, 3)])
def test_pictures_of_any_size_become_a_grid_of_much_the_same_width(side: int, columns: int) -> None:
    shown = grid(pictures(100, side))
    assert 0.85 * 512 <= shown.shape[1] <= 1.15 * 512
    assert shown.shape[0] == shown.shape[1]
    white = (shown == 255).all(axis=(0, 2))
    assert np.count_nonzero(white[1:] & ~white[:-1]) == columns  # a seam before each, and one at the end


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    one = pictures(1, 32)
    assert np.array_equal(grid(one)[2:66, 2:66], one[0].repeat(2, axis=0).repeat(2, axis=1))


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
        write_panels(tmp_path / name, "one", [Panel("title", ("kid_rand 0.1",), pictures(1, 64)[0])], 3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as shown:
        assert shown.mode == "RGB"
