"""The commands `atelier paint`, `walk`, `refilm`, `directions` and the options of `vary`."""

import importlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from atelier import __version__
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Move, Recipe, Station, Walk
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.film.encode import FilmFacts, write_film
from atelier.model_store import BASE_MODEL
from atelier.networks import load_generator
from atelier.networks.labels import Labels
from atelier.networks.latent_field import in_double_precision
from atelier.provenance.facts import ModelFacts, Provenance, SoftwareFacts, read_provenance, write_png
from flows import cli
from flows.runtime import process
from tests.models import LABELS, SMALL, save_small_generator

ROOT = Path(__file__).parents[3]
GENERATOR = Path("data/model/generator.safetensors")


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A studio with a small model, whose truncation is 0.7 and not the default."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("truncation: 1.0", "truncation: 0.7"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    save_small_generator(GENERATOR)
    return tmp_path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command starts as a child process, because it imports torch, runs in this process, which has torch."""

    def foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
        python, _, module, *words = command
        assert python == sys.executable
        return importlib.import_module(module).main(words)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(process, "foreground", foreground)
    yield
    signal.signal(signal.SIGTERM, before)


def run(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, list(words), catch_exceptions=False)


def atelier(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def painted(path: Path, **changes: object) -> None:
    """Write a black picture with the provenance of the studio's model; `changes` are made to its recipe."""
    latent = Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0).model_copy(update=changes)
    header = {"arch": SMALL.arch, "resolution": SMALL.resolution, "settings": SMALL.settings}
    software = SoftwareFacts(atelier=__version__, torch=torch.__version__)
    made = Provenance(model=ModelFacts.of(GENERATOR, header), latent=latent, software=software)
    write_png(path, np.zeros((32, 32, 3), np.uint8), made)


def refused(*words: str) -> str:
    """Run a command that must fail, and return its message."""
    with pytest.raises(AtelierError) as error:
        CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seeds=3"], "a walk has from 2 to 64 stations"),
        (["--seeds=3,sea"], "'sea' names no picture"),
        (["--seeds=3,4294967296"], "names no picture"),
        (["--seeds=3,14", "--seconds=0.1", "--fps=1"], "0.1 s at 1 frames a second are 0"),
        (["--seeds=3,14", "--frame=360"], "--frame 360: there are 360 frames, counted from 0"),
        (["--seeds=3,14", "--frame=3", "--out=walk.mp4"], "a frame is a .png"),
        (["--seeds=3,14", "--frame=3", "--frames=all"], "for one frame"),
        (["--seeds=3,14", "--grid=2by3"], "--grid '2by3' is no size: say rows x columns, 3x5"),
        (["--seeds=3,14", "--grid=100x100"], "at most 256 walkers"),
        (["--seeds=3,14", "--canvas=0x1"], "--canvas '0x1' is no size"),
        (["--seeds=3,none.png"], "none.png"),
        (
            ["--seeds=3,14", "--labels=marine,other,landscape"],
            "name one label for each of the 2 stations, or one for all",
        ),
        (["--seeds=3,14", "--labels=marine,"], "name one label"),
        (["--seeds=3,14", "--labels=marine\nother\n"], "name one label"),
        (["--seeds=3,14", "--labels="], "name one label"),
        (["--seeds=3", "--labels=marine"], "a walk has from 2 to 64 stations"),
    ],
)
def test_an_impossible_walk_is_refused_with_a_message(words: list[str], sentence: str) -> None:
    assert sentence in refused("walk", *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "say what to change: --count 8, --canvas 3x5 or --move 2:1.5"),
        (["--canvas=3by5"], "--canvas '3by5' is no size"),
        (["--move=up"], "--move 'up' is not a direction and an amount"),
        (["--move=0:1e9"], "of up to 100 either way"),
    ],
)
def test_impossible_variations_are_refused_with_a_message(words: list[str], sentence: str) -> None:
    assert sentence in refused("vary", "one.png", *words)


