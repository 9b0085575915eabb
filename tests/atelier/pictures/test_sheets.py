import numpy as np
import pytest
from PIL import Image

from atelier.pictures import srgb
from atelier.pictures.sheets import grid, sheet, thumbnail, write_sheet


def pictures(count: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8)


def test_a_sheet_holds_every_picture_row_by_row() -> None:
    images = pictures(6)
    drawn = sheet(images, columns=3)
    assert drawn.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    for place, image in enumerate(images):
        top, left = 2 + 10 * (place // 3), 2 + 10 * (place % 3)
        assert np.array_equal(drawn[top : top + 8, left : left + 8], image)


def test_without_columns_a_sheet_is_about_as_wide_as_high() -> None:
    assert sheet(pictures(64)).shape == (82, 82, 3)
    height, width, _ = sheet(pictures(10, height=8, width=64)).shape
    assert 0.5 < width / height < 2


def test_a_sheet_of_one_picture_has_the_same_frame() -> None:
    drawn = sheet(pictures(1))
    assert drawn.shape == (12, 12, 3)
    assert (drawn[:2] == 255).all()


def test_an_unfinished_last_row_is_white() -> None:
    assert (sheet(np.zeros((3, 8, 8, 3), np.uint8), columns=2)[12:20, 12:20] == 255).all()


def test_the_same_pictures_give_the_same_file(tmp_path) -> None:
    for name in ("a.png", "b.png"):
        write_sheet(tmp_path / name, pictures(5))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as drawn:
        assert np.array_equal(np.asarray(drawn), sheet(pictures(5)))
        assert drawn.info["icc_profile"] == srgb()


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 3, 8, 8)])
def test_anything_but_rgb_pictures_is_refused(shape) -> None:
    with pytest.raises(ValueError, match="uint8"):
        sheet(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("side", "columns"), [(32, 8), (64, 8), (128, 4), (256, 3), (512, 3)])
def test_pictures_of_any_size_become_a_grid_of_much_the_same_width(side: int, columns: int) -> None:
    shown = grid(pictures(100, side, side))
    assert 0.85 * 512 <= shown.shape[1] <= 1.15 * 512
    assert shown.shape[0] == shown.shape[1]
    white = (shown == 255).all(axis=(0, 2))
    assert np.count_nonzero(white[1:] & ~white[:-1]) == columns  # a seam before each, and one at the end


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    one = pictures(1, 32, 32)
    assert np.array_equal(grid(one)[2:66, 2:66], one[0].repeat(2, axis=0).repeat(2, axis=1))


def test_a_thumbnail_keeps_the_proportions_and_never_enlarges() -> None:
    assert thumbnail(pictures(1, 40, 80)[0], 20).shape == (10, 20, 3)
    small = pictures(1)[0]
    assert np.array_equal(thumbnail(small, 20), small)
