"""The stage as DVC runs it: a generator and a packed set in, numbers and sheets out."""

import json
from pathlib import Path

import pytest
from PIL import Image

from atelier.errors import AtelierError
from atelier.params import Params
from tasks.evaluate import run
from tasks.stage import Stage
from tests.datasets import pack_blots
from tests.models import save_small_generator


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_generator()


def stage(**evaluate: object) -> Stage:
    return Stage(
        "evaluate", Params.model_validate({"evaluate": {"samples": 64, "device": "cpu", **evaluate}})
    )


def test_metrics_and_sheets_of_a_generator() -> None:
    pack_blots()
    summary = run(stage())
    metrics = json.loads(Path("metrics.json").read_text())
    panel = {"kid_rand", "mind_rand", "swd", "density", "coverage", "memorisation"}
    assert set(metrics) == panel | {"swd_levels", "compared"}
    assert all({"value", "floor"} <= set(metrics[name]) for name in panel)
    assert metrics["compared"]["generated"] == 64
    assert metrics["compared"]["training"] + metrics["compared"]["held_out"] == 60
    assert metrics["kid_rand"]["value"] > metrics["kid_rand"]["floor"]  # blots of an untrained network
    sheets = {path.name: Image.open(path).size for path in Path("data/evaluation").iterdir()}
    assert sheets["samples.png"] == (8 * 34 + 2, 8 * 34 + 2)
    assert sheets["nearest.png"] == (8 * 34 + 2, 8 * 34 + 2)
    assert set(sheets) == {"samples.png", "nearest.png", "held_out.png"}
    assert "64 pictures: kid_rand" in summary and "memorisation" in summary


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others() -> None:
    pack_blots()
    seen = []
    for seed in (0, 0, 1):
        run(stage(seed=seed))
        files = [Path("metrics.json"), *sorted(Path("data/evaluation").iterdir())]
        seen.append([path.read_bytes() for path in files])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


def test_a_generator_of_another_size_than_the_dataset_is_refused() -> None:
    pack_blots(resolution=64)
    with pytest.raises(AtelierError, match="paints 32 px, the dataset holds 64 px"):
        run(stage())
    assert not Path("metrics.json").exists()
