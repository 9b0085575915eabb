"""A walk's film is the same every time, and each frame has a recipe of its own."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from atelier.canvas.latents import label_weights
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Recipe, Station, Walk
from atelier.errors import AtelierError
from atelier.film.encode import FilmFacts
from atelier.film.walk import Walkers, _scale, enlarge, main, tile, walks_beside
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.provenance.facts import PixelFacts, read_provenance
from tests.models import LABELS, SMALL, save_small_generator

GENERATOR = Path("g.safetensors")
STATIONS = (Station(seed=3, index=0), Station(seed=14, index=2), Station(seed=15, index=1))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_generator(GENERATOR)


def recipe(*, loop: bool = False, frames: int = 5, canvas: tuple[int, int] = (1, 1)) -> Recipe:
    course = Walk(stations=STATIONS, frame=0, frames=frames, loop=loop, easing="smooth")
    return Recipe(seed=3, index=0, canvas=canvas, truncation=0.9, walk=course)


def walk(*options: str, asked: Recipe | None = None) -> int:
    return main([str(GENERATOR), (asked or recipe()).model_dump_json(), "--side=64", *options])


def painted_again(path: Path) -> np.ndarray:
    generator, _ = load_generator(GENERATOR)
    return paint(in_double_precision(generator, torch.device("cpu")), read_provenance(path).latent)


def test_a_film_shows_the_saved_frames_and_their_recipes_paint_them_again() -> None:
    assert walk("--out=walk.mp4", "--frames=kept", "--side=64", "--fps=5") == 0
    files = sorted(Path("kept").iterdir())
    assert [file.name for file in files] == [f"0000{n}.png" for n in range(5)]
    with av.open("walk.mp4") as film:
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        facts = FilmFacts.model_validate_json(film.metadata["comment"])
    pictures = [np.asarray(Image.open(file)) for file in files]
    for picture, file in zip(pictures, files, strict=True):
        assert PixelFacts.of(picture) == read_provenance(file).pixels
        assert np.array_equal(painted_again(file), picture)
    shown = np.stack([enlarge(picture, 2) for picture in pictures]).astype(int)
    for number, frame in enumerate(seen):  # colours are coarser in a film, and these toys are all colour
        assert np.abs(shown - frame).mean((1, 2, 3)).argmin() == number
    assert (facts.fps, facts.walkers, facts.side) == (5, (1, 1), 64)
    assert facts.first == read_provenance(files[0]).model_copy(update={"pixels": None})


def test_a_walk_passes_through_the_pictures_of_its_stations() -> None:
    walk("--out=walk.mp4", "--frames=kept")
    generator = in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu"))
    for frame, (seed, index) in {0: (3, 0), 2: (14, 2), 4: (15, 1)}.items():
        alone = paint(generator, Recipe(seed=seed, index=index, canvas=(1, 1), truncation=0.9))
        assert np.array_equal(np.asarray(Image.open(f"kept/0000{frame}.png")), alone)


def test_a_single_frame_is_the_same_file_as_that_of_the_film() -> None:
    walk("--out=walk.webm", "--frames=kept")
    assert walk("--out=alone.png", "--frame=3") == 0
    assert Path("alone.png").read_bytes() == Path("kept/00003.png").read_bytes()
    assert walk("--out=alone.png", "--frame=5") == 1


def test_equal_walks_give_equal_bytes_and_saved_frames_are_not_painted_again() -> None:
    walk("--out=one.mp4")
    walk("--out=other.mp4", "--frames=kept")
    times = {file: file.stat().st_mtime_ns for file in Path("kept").iterdir()}
    edited, torn, stray = Path("kept/00001.png"), Path("kept/00002.png"), Path("kept/00003.png")
    whole = {file: file.read_bytes() for file in times}
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(edited)
    torn.write_bytes(whole[torn][:200])
    stray.write_bytes(whole[Path("kept/00000.png")])  # of ours, and another frame
    walk("--out=third.mp4", "--frames=kept")
    assert {file: file.read_bytes() for file in times} == whole
    again = {file for file, time in times.items() if file.stat().st_mtime_ns != time}
    assert again == {edited, torn, stray}
    films = [Path(name).read_bytes() for name in ("one.mp4", "other.mp4", "third.mp4")]
    assert films[0] == films[1] == films[2]
    assert Path("one.png").read_bytes() == Path("third.png").read_bytes()


def test_the_last_frame_of_a_loop_is_near_the_first() -> None:
    walk("--out=walk.mp4", "--frames=kept", asked=recipe(loop=True, frames=9))
    pictures = [np.asarray(Image.open(file)).astype(int) for file in sorted(Path("kept").iterdir())]
    steps = [np.abs(a - b).mean() for a, b in zip(pictures, [*pictures[1:], pictures[0]], strict=True)]
    assert min(steps) > 0 and steps[-1] < 2 * max(steps[:-1])


def test_walks_side_by_side_share_no_station() -> None:
    recipes = walks_beside(recipe(), 6)
    assert recipes[0] == recipe()
    stations = [station for each in recipes for station in each.walk.stations]
    assert len(set(stations)) == 18
    assert {station.seed for station in stations} == {3, 14, 15}
    late = recipe().model_copy(
        update={"walk": Walk.model_validate(
            {**recipe().walk.model_dump(), "stations": (Station(seed=1, index=2**31 - 2),) * 2}
        )}
    )  # fmt: skip
    with pytest.raises(AtelierError, match="pictures end at 2,147,483,647, too early for 3 walks: start"):
        walks_beside(late, 3)


def test_a_grid_of_walks_is_one_film_and_one_file_per_frame_and_walk() -> None:
    assert walk("--out=grid.mp4", "--walkers", "2", "3", "--side=120", "--frames=kept") == 0
    with av.open("grid.mp4") as film:
        (stream,) = film.streams
        assert (stream.width, stream.height) == (3 * 40 + 2 * 4, 2 * 40 + 4)
    assert len(list(Path("kept").iterdir())) == 5 * 6
    assert walk("--out=some.png", "--walkers", "2", "3", "--frame=2") == 0
    for walker in range(1, 7):
        alone = Path(f"some-{walker}.png")
        assert alone.read_bytes() == Path(f"kept/00002-{walker}.png").read_bytes()
        assert np.array_equal(painted_again(alone), np.asarray(Image.open(alone)))


def test_the_strip_shows_the_first_frame_and_the_last() -> None:
    walk("--out=walk.mp4", "--side=256", asked=recipe(frames=30))
    strip = Image.open("walk.png")
    assert strip.width > 6 * 224 and 2 * 224 < strip.height < 3 * 224


def test_films_have_the_shape_of_their_canvas_and_too_large_ones_are_refused() -> None:
    assert walk("--out=wide.mp4", asked=recipe(canvas=(1, 5), frames=2)) == 0
    with av.open("wide.mp4") as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (64, 32)
    assert walk("--out=vast.mp4", asked=recipe(canvas=(1, 2000), frames=2)) == 1
    assert not Path("vast.mp4").exists()


@pytest.mark.parametrize(("rows", "columns", "side"), [(1, 5, 8176), (5, 1, 8176), (2, 2, 8192), (1, 1, 8192 * 2)])
def test_a_film_that_is_too_large_with_even_sides_is_refused_before_it_is_painted(
    rows: int, columns: int, side: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walk("--out=vast.mp4", "--walkers", str(rows), str(columns), f"--side={side}") == 1
    assert "is larger than players can show, 8,192 px a side" in capsys.readouterr().err
    assert not Path("vast.mp4").exists()


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (9, 1)])
def test_a_film_has_the_size_that_was_checked(rows: int, columns: int) -> None:
    generator, _ = load_generator(GENERATOR)
    small = np.zeros((16, 16, 3), np.uint8)
    walkers = Walkers(generator, None, walks_beside(recipe(), rows * columns), rows)
    for side in range(8130, 8193, 9):
        try:
            scale = _scale(walkers, side)
        except AtelierError:
            continue
        whole = tile([enlarge(small, scale)[:, :, :1].repeat(3, 2)] * rows * columns, rows)
        assert max(whole.shape) <= 8192 and whole.shape[0] % 2 == whole.shape[1] % 2 == 0


def test_mistakes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert walk("--out=walk.gif") == 1
    assert "walk.gif is not named like a film" in capsys.readouterr().err
    GENERATOR.unlink()
    assert walk("--out=walk.mp4") == 1
    assert "g.safetensors" in capsys.readouterr().err


def test_a_walk_passes_between_the_labels_of_its_stations_or_the_recipes_or_drawn_ones() -> None:
    save_small_generator(GENERATOR, network=SMALL.with_labels(LABELS))
    plain = recipe(frames=5)
    stations = tuple(
        s.model_copy(update={"label": label}) for s, label in zip(STATIONS, ("marine", "none", None), strict=True)
    )
    course = plain.walk.model_copy(update={"stations": stations})
    assert (
        walk("--out=walk.mp4", "--frames=kept", asked=plain.model_copy(update={"walk": course, "label": "other"})) == 0
    )
    first = read_provenance(Path("kept/00000.png")).latent
    assert [station.label for station in first.walk.stations] == ["marine", "none", "other"]
    assert first.label is None
    files = sorted(Path("kept").iterdir())
    for file in files:
        assert np.array_equal(painted_again(file), np.asarray(Image.open(file)))
    generator = in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu"))
    for frame, (station, label) in {
        0: (STATIONS[0], "marine"),
        2: (STATIONS[1], None),
        4: (STATIONS[2], "other"),
    }.items():
        alone = Recipe(seed=station.seed, index=station.index, canvas=(1, 1), truncation=0.9, label=label)
        assert np.array_equal(np.asarray(Image.open(files[frame])), paint(generator, alone))
    halfway = label_weights(generator, read_provenance(files[1]).latent)
    assert torch.allclose(halfway, torch.tensor([0.0, 0.5, 0.0]))
    assert walk("--out=drawn.png", "--frame=0") == 0
    drawn = [station.label for station in read_provenance(Path("drawn.png")).latent.walk.stations]
    assert drawn == [LABELS.draw(station.seed, station.index) for station in STATIONS]


def test_walks_side_by_side_have_the_same_labels() -> None:
    course = recipe().walk
    stations = tuple(station.model_copy(update={"label": "marine"}) for station in course.stations)
    walks = walks_beside(recipe().model_copy(update={"walk": course.model_copy(update={"stations": stations})}), 3)
    assert {station.label for each in walks for station in each.walk.stations} == {"marine"}