@pytest.mark.parametrize(("photo", "out"), [("sea.png", "sea.png"), ("sea-beside.png", "sea.png")])
def test_a_projection_never_replaces_the_photo(photo: str, out: str) -> None:
    Path(photo).write_bytes(b"a person's only copy")
    assert f"--out {out} would replace {photo}: name another file" in refused("project", photo, "--out", out)
    assert Path(photo).read_bytes() == b"a person's only copy"


@pytest.mark.usefixtures("in_process")
def test_an_artwork_can_be_a_station_if_its_recipe_is_a_seed_alone() -> None:
    painted(Path("one.png"))
    painted(Path("moved.png"), moves=(Move(direction=0, amount=1.0),))
    assert "moved.png is a walk's frame, a variation or a moved picture" in refused("walk", "--seeds=3,moved.png")
    walk = run("walk", "--seeds=3:2,one.png", "--seconds=1", "--frame=10", "--out=f.png")
    assert walk.exit_code == 0, walk.output
    latent = read_provenance(Path("f.png")).latent
    assert latent.walk.stations == (Station(seed=3, index=2), Station(seed=1, index=7))
    assert (latent.walk.frame, latent.walk.frames, latent.truncation) == (10, 30, 0.7)
    save_small_generator(GENERATOR, seed=1)
    assert "painted by another model" in refused("walk", "--seeds=3,one.png")


@pytest.mark.usefixtures("in_process")
def test_refilm_makes_the_same_film_from_the_file_alone() -> None:
    words = ["--seeds=3,14", "--seconds=1", "--fps=6", "--grid=1x2", "--side=64", "--canvas=1x2", "--loop"]
    walk = atelier("walk", *words, "--out=made/walk.webm")
    assert walk.wait(100) == 0, walk.stderr.read()
    Path("models").mkdir()
    GENERATOR.rename("models/once.safetensors")
    save_small_generator(GENERATOR, seed=1)
    again = run("refilm", "made/walk.webm", "--frames=frames")
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "made/walk.webm: identical"), again.output
    assert Path(".atelier/walks/walk-again.webm").read_bytes() == Path("made/walk.webm").read_bytes()
    one = run("refilm", "made/walk.webm", "--frame=4", "--out=f.png")
    assert one.exit_code == 0, one.output
    assert Path("f-2.png").read_bytes() == Path("frames/00004-2.png").read_bytes()


@pytest.mark.usefixtures("in_process")
def test_refilm_reports_a_film_that_differs_from_its_walk() -> None:
    write_black_film("cut", film_facts(frames=4).model_dump_json())  # which has three frames
    again = run("refilm", "cut.mp4")
    assert again.exit_code == 1
    assert "cut.mp4: different, though it is the same walk" in again.stdout


def test_refilm_refuses_other_files_with_a_message() -> None:
    facts = film_facts(frames=4)
    made = read_provenance(Path("one.png")).model_copy(update={"pixels": None})
    nobody = made.model.model_copy(update={"sha256": "0" * 64, "md5": "0" * 32})
    of_nobody = facts.first.model_copy(update={"model": nobody})
    for name, comment in {
        "walk": facts.model_dump_json(),
        "other": facts.model_copy(update={"first": of_nobody}).model_dump_json(),
        "huge": facts.model_copy(update={"walkers": (200, 200)}).model_dump_json(),
        "still": facts.model_copy(update={"first": made}).model_dump_json(),
        "foreign": "made by hand",
    }.items():
        write_black_film(name, comment)
    Path("text.mp4").write_text("no film")
    for film, words, sentence in (
        ("walk.mp4", ["--frame=4"], "--frame 4: there are 4 frames"),
        ("walk.mp4", ["--out=walk.mp4"], "name another file that ends in .mp4"),
        ("walk.mp4", ["--out=w.webm"], "name another file that ends in .mp4"),
        ("other.mp4", [], "other.mp4: its generator, SHA-256 000000000000…, was not found"),
        ("huge.mp4", [], "walkers"),
        ("still.mp4", [], "its first frame belongs to no walk"),
        ("foreign.mp4", [], "foreign.mp4 does not describe a walk of this version (JSON: "),
        ("text.mp4", [], "text.mp4 is no film, or a damaged one"),
        ("one.png", [], "one.png is not named like a film"),
        ("none.webm", [], "none.webm is missing: name a film"),
    ):
        assert sentence in refused("refilm", film, *words)


