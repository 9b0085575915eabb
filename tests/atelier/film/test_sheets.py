"""The sheet of directions, and the moved pictures that it shows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.canvas.paint import paint
from atelier.canvas.recipe import Move, Recipe
from atelier.film import sheets
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.provenance.facts import read_provenance
from tests.models import save_small_generator

PICTURES = [Recipe(seed=1, index=index, canvas=(1, 1), truncation=1.0) for index in (0, 4)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_generator(Path("g.safetensors"))


def directions(*options: str, recipes: list[Recipe] = PICTURES) -> int:
    return sheets.main(["directions", "g.safetensors", *(each.model_dump_json() for each in recipes), *options])


def test_amounts_are_equally_spaced_around_0() -> None:
    assert sheets.amounts(3) == [-3, -2, -1, 0, 1, 2, 3]


def test_the_pictures_of_the_sheet_are_saved_with_recipes_that_paint_them_again() -> None:
    assert directions("--count=2", "--amount=1.5", "--out=sheet.png", "--save=kept") == 0
    names = sorted(path.name for path in Path("kept").iterdir())
    assert len(names) == 2 * (1 + 2 * 6)
    assert {"1-00000.png", "1-00004.png", "1-00004-d1+1.5.png", "1-00000-d0-0.5.png"} < set(names)
    generator = in_double_precision(load_generator(Path("g.safetensors"))[0], torch.device("cpu"))
    moved = read_provenance(Path("kept/1-00004-d1+1.5.png"))
    assert moved.latent.moves == (Move(direction=1, amount=1.5),)
    pictures = {name: np.asarray(Image.open(f"kept/{name}")) for name in names}
    for name in names[::5]:
        assert np.array_equal(paint(generator, read_provenance(Path("kept") / name).latent), pictures[name])
    assert len({picture.tobytes() for picture in pictures.values()}) == len(names)


def test_equal_arguments_give_equal_sheets() -> None:
    for name in ("one.png", "other.png"):
        assert directions("--count=3", f"--out={name}") == 0
    assert Path("one.png").read_bytes() == Path("other.png").read_bytes()


def test_a_count_above_the_number_of_directions_shows_all_and_wide_pictures_are_reduced() -> None:
    wide = [PICTURES[0].model_copy(update={"canvas": (1, 5)})]
    assert directions("--count=64", "--out=sheet.png", recipes=wide) == 0
    sheet = Image.open("sheet.png")
    assert 2 * 7 * 128 < sheet.width < 2 * 8 * 128  # sixteen panels, two a row
    assert sheet.height > 8 * 64


def test_a_missing_model_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("g.safetensors").unlink()
    assert directions("--out=sheet.png") == 1
    assert "g.safetensors" in capsys.readouterr().err
