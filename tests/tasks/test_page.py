"""The stage as DVC runs it: the outputs of all others in, two pages out."""

import json
import time
from pathlib import Path

import pytest

from atelier.export import onnx_file
from atelier.settings.schema import Params
from tasks import page
from tasks.stage import Stage
from tests.browser import opened
from tests.run_outputs import make_outputs


@pytest.fixture(autouse=True)
def _a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_outputs()


def run() -> dict[str, bytes]:
    """Run the stage and what follows its success; return the files of data/page."""
    stage = Stage("page", Params())
    assert "3 artworks" in page.run(stage)
    for act in stage.after_success:
        act()
    return {str(path): path.read_bytes() for path in Path("data/page").rglob("*") if path.is_file()}


def test_equal_runs_convert_the_network_once_and_the_page_shows_which_stages_ran_and_for_how_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = run()
    assert {"data/page/index.html", "data/page/explore.html"} <= files.keys()
    monkeypatch.setattr(page, "convert", lambda *_, **__: pytest.fail("the network was converted again"))
    monkeypatch.setattr(onnx_file, "convert", page.convert)
    assert run() == files

    folder = Path(".atelier/executed")
    folder.mkdir(parents=True)
    for name, ended in (("train", time.time()), ("scrape", 1.0), ("page", 2.0)):
        (folder / f"{name}.json").write_text(json.dumps({"seconds": 12.34, "ended": ended}))
    run()
    with opened(Path("data/page/index.html")) as shown:
        times = {name: shown.inner_text(f"[data-stage={name}] em") for name in ("train", "scrape", "upscale")}
    assert times == {"train": "12.3 s", "scrape": "12.3 s, cached", "upscale": "cached"}
