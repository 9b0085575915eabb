"""Projection: a picture of the model is found again, photos of any shape are read, and the result is a recipe."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from atelier import projection
from atelier.canvas.artworks import load_painter
from atelier.canvas.latents import latent_field
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Recipe, Station, Variation, Walk
from atelier.errors import AtelierError
from atelier.networks import load_generator
from atelier.pictures import Pixels
from atelier.projection import Distance, project, read_target
from atelier.provenance.facts import read_pixels, read_provenance
from tests.models import LABELS, SMALL, save_small_generator

RECIPE = Recipe(seed=1, index=0, canvas=(1, 1), truncation=1.0)
MODEL, PHOTO = Path("g.safetensors"), Path("photo.png")


@pytest.fixture(autouse=True)
def _few_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projection, "CANDIDATES", 32)
    save_small_generator(MODEL)


def painted(seed: int) -> Pixels:
    return paint(load_painter(MODEL, torch.device("cpu"))[0], RECIPE.model_copy(update={"seed": seed}))


def run(*options: str) -> int:
    return projection.main([str(MODEL), str(PHOTO), RECIPE.model_dump_json(), *options])


def test_a_picture_of_the_model_itself_is_approached() -> None:
    generator = load_generator(MODEL)[0]
    found = project(generator, painted(5), RECIPE, steps=20)
    assert found.distance < 0.8 * found.drawn_distance
    assert len(found.latent) == generator.nz
    assert np.linalg.norm(found.latent) == pytest.approx(generator.nz**0.5, rel=0.4)


def test_without_steps_the_nearest_drawn_latent_is_returned() -> None:
    generator = load_generator(MODEL)[0]
    found = project(generator, painted(1), RECIPE, steps=0)
    assert found.latent == tuple(latent_field(generator, RECIPE)[0].tolist())  # which is that very picture
    assert found.distance == found.drawn_distance < 0.02  # which was rounded to 8 bits


def test_the_distance_is_0_for_the_target_and_grows_with_what_is_done_to_it() -> None:
    target = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance = Distance(target)
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    values = torch.cat([distance(target + amount * noise) for amount in (0.0, 0.05, 0.2, 1.0)])
    assert values[0] == 0
    assert (values.diff() > 0).all()


def test_the_written_picture_carries_a_recipe_that_paints_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(painted(3)).resize((90, 60)).save(PHOTO)
    for name in ("one", "other"):
        assert run("--steps=3", f"--out={name}.png") == 0
    assert Path("one.png").read_bytes() == Path("other.png").read_bytes()
    recipe = read_provenance(Path("one.png")).latent
    assert recipe.latent is not None
    painter, _ = load_painter(MODEL, torch.device("cpu"))
    assert np.array_equal(paint(painter, recipe), read_pixels(Path("one.png")))
    assert Image.open("one-beside.png").width > 500
    assert "one.png: distance 2." in capsys.readouterr().out


def test_variations_larger_canvases_and_walks_start_from_a_projection() -> None:
    generator = load_generator(MODEL)[0]
    latent = tuple(torch.linspace(-1, 1, generator.nz).tolist())
    recipe = RECIPE.model_copy(update={"latent": latent})
    assert latent_field(generator, recipe)[0].tolist() == list(latent)
    near = latent_field(generator, recipe.model_copy(update={"variation": Variation(number=0, strength=0.01)}))
    assert torch.dist(near, torch.tensor([latent])) < 0.1 * torch.tensor(latent).norm()
    grown = Recipe.model_validate({**recipe.model_dump(), "canvas": (3, 3), "grown_from": (1, 1)})
    scale = latent_field(generator, grown)[0, :, 1, 1] / torch.tensor(latent)
    assert torch.allclose(scale, scale[0])
    stations = (Station(seed=1, index=0, latent=latent), Station(seed=2, index=0))
    walk = Walk(stations=stations, frame=0, frames=5, loop=False, easing="linear")
    first, last = (
        latent_field(generator, RECIPE.model_copy(update={"walk": walk.model_copy(update={"frame": frame})}))
        for frame in (0, 4)
    )
    assert torch.allclose(first, torch.tensor([latent]), atol=1e-6)
    assert torch.allclose(last, latent_field(generator, RECIPE.model_copy(update={"seed": 2})), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": ()}, {"latent": (float("nan"),)}, {"latent": (1e9,)}, {"latent": (0.0,) * 5000}, {"latent": "0"},
        {"latent": (1.0,), "canvas": (2, 1)},
        {"walk": {"stations": ({"seed": 1, "index": 0, "latent": (1.0,)}, {"seed": 2, "index": 0}), "frame": 0,
                  "frames": 2, "loop": False, "easing": "linear"}, "canvas": (2, 1)},
    ],
)  # fmt: skip
def test_a_recipe_with_an_impossible_latent_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({**RECIPE.model_dump(), **changes})


def test_a_latent_of_another_model_is_refused_with_a_sentence() -> None:
    generator = load_generator(MODEL)[0]
    with pytest.raises(AtelierError, match=f"has 3 numbers; this model takes {generator.nz}"):
        latent_field(generator, RECIPE.model_copy(update={"latent": (0.0, 1.0, 2.0)}))


def test_the_middle_square_of_a_photo_is_used() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (10, 200, 30)
    Image.fromarray(wide).save(PHOTO)
    assert np.abs(read_target(PHOTO, (32, 32))[:, 4:-4].astype(int) - (10, 200, 30)).max() <= 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not a picture", "photo.png: "), (b"", "photo.png: "), (None, "photo.png is missing: name a photograph"),
    ],
)  # fmt: skip
def test_what_is_no_photo_is_refused_with_a_sentence(
    content: bytes | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        PHOTO.write_bytes(content)
    assert run("--out=one.png") == 1
    assert sentence in capsys.readouterr().err
    assert not Path("one.png").exists()


def test_a_model_with_labels_is_projected_without_one() -> None:
    save_small_generator(MODEL, network=SMALL.with_labels(LABELS))
    painter = load_painter(MODEL, torch.device("cpu"))[0]
    Image.fromarray(paint(painter, RECIPE.model_copy(update={"label": "none"}))).save(PHOTO)
    assert run("--out=found.png", "--steps=0") == 0
    facts = read_provenance(Path("found.png"))
    assert facts.latent.label == "none"
    assert np.array_equal(read_pixels(Path("found.png")), np.asarray(Image.open(PHOTO))), "the first drawn picture"
