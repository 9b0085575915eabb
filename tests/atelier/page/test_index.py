"""The page of a run: what it shows, in a real browser, and what it does with hostile texts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from atelier.page.index import STAGES, write_page
from atelier.progress import ignore_progress
from atelier.provenance.facts import read_provenance, write_tiff
from tests.browser import WIDTHS_PX, check_accessibility, opened, slide
from tests.run_outputs import make_outputs

PAGE, MODEL_FACTS = Path("data/page"), Path("data/model/model.json")
HOSTILE = "<script>alert(1)</script>\"'\u202e\u2066 onerror=alert(2) " + "x" * 100_000


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_artworks_open_large_and_the_film_shows_each_snapshot(width_px: int, browser: Any) -> None:
    make_outputs()
    write_page(PAGE, times=False)
    with opened(PAGE / "index.html", width_px, browser) as page:
        check_accessibility(page)
        page.click("a.artwork >> nth=1")
        assert page.inner_text("#large-name") == "1-00001"
        assert page.inner_text("#large-command") == "atelier reproduce data/artworks/1-00001.png"
        check_accessibility(page)
        page.click("#large-next")
        assert page.inner_text("#large-recipe") == "picture 2 of seed 1"
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#large-name") == "1-00001"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.dataset.name") == "1-00001"
        assert "At 1.5 kimg it went back to 1 kimg: its coverage fell." in page.inner_text("main")
        slide(page, "#film", 0)
        assert page.inner_text("#grid-kimg") == "1"
        assert page.get_attribute("#grid", "src") == "grids/000001.000.webp"
        links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        pictures = page.eval_on_selector_all("img[src]", "pictures => pictures.map(picture => picture.src)")
    for address in {*links, *pictures}:
        assert Path(address.removeprefix("file://").partition("#")[0]).is_file(), address


def test_a_model_that_started_from_an_imported_one_has_a_page_that_says_so() -> None:
    make_outputs()
    model = json.loads(MODEL_FACTS.read_text())
    start = {"generator_sha256": "5ea" + "0" * 61, "imported": {"format": "torch7"}}
    MODEL_FACTS.write_text(json.dumps({**model, "start": start}))
    write_page(PAGE, times=False)
    assert "It started from the model 5ea000000000, which was imported." in (PAGE / "index.html").read_text()


@pytest.mark.parametrize("title", [HOSTILE[:200], HOSTILE], ids=["short", "of 100 kB"])
def test_titles_and_reasons_are_text_and_never_markup(title: str, browser: Any) -> None:
    make_outputs(title=title)
    write_page(PAGE, times=False)
    html = (PAGE / "index.html").read_text()
    assert "<script>alert" not in html and "\u202e" not in html
    assert len(html) < 200_000
    with opened(PAGE / "index.html", browser=browser) as page:
        assert "<script>alert(1)</script>" in page.inner_text(".paintings")
        assert page.evaluate("document.querySelectorAll('script').length") == 1


def test_equal_runs_have_equal_pages_and_small_first_views() -> None:
    make_outputs(artworks=2)
    digests = []
    for _ in range(2):
        write_page(PAGE)
        files = sorted(path for path in PAGE.rglob("*") if path.is_file())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]
    assert sum(path.stat().st_size for path in PAGE.rglob("*") if path.suffix in (".html", ".webp")) < 1_500_000
    with Image.open(PAGE / "artworks/1-00000.webp") as thumbnail:
        assert thumbnail.size == (32, 32)


def test_the_diagram_has_the_stages_of_the_pipeline_in_order() -> None:
    pipeline = yaml.safe_load((Path(__file__).parents[3] / "dvc.yaml").read_text())
    assert list(STAGES) == list(pipeline["stages"])


def test_a_run_without_reports_has_a_page_nevertheless(browser: Any) -> None:
    make_outputs(artworks=1)
    for path in ("metrics.json", "data/evaluation/summary.txt", "data/evaluation/nearest.png", "data/catalog.json"):
        Path(path).unlink()
    write_page(PAGE, times=False)
    with opened(PAGE / "index.html", browser=browser) as page:
        assert page.inner_text("h1") == "Atelier"


def test_a_mural_is_zoomed_by_its_tiles(browser: Any) -> None:
    make_outputs(artworks=1)
    picture = read_provenance(Path("data/artworks/1-00000.png"))
    pixels = np.full((700, 1200, 3), (40, 120, 200), np.uint8) + np.arange(700, dtype=np.uint8)[:, None, None] // 8
    np.save("mural.npy", pixels)
    mural = picture.model_copy(update={"latent": picture.latent.model_copy(update={"seed": 2}), "pixels": None})
    write_tiff(Path("data/artworks/2-00000.tif"), Path("mural.npy"), mural, ignore_progress)
    write_page(PAGE, times=False)
    with opened(PAGE / "index.html", browser=browser) as page:
        page.click("a.artwork >> nth=1")
        assert page.inner_text("#large-size") == "1200 × 700 px"
        page.wait_for_selector("#zoom canvas")
        page.wait_for_timeout(500)
    with Image.open(PAGE / "murals/2-00000_files/11/0_0.webp") as tile:  # the largest level
        assert np.abs(np.asarray(tile).astype(int)[200:300, 200:300] - pixels[200:300, 200:300]).max() < 12
