"""A folder for a static host: what is in it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from atelier.errors import AtelierError
from atelier.export.__main__ import publish
from atelier.paths import METRICS, PRINTS
from atelier.provenance.facts import read_provenance, write_png
from tests.browser import opened
from tests.run_outputs import make_outputs


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_folder_has_the_model_its_card_the_page_and_a_list_of_works() -> None:
    make_outputs(title="Calm *sea*")
    publish(Path("out"), "cc0-1.0")
    _, front, card = Path("out/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc0-1.0"
    assert "11 pictures of 12 works of Calm \\*sea\\*" in card
    assert "| kid | 7.5 ± 0.1 | 0.01 ± 0.02 |" in card
    assert len(Path("out/works.csv").read_text().splitlines()) == 12
    assert {path.name for path in Path("out").iterdir()} >= {
        "generator.safetensors", "model.json", "generator.onnx", "artworks", "page", "index.html",
    }  # fmt: skip
    with opened(Path("out/page/index.html")) as page:
        assert page.locator(".paintings img").count() == 10
        page.click("text=Explore the model")
        page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")


def test_works_that_may_not_be_free_are_refused_and_never_shown() -> None:
    make_outputs(rights="unknown")
    with pytest.raises(AtelierError, match="11 works of 11"):
        publish(Path("out"))
    assert not Path("out").exists()
    publish(Path("out"), has_rights=True)
    assert "says that they have the rights" in Path("out/README.md").read_text()
    assert not Path("out/page/paintings").exists()
    assert not Path("out/page/nearest.webp").exists()


def test_a_model_of_imported_weights_is_published_only_with_the_right_to() -> None:
    make_outputs(artworks=1)
    path = Path("data/model/model.json")
    start = {"start": {"from": "faces", "imported": {"licence": {"name": "CC BY-NC-SA 4.0", "accepted": True}}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | start))
    with pytest.raises(AtelierError, match=r"imported weights, whose licence is: CC BY-NC-SA 4.0.*--i-have-the-rights"):
        publish(Path("out"))
    assert not Path("out").exists()


def test_outputs_of_another_model_are_refused() -> None:
    make_outputs(artworks=1)
    metrics = json.loads(METRICS.read_text())
    for compared in ({"generator_sha256": "0" * 64}, {}):
        METRICS.write_text(json.dumps(metrics | {"compared": compared}))
        with pytest.raises(AtelierError, match=r"by another model than data/model: metrics\.json: run `dvc repro`"):
            publish(Path("out"))
    METRICS.write_text(json.dumps(metrics))
    picture = Path("data/artworks/1-00000.png")
    made = read_provenance(picture)
    model = made.model.model_copy(update={"sha256": "0" * 64})
    write_png(PRINTS / picture.name, np.asarray(Image.open(picture)), made.model_copy(update={"model": model}))
    with pytest.raises(AtelierError, match=r"by another model than data/model: data/prints/1-00000\.png"):
        publish(Path("out"))
    assert not Path("out").exists()


def test_a_folder_with_files_is_refused() -> None:
    make_outputs(artworks=1)
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    with pytest.raises(AtelierError, match="not empty"):
        publish(Path("out"))
    assert Path("out/mine.txt").read_text() == "mine"


def test_a_licence_that_is_none_is_refused() -> None:
    with pytest.raises(AtelierError, match="--license"):
        publish(Path("out"), "mine: all\nmine")
