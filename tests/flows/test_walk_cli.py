"""`atelier walk` and `atelier directions` as typed by a person."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from atelier import __version__
from atelier.canvas.recipe import Move, Recipe, Station
from atelier.errors import AtelierError
from atelier.provenance import ModelFacts, Provenance, SoftwareFacts, read, write_png
from flows import cli
from tests.models import SMALL, save_small_generator

ROOT = Path(__file__).parents[2]
GENERATOR = Path("data/model/generator.safetensors")


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A studio with a model, calmer than by default."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("truncation: 1.0", "truncation: 0.7"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    save_small_generator(GENERATOR)
    return tmp_path


def atelier(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def painted(path: Path, **changes: object) -> None:
    """A picture of ours; its pixels matter to nobody here."""
    latent = Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0).model_copy(update=changes)
    header = {"arch": SMALL.arch, "resolution": SMALL.resolution, "settings": SMALL.settings}
    software = SoftwareFacts(atelier=__version__, torch=torch.__version__)
    made = Provenance(model=ModelFacts.of(GENERATOR, header), latent=latent, software=software)
    write_png(path, np.zeros((32, 32, 3), np.uint8), made)


def refused(*words: str) -> str:
    """The sentence with which a command that paints nothing ends."""
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
        (["--seeds=3,14", "--frame=360"], "--frame 360 is none of 360, which are counted from 0"),
        (["--seeds=3,14", "--frame=3", "--out=walk.mp4"], "a frame is a .png"),
        (["--seeds=3,14", "--frame=3", "--frames=all"], "for one of them"),
        (["--seeds=3,14", "--grid=2by3"], "--grid '2by3' is no size: say rows x columns, 3x5"),
        (["--seeds=3,14", "--grid=100x100"], "at most 256 walkers"),
        (["--seeds=3,14", "--canvas=0x1"], "--canvas '0x1' is no size"),
        (["--seeds=3,none.png"], "none.png"),
    ],
)
def test_what_cannot_be_walked_is_a_sentence(words: list[str], sentence: str) -> None:
    assert sentence in refused("walk", *words)


def test_an_artwork_may_be_a_station_unless_its_seed_alone_does_not_give_it() -> None:
    painted(Path("one.png"))
    painted(Path("moved.png"), moves=(Move(direction=0, amount=1.0),))
    assert "moved.png is no picture as its seed gives it" in refused("walk", "--seeds=3,moved.png")
    walk = atelier("walk", "--seeds=3:2,one.png", "--seconds=1", "--frame=10", "--out=f.png")
    assert walk.wait(100) == 0, walk.stderr.read()
    latent = read(Path("f.png")).latent
    assert latent.walk.stations == (Station(seed=3, index=2), Station(seed=1, index=7))
    assert (latent.walk.frame, latent.walk.frames, latent.truncation) == (10, 30, 0.7)
    save_small_generator(GENERATOR, seed=1)
    assert "painted by another model" in refused("walk", "--seeds=3,one.png")


def test_a_walk_that_is_stopped_leaves_no_half_film(studio: Path) -> None:
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


def test_directions_are_drawn_from_any_folder_of_the_studio(
    studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted(Path("one.png"))
    monkeypatch.chdir(studio / "data")
    drawn = atelier("directions", "--seeds=../one.png", "--count=1", "--out=sheet.png", "--save=kept")
    assert drawn.wait(100) == 0, drawn.stderr.read()
    assert (studio / "data/sheet.png").is_file()
    assert (studio / "data/kept/1-00007-d0+3.png").is_file()
    assert "a sheet is a .png" in refused("directions", "--out=sheet.jpg")