def film_facts(frames: int) -> FilmFacts:
    """The facts of a film that walks from one seed to another, with the model of a new picture `one.png`."""
    painted(Path("one.png"))
    made = read_provenance(Path("one.png")).model_copy(update={"pixels": None})
    stations = (Station(seed=3, index=0), Station(seed=14, index=0))
    walk = Walk(stations=stations, frame=0, frames=frames, loop=False, easing="smooth")
    latent = made.latent.model_copy(update={"seed": 3, "index": 0, "walk": walk})
    return FilmFacts(first=made.model_copy(update={"latent": latent}), walkers=(1, 1), fps=4)


def write_black_film(name: str, comment: str) -> None:
    write_film(Path(f"{name}.mp4"), iter([np.zeros((64, 64, 3), np.uint8)] * 3), 4, comment)


def test_a_stopped_walk_leaves_no_partial_film(studio: Path) -> None:
    walk = atelier("walk", "--seeds=3,14", "--seconds=3000", "--side=64", "--out=out/walk.mp4")
    until_s = time.monotonic() + 100
    while not any(film.stat().st_size for film in studio.glob("out/.walk.mp4.*")):
        assert walk.poll() is None and time.monotonic() < until_s, walk.communicate()
        time.sleep(0.05)
    walk.send_signal(signal.SIGINT)
    _, words = walk.communicate(timeout=100)
    assert walk.returncode == 130
    assert words == "stopped; with --frames what is painted is kept, and the same command goes on\n"
    assert list(Path("out").iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_directions_can_be_drawn_from_any_folder_of_the_studio(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(Path("one.png"))
    monkeypatch.chdir(studio / "data")
    drawn = run("directions", "--seeds=../one.png", "--count=1", "--out=sheet.png", "--save=kept")
    assert drawn.exit_code == 0, drawn.output
    assert (studio / "data/sheet.png").is_file()
    assert (studio / "data/kept/1-00007-d0+3.png").is_file()
    assert "a sheet is a .png" in refused("directions", "--out=sheet.jpg")


def test_the_base_model_paints_without_data_and_writes_provenance(studio: Path):
    shutil.copytree(ROOT / BASE_MODEL, BASE_MODEL)
    said, _ = atelier("paint", "--count", "3", "--seed", "5", "--canvas", "1x2").communicate()
    folder = Path(".atelier/painted/base-5")
    assert f"3 pictures of 128 × 64 px in {folder}" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "5-00000.png", "5-00001.png", "5-00002.png", "contact_sheet.png",
    ]  # fmt: skip
    made = read_provenance(folder / "5-00002.png")
    assert made.model.sha256 == digest(BASE_MODEL / "generator.safetensors")
    assert (made.latent.seed, made.latent.index, made.latent.canvas, made.latent.truncation) == (
        5,
        2,
        (1, 2),
        0.7,
    )
    generator, _ = load_generator(BASE_MODEL / "generator.safetensors")
    with Image.open(folder / "5-00002.png") as picture:
        assert np.array_equal(
            np.array(picture), paint(in_double_precision(generator, torch.device("cpu")), made.latent)
        )


@pytest.mark.usefixtures("in_process")
def test_paint_accepts_any_model_and_refuses_other_files_with_a_message(studio: Path):
    assert "2 pictures of 32 × 32 px in" in run("paint", "--from=data/model", "--count=2", "--out=mine").stdout
    assert read_provenance(Path("mine/1-00001.png")).model.sha256 == digest(GENERATOR)
    assert "--out mine holds files, which pictures might replace" in refused(
        "paint", "--from", "data/model", "--out", "mine"
    )
    assert "the base model, is missing: `git checkout -- models/base-64-" in refused("paint")
    assert "nothing.safetensors is missing" in run("paint", "--from=nothing.safetensors").stderr
    told = run("paint", "--from=data/model", "--canvas=1500x1500")
    assert told.exit_code == 1
    assert "is a mural, which stage generate paints" in told.stderr
    assert "Traceback" not in told.output


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seeds=3,14"], [LABELS.draw(3, 0), LABELS.draw(14, 0)]),
        (["--seeds=3,14", "--labels=marine"], ["marine", "marine"]),
        (["--seeds=3,14", "--labels=marine, none"], ["marine", "none"]),
        (["--seeds=3", "--labels=marine,landscape,other"], ["marine", "landscape", "other"]),
    ],
)
def test_a_walk_passes_through_the_named_labels_or_those_of_the_pictures(words: list[str], expected: list[str]) -> None:
    save_small_generator(GENERATOR, network=SMALL.with_labels(LABELS))
    assert run("walk", *words, "--frame=1", "--out=f.png").exit_code == 0
    walk = read_provenance(Path("f.png")).latent.walk
    assert walk is not None
    assert [station.label for station in walk.stations] == expected


