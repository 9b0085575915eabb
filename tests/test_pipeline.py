"""The whole way, small: every real stage through a real DVC, and what an edit runs again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from atelier.provenance import facts
from tests.clones import SMALL, clone_here, edit


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository, with small params."""
    studio = tmp_path_factory.mktemp("studio")
    clone_here(studio)
    edit(studio, SMALL)
    return studio


def dvc(studio: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of DVC."""
    scripts = Path(sys.executable).parent
    return subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=studio, text=True, capture_output=True, timeout=900,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip


def repro(studio: Path, *targets: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """Run `dvc repro`: the stages that ran, and how it ended."""
    shutil.rmtree(studio / ".atelier" / "executed", ignore_errors=True)
    done = dvc(studio, "repro", *targets)
    return {path.stem for path in (studio / ".atelier").glob("executed/*.json")}, done


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_clone_becomes_pictures_and_only_edits_run_again(studio: Path) -> None:
    """Waits for seventeen real stages, each of which starts a Python of its own."""
    ran, done = repro(studio)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran == {
        "scrape", "download", "augment", "train", "evaluate", "generate", "train_upscaler", "upscale", "page",
    }  # fmt: skip

    catalog = pq.read_table(studio / "data/catalog.parquet").to_pydict()
    downloads = pq.read_table(studio / "data/downloads.parquet").to_pydict()
    assert catalog["id"] == downloads["id"]
    assert set(downloads["status"]) == {"ok"}
    assert {"kid", "kid_coarse", "swd", "density", "coverage", "memorisation"} <= set(
        json.loads((studio / "metrics.json").read_text())
    )
    prints = sorted((studio / "data/prints").iterdir())
    assert len(prints) == 3
    for path in prints:
        assert Image.open(path).size == (128, 128)
        assert facts.read_provenance(path).print is not None
    status = subprocess.run(["git", "status", "--short"], cwd=studio, text=True, capture_output=True, check=True)
    assert "data/" not in status.stdout  # DVC's outs are ignored by files that are in git already

    times = json.loads((studio / ".atelier/page/times.js").read_text().partition("=")[2].rstrip(";\n"))
    assert {row["name"] for row in times if row["seconds"] and not row["cached"]} == ran  # which the page shows

    assert repro(studio)[0] == set()
    edit(studio, {"generate": {"count": 2}})
    assert repro(studio)[0] == {"generate", "upscale", "page"}
    template = studio / "atelier/page/web/index.html"
    template.write_text(template.read_text().replace("<h1>Atelier</h1>", "<h1>My studio</h1>"))
    assert repro(studio)[0] == {"page"}
    assert "<h1>My studio</h1>" in (studio / "data/page/index.html").read_text()
    edit(studio, {"train": {"kimg": 0.1}})
    assert repro(studio, "evaluate", "upscale")[0] == {"train", "evaluate", "generate", "upscale"}
    stale = json.loads(dvc(studio, "status", "--json").stdout)  # which a whole run would run again
    assert stale.keys() == {"page"} and "data/model/generator.safetensors" in stale["page"][0]["changed deps"]


@pytest.mark.slow
def test_a_bad_value_stops_the_run_before_any_work(studio: Path) -> None:
    """Waits for the first stage's start."""
    edit(studio, {"scrape": {"gallery": {"works": 25}}, "generate": {"canvas": [0, 1]}})
    ran, done = repro(studio)
    assert done.returncode != 0
    assert ran == set()
    assert "generate.canvas.0 holds 0; it may hold" in done.stderr
    assert "Traceback" not in done.stderr
