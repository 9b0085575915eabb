"""`atelier reproduce` and `atelier vary` on pictures of a whole history, in a clone that has only the remote."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.export.onnx_file import convert
from atelier.page.explorer import explorer_html
from atelier.pictures import png
from atelier.provenance.facts import canonical_json, read_pixels, read_provenance, write_png
from tests.browser import opened, ready, save_picture
from tests.flows.dvc_command import dvc
from tests.flows.painted_studio import PaintedStudio
from tests.flows.preloaded import Preloaded

# DVC runs five times, and each command starts Python and torch: half a minute, ten on a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# `run` returns no outcome for the first model's pictures, and raises an error for the second model's
BROKEN = """
from flows import cli
from flows.repaint import session

def run(self, with_past_code):
    session.Session.run = bug
    yield from ()

def bug(self, with_past_code):
    raise ZeroDivisionError("the easel broke")
    yield

session.Session.run = run
cli.main()
"""


class Clone:
    """A clone of the studio, in which commands run, as forks of a preloaded process if there is one."""

    def __init__(self, root: Path, environment: dict[str, str], preloaded: Preloaded | None = None) -> None:
        self.root, self.environment, self._preloaded = root, environment, preloaded

    def run(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        if self._preloaded:
            return self._preloaded.run(["flows.cli", *map(str, words)], self.root, self.environment)
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *map(str, words)],
            cwd=self.root, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip

    def reproduce(self, *words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        """The exit code, the JSON rows and stderr of `atelier reproduce`."""
        return self.rows("reproduce", *words)

    def rows(self, command: str, *words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        """The exit code, the JSON rows and stderr of a command."""
        done = self.run(command, "--json", *words)
        assert "Traceback" not in done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> PaintedStudio:
    """Forty pictures of five settings, two models and two versions of the code, and a branch with hostile code."""
    studio = PaintedStudio.new(tmp_path_factory.mktemp("reproduce") / "studio", environment)
    studio.train(0)
    studio.draws_otherwise(before=True)
    studio.paint("first", True, generate={"truncation": 0.8}, upscale={"method": "learned", "scale": 2})
    studio.draws_otherwise(before=False)
    studio.paint("canvas", generate={"canvas": [2, 3], "layout": "smooth"}, upscale={"method": "learned", "scale": 4})
    studio.paint(
        "deep", generate={"canvas": [1, 1], "layout": "random", "seed": 9},
        upscale={"method": "lanczos", "scale": 4, "bits": 16},
    )  # fmt: skip
    studio.train(1)
    studio.paint(
        "tile",
        generate={"canvas": [4, 4], "seamless": True, "seed": 1},
        upscale={"method": "learned", "scale": 2},
    )
    studio.git("tag", "atelier@v2.0.0")
    studio.paint(
        "clumps",
        generate={"canvas": [1, 4], "seamless": False, "layout": "line", "normalise": "batch"},
        upscale={"method": "lanczos", "scale": 8, "bits": 8},
    )
    studio.dvc("push -q --all-commits")
    _add_hostile_branch(studio)
    (studio.root / "dvc.lock").unlink()
    studio.edit(generate={"seed": 5}, upscale={"scale": 8})
    studio.commit("all has moved on")
    return studio


@pytest.fixture(scope="module")
def clone(studio: PaintedStudio, api_url: str, preloaded: Preloaded) -> Clone:
    root = studio.root.parent / "elsewhere" / "clone"
    studio.git("clone", "-q", str(studio.root), str(root))
    return Clone(root, {**studio.environment, "PREFECT_API_URL": api_url}, preloaded)


@pytest.fixture(scope="module")
def alone(studio: PaintedStudio, clone: Clone) -> Clone:
    """The clone without a configured Prefect server, and without Prefect: importing it is an error."""
    site = studio.root.parent / "site"
    (site / "prefect").mkdir(parents=True)
    (site / "prefect/__init__.py").write_text("raise ImportError('prefect is imported')")
    path = f"{site}:{studio.environment['PYTHONPATH']}"
    return Clone(clone.root, {**studio.environment, "PYTHONPATH": path})


def test_every_picture_of_the_history_is_reproduced_from_its_png_alone(studio: PaintedStudio, clone: Clone):
    files = sorted(studio.gallery.rglob("*.png"))
    assert len(files) == 40
    status, rows, said = clone.reproduce(*files, "--out", "again")
    assert Counter(row["verdict"] for row in rows) == {"identical": 40}, said
    assert status == 0
    first = studio.git("rev-parse", ":/^first")
    codes = {Path(row["file"]).parts[-3]: row["code"] for row in rows}
    assert codes == {"first": first, "canvas": None, "deep": None, "tile": None, "clumps": None}
    for row in rows:
        (written,) = row["written"]
        assert Path(written).read_bytes() == Path(row["file"]).read_bytes()
    assert not (studio.root.parent / "hostile").exists()


def test_after_dvc_gc_the_model_is_fetched_from_the_remote(studio: PaintedStudio, alone: Clone):
    dvc(alone.root, alone.environment, "gc", "-q", "-f", "-w")
    assert not [path for path in (alone.root / ".dvc/cache/files").rglob("*") if path.is_file()]
    print_ = studio.gallery / "tile/prints/1-00003.png"
    done = alone.run("reproduce", print_, "--explain")
    assert done.returncode == 0, done.stderr
    assert f"{print_}: identical" in done.stdout
    assert "atelier@v2.0.0" in done.stdout


def test_edited_different_and_refused_pictures_have_their_verdicts_with_and_without_prefect(
    studio: PaintedStudio, clone: Clone, alone: Clone, tmp_path: Path
):
    edited, hostile, lost, missing = (tmp_path / f"{name}.png" for name in ("edited", "hostile", "lost", "missing"))
    artwork, print_ = (studio.gallery / f"tile/{kind}/1-00001.png" for kind in ("artworks", "prints"))
    _repaint(artwork, edited)
    made = read_provenance(artwork)
    write_png(hostile, 255 - read_pixels(artwork), made)  # as the hostile code would paint it
    model = made.model.model_copy(update={"md5": "0" * 32, "sha256": "0" * 64})
    write_png(lost, read_pixels(artwork), made.model_copy(update={"model": model}))

    files = (edited, hostile, lost, artwork, print_, missing)
    status, rows, said = clone.reproduce(*files)
    assert status == 1
    verdicts = ("edited", "different", "refused", "identical", "identical", "refused")
    assert {row["file"]: row["verdict"] for row in rows} == dict(zip(map(str, files), verdicts, strict=True))
    by_name = {Path(row["file"]).name: row for row in rows}
    assert "6 of 1,024 pixels differ, in columns 3 to 5, rows 7 to 8" in by_name["edited.png"]["said"]
    (as_made,) = by_name["edited.png"]["written"]
    assert (clone.root / as_made).read_bytes() == artwork.read_bytes()
    assert by_name["hostile.png"]["differing"] > 2000
    assert "git branch trusted" in said
    assert "no commit here names it" in by_name["lost.png"]["said"]
    assert not (studio.root.parent / "hostile").exists()

    some = (artwork, print_, edited, missing)
    status, rows_alone, _ = alone.reproduce(*some)
    assert (status, len(rows_alone)) == (1, 4)
    assert all(row in rows for row in rows_alone)
    assert not [*(clone.root / ".atelier/reproduce").glob("tmp*")]


def test_variations_of_a_picture_are_painted_and_can_be_reproduced(
    studio: PaintedStudio, clone: Clone, alone: Clone, tmp_path: Path
):
    artwork = studio.gallery / "deep/artworks/9-00002.png"
    options = ("--count", "2", "--canvas", "2x2", "--move", "0:1.5", "--out", tmp_path / "out")
    status, (row, variations), said = clone.rows("vary", artwork, *options)
    assert (status, row["verdict"]) == (0, "identical"), said
    names = ["9-00002-2x2-moved-0-1.5-variation-0.png", "9-00002-2x2-moved-0-1.5-variation-1.png"]
    assert [Path(path).name for path in variations["relatives"]] == [*names, "9-00002-variations.png"]
    recipe = read_provenance(tmp_path / "out" / names[1]).latent
    assert (recipe.canvas, recipe.grown_from) == ((2, 2), (1, 1))
    assert recipe.variation and recipe.variation.number == 1
    words = (tmp_path / "out" / names[1], "--count", "1", "--out", tmp_path)
    status, (_, further), said = alone.rows("vary", *words)
    assert status == 0, said
    status, rows, said = alone.reproduce(*(tmp_path / "out" / name for name in names), further["relatives"][0])
    assert (status, [row["verdict"] for row in rows]) == (0, ["identical"] * 3), said


def test_a_file_that_cannot_be_written_ends_with_exit_code_1(studio: PaintedStudio, clone: Clone):
    artwork = studio.gallery / "tile/artworks/1-00001.png"
    (clone.root / "notes").write_text("mine")
    refused = clone.run("reproduce", artwork, "--out", "notes")
    assert (refused.returncode, refused.stderr) == (
        1,
        "--out notes is a file: name a folder, which is made where there is none\n",
    )
    status, (row,), said = clone.reproduce(artwork, "--out", "notes/deeper")
    assert (status, row["verdict"]) == (1, "identical")
    assert f"notes/deeper/{artwork.stem} cannot be written: Not a directory" in row["said"]
    assert "Finished in state Failed(" in said
    assert (clone.root / "notes").read_text() == "mine"


@pytest.mark.parametrize("with_server", [True, False])
def test_after_a_bug_every_file_has_a_verdict_and_the_exit_code_is_1(
    studio: PaintedStudio, clone: Clone, preloaded: Preloaded, with_server: bool
):
    files = [str(studio.gallery / name / "artworks/1-00001.png") for name in ("tile", "first")]
    environment = clone.environment if with_server else studio.environment
    broken = preloaded.run(["-c", BROKEN, "reproduce", "--json", *files], clone.root, environment)
    assert broken.returncode == 1
    rows = [json.loads(line) for line in broken.stdout.splitlines()]
    assert sorted(row["file"] for row in rows) == sorted(files)
    assert {row["verdict"] for row in rows} == {"refused"}
    assert all("no verdict: " in row["said"] and "the easel broke" in row["said"] for row in rows)
    assert ("Finished in state Failed(" in broken.stderr) == with_server


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_leaves_no_temporary_files(studio: PaintedStudio, clone: Clone, number: int, status: int):
    scratch = clone.root / ".atelier/reproduce"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "reproduce", studio.gallery / "tile/artworks/1-00001.png"],
        cwd=clone.root, env=studio.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not [*scratch.glob("tmp*/jobs.json")]:  # then its painting process is starting
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=100)[1]
    assert (process.returncode, [*scratch.glob("tmp*")]) == (status, []), said
    assert "Traceback" not in said


def _repaint(source: Path, target: Path) -> None:
    """Copy a picture with other pixels but the same provenance, as an image editor might."""
    made, pixels = read_provenance(source), np.array(Image.open(source))
    pixels[7:9, 3:6] ^= 255
    png.write(target, pixels, canonical_json(made))


def _add_hostile_branch(studio: PaintedStudio) -> None:
    """Add a branch whose code leaves a file `hostile` if it runs; a clone has it as a remote's branch only."""
    mark = studio.root.parent / "hostile"
    studio.git("checkout", "-q", "-b", "hostile")
    for name in ("canvas/paint.py", "provenance/repaint.py", "__init__.py"):
        path = studio.root / "atelier" / name
        path.write_text(f"{path.read_text()}\nopen({str(mark)!r}, 'w').close()\n")
    studio.commit("hostile code")
    studio.git("checkout", "-q", "main")


def test_pictures_that_a_browser_saved_are_confirmed(studio: PaintedStudio, alone: Clone, tmp_path: Path) -> None:
    """Of twenty seeds and of five canvases, from the page of the second model."""
    generator, page_file = studio.root / "data/model/generator.safetensors", tmp_path / "explore.html"
    page_file.write_bytes(explorer_html(generator, convert(generator, field=True)))
    folder = tmp_path / "saved"
    folder.mkdir()
    with opened(page_file) as page:
        ready(page)
        for seed in range(20):
            page.fill("#seed", str(seed))
            save_picture(page, folder)
        for rows, columns in ((1, 2), (2, 1), (2, 3), (3, 3), (4, 4)):
            page.select_option("#rows", str(rows))
            page.select_option("#columns", str(columns))
            save_picture(page, folder)
    code, rows_printed, _ = alone.reproduce(*sorted(folder.iterdir()))
    assert code == 0
    assert len(rows_printed) == 25
    assert {row["verdict"] for row in rows_printed} <= {"identical", "within 1/255"}