@pytest.mark.usefixtures("in_process")
def test_a_label_with_a_comma_stands_in_quotation_marks_and_labels_are_in_the_films_name() -> None:
    artists = Labels("artist", ("Monet, Claude", "van Gogh"), (30, 20))
    save_small_generator(GENERATOR, network=SMALL.with_labels(artists))
    assert run("walk", "--seeds=3:7,14", '--labels="Monet, Claude", van Gogh', "--frame=1").exit_code == 0
    walk = read_provenance(Path(".atelier/walks/walk-3.7-14-monet-claude-van-gogh-00001.png")).latent.walk
    assert walk is not None
    assert [station.label for station in walk.stations] == ["Monet, Claude", "van Gogh"]


@pytest.mark.usefixtures("in_process")
def test_generate_label_is_not_asked_of_another_model() -> None:
    save_small_generator(GENERATOR, network=SMALL.with_labels(LABELS))
    save_small_generator(Path("models/sea/generator.safetensors"))
    Path("params.yaml").write_text("generate: {label: marine}\n")
    other = "--model=models/sea/generator.safetensors"
    assert run("walk", "--seeds=3,14", "--frame=1", other).exit_code == 0
    assert read_provenance(Path(".atelier/walks/walk-3-14-sea-00001.png")).latent.label is None
    assert run("directions", "--count=1", other).exit_code == 0
    assert run("walk", "--seeds=3,14", "--frame=1").exit_code == 0
    latent = read_provenance(Path(".atelier/walks/walk-3-14-00001.png")).latent
    assert latent.walk is not None
    assert [station.label or latent.label for station in latent.walk.stations] == ["marine", "marine"]


@pytest.mark.usefixtures("in_process")
def test_a_walk_through_painted_pictures_has_their_labels() -> None:
    save_small_generator(GENERATOR, network=SMALL.with_labels(LABELS))
    assert run("paint", "--from=data/model", "--count=2", "--label=other", "--out=painted").exit_code == 0
    assert run("paint", "--from=data/model", "--count=2", "--seed=2", "--out=drawn").exit_code == 0
    labels = [read_provenance(path).latent.label for path in sorted(Path("drawn").glob("2-*.png"))]
    assert labels == [LABELS.draw(2, 0), LABELS.draw(2, 1)]
    words = ("--seeds=painted/1-00000.png,drawn/2-00001.png", "--seconds=1", "--frame=29", "--out=f.png")
    assert run("walk", *words).exit_code == 0
    walk = read_provenance(Path("f.png")).latent.walk
    assert walk is not None
    assert [station.label for station in walk.stations] == ["other", labels[1]]
    assert run("paint", "--from=data/model", "--label=sea", "--out=sea").exit_code == 1
