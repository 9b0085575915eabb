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
from ruamel.yaml import YAML

from atelier.provenance import facts

ROOT = Path(__file__).parents[1]
SMALL = {
    "scrape": {"gallery": {"works": 24, "size_px": 160}},
    "augment": {"resolution": 32},
    "train": {
        "kimg": 0.2,
        "batch": 8,
        "snapshot_kimg": 0.2,
        "sketch": {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4},
    },
    "evaluate": {"samples": 32},
    "generate": {"count": 3},
    "train_upscaler": {"steps": 3, "features": 8, "blocks": 2, "patch_px": 16},
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository's files, as a clone would have them, with small params."""
    studio = tmp_path_factory.mktemp("studio")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (studio / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, studio / name)
    subprocess.run(["git", "init", "-q"], cwd=studio, check=True)
    subprocess.run(["git", "add", "-A"], cwd=studio, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "a clone"], cwd=studio, check=True)
    edit(studio, SMALL)
    return studio


def edit(studio: Path, changes: dict[str, dict]) -> None:
    """Change values of params.yaml in place, comments and all."""

    def merge(node: dict, changes: dict) -> None:
        for key, value in changes.items():
            if isinstance(value, dict):
                merge(node[key], value)
            else:
                node[key] = value

    yaml = YAML()
    document = yaml.load(studio / "params.yaml")
    merge(document, changes)
    yaml.dump(document, studio / "params.yaml")


def repro(studio: Path) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """Run `dvc repro`: the stages that ran, and how it ended."""
    shutil.rmtree(studio / ".atelier" / "executed", ignore_errors=True)
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=studio, text=True, capture_output=True, timeout=280,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip
    return {path.stem for path in (studio / ".atelier").glob("executed/*.json")}, done


@pytest.mark.slow
def test_a_clone_becomes_pictures_and_only_edits_run_again(studio: Path) -> None:
    """Waits for thirteen real stages, each of which starts a Python of its own."""
    ran, done = repro(studio)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran == {
        "scrape", "download", "augment", "train", "evaluate", "generate", "train_upscaler", "upscale",
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

    assert repro(studio)[0] == set()
    edit(studio, {"generate": {"count": 2}})
    assert repro(studio)[0] == {"generate", "upscale"}
    edit(studio, {"train": {"kimg": 0.3}})
    assert repro(studio)[0] == {"train", "evaluate", "generate", "upscale"}


@pytest.mark.slow
def test_a_bad_value_stops_the_run_before_any_work(studio: Path) -> None:
    """Waits for the first stage's start."""
    edit(studio, {"train": {"kimg": 0.4}, "generate": {"canvas": [0, 1]}})
    ran, done = repro(studio)
    assert done.returncode != 0
    assert ran == set()
    assert "generate.canvas.0 holds 0; it may hold" in done.stderr
    assert "Traceback" not in done.stderr
