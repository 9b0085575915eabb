"""Stage generate writes TIFFs for pictures that are too large for PNGs; the limit is small in these tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from atelier.canvas import murals
from atelier.canvas.paint import Painting, paint
from atelier.errors import AtelierError
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.paths import ARTWORKS, GENERATOR
from atelier.provenance import repaint
from atelier.provenance.facts import (
    MURAL_LOCK,
    Job,
    Jobs,
    PixelFacts,
    canonical_json,
    read_pixels,
    read_provenance,
    write_tiff,
)
from atelier.settings.schema import Params
from tasks import upscale
from tasks.generate import run
from tasks.stage import Stage
from tests.models import save_small_generator

CANVAS = [5, 20]  # 64 × 184 px
STATE = Path(".atelier/generate")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(murals, "MURAL_PX", 10_000)
    monkeypatch.setattr(murals, "TILE_PX", 50)
    save_small_generator()


def stage(name: str = "generate", **generate: object) -> Stage:
    return Stage(name, Params.model_validate({"generate": {"count": 3, "canvas": CANVAS, **generate}}))


def artworks() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(ARTWORKS.iterdir())}


def test_murals_have_the_pixels_that_their_recipes_paint_at_once() -> None:
    summary = run(stage(seed=4, layout="smooth"))
    assert [*artworks()] == ["4-00000.tif", "4-00001.tif", "4-00002.tif"]
    assert summary == "3 murals of 184 × 64 px, seed 4"
    generator = in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu"))
    for path in ARTWORKS.iterdir():
        assert np.array_equal(read_pixels(path), paint(generator, read_provenance(path).latent))
    assert Image.open("data/contact_sheet.png").size == (184 + 4, 3 * 66 + 2)
    assert not STATE.exists()


def test_an_interrupted_run_continues_and_writes_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage())
    whole, painted, region = artworks(), [], Painting.region
    tiles = 2 * 4

    def counted(self: Painting, *where: int) -> np.ndarray:
        if len(painted) == tiles + 3:
            raise KeyboardInterrupt
        painted.append(where)
        return region(self, *where)

    for path in ARTWORKS.iterdir():
        path.unlink()
    monkeypatch.setattr(Painting, "region", counted)
    with pytest.raises(KeyboardInterrupt):
        run(stage())
    assert not artworks() and len([*STATE.iterdir()]) == 2
    painted.append(())  # past where it stops
    run(stage())
    assert artworks() == whole and len(painted) == 3 * tiles + 1


def test_unfinished_murals_of_other_settings_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Painting, "region", stop)
        for seed in (5, 6):
            with pytest.raises(KeyboardInterrupt):
                run(stage(seed=seed))
    (begun,) = STATE.iterdir()
    (begun / "mural.tif").write_bytes(b"of seed 6")
    run(stage(seed=5))
    assert [read_provenance(path).latent.seed for path in ARTWORKS.iterdir()] == [5, 5, 5]


def test_murals_that_do_not_fit_on_the_disk_are_refused_and_the_earlier_artworks_stay() -> None:
    run(stage())
    before = artworks()
    with pytest.raises(AtelierError, match=r"2,000 murals of 20,024 × 20,024 px may need .* generate\.count"):
        run(stage(canvas=[2500, 2500], count=2_000))
    assert artworks() == before


def test_the_upscaler_skips_murals() -> None:
    run(stage())
    params = Params.model_validate({"upscale": {"method": "lanczos"}})
    assert "3 murals" in upscale.run(Stage("upscale", params))
    assert not [*Path("data/prints").iterdir()]


def job_of(path: Path) -> Job:
    return Job(
        name="1",
        provenance=json.loads(canonical_json(read_provenance(path))),
        generator=GENERATOR.resolve(),
        to=Path("again.npy"),
        kept=Path("kept"),
    )


def painted_again(job: Job) -> PixelFacts | None:
    (answer,) = repaint.answers(Jobs(jobs=[job]), torch.device("cpu"))
    assert not answer.refused
    return answer.pixels


def test_a_murals_provenance_paints_the_same_file_again() -> None:
    run(stage(count=1, layout="smooth"))
    (path,) = ARTWORKS.iterdir()
    made, job = read_provenance(path), job_of(path)
    assert painted_again(job) == made.pixels
    write_tiff(Path("again.tif"), job.to, made, lambda share: None)
    assert Path("again.tif").read_bytes() == path.read_bytes()


def test_repainting_a_mural_continues_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage(count=1))
    (path,) = ARTWORKS.iterdir()
    asked, region = [], Painting.region

    def counted(self: Painting, *where: int) -> np.ndarray:
        asked.append(where)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return region(self, *where)

    monkeypatch.setattr(Painting, "region", counted)
    with pytest.raises(KeyboardInterrupt):
        painted_again(job_of(path))
    assert painted_again(job_of(path)) == read_provenance(path).pixels
    assert len(asked) == 8 + 1 and len({*asked}) == 8


def test_a_mural_that_another_process_is_painting_is_painted_in_a_folder_of_its_own() -> None:
    run(stage(count=1))
    (path,) = ARTWORKS.iterdir()
    job = job_of(path)
    painted_again(job)
    (folder,) = Path("kept").iterdir()
    job.to.unlink()
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    with FileLock(folder / MURAL_LOCK):
        assert painted_again(job) == read_provenance(path).pixels
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
