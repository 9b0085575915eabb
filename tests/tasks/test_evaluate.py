"""The stage as DVC runs it: a generator and a packed set in, numbers and sheets out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity import FeatureExtractorInceptionV3

from atelier.data.dataset import open_dataset
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.metrics import inception, labels
from atelier.paths import GENERATOR
from atelier.settings.schema import Params
from tasks.evaluate import run
from tasks.stage import Stage
from tests.datasets import pack_blots
from tests.inception import random_weights
from tests.models import LABELS, SMALL, save_small_generator

pytestmark = pytest.mark.usefixtures("judged_small")

PANEL = {"kid", "kid_coarse", "kid_lite1", "swd", "density", "coverage", "memorisation", "softness_px"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_generator()


def stage(**evaluate: object) -> Stage:
    return Stage("evaluate", Params.model_validate({"evaluate": {"samples": 64, "device": "cpu", **evaluate}}))


def test_metrics_and_sheets_of_a_generator() -> None:
    pack_blots()
    summary = run(stage())
    metrics = json.loads(Path("metrics.json").read_text())
    assert set(metrics) == PANEL | {"swd_levels", "yardsticks", "compared"}
    assert all({"value", "floor"} <= set(metrics[name]) for name in PANEL)
    assert metrics["compared"]["generated"] == 64
    assert metrics["compared"]["generator_sha256"] == digest(GENERATOR)
    assert metrics["compared"]["training"] + metrics["compared"]["held_out"] == 60
    assert metrics["kid"]["value"] > metrics["kid"]["floor"]  # blots of an untrained network
    sheets = {path.name: Image.open(path).size for path in Path("data/evaluation").glob("*.png")}
    assert sheets["samples.png"] == (8 * 34 + 2, 8 * 34 + 2)
    assert sheets["nearest.png"] == (8 * 34 + 2, 8 * 34 + 2)
    assert set(sheets) == {"samples.png", "nearest.png", "held_out.png"}
    sentence = "further off than a painting blurred by 2 px"
    assert f"64 pictures, {sentence}: kid " in summary and "memorisation" in summary
    told = Path("data/evaluation/summary.txt").read_text().splitlines()
    assert told[0] == f"The generated pictures are {sentence}."
    assert [row.split()[0] for row in told[3:]] == [
        "kid", "kid_coarse", "density", "coverage", "swd", "memorisation"
    ]  # fmt: skip
    assert set(metrics["yardsticks"]) == {
        "blurred_half_a_pixel", "blurred_1_pixel", "blurred_2_pixels", "half_the_motifs", "copies",
    }  # fmt: skip


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others() -> None:
    pack_blots(24)
    seen = []
    for seed in (0, 0, 1):
        run(stage(seed=seed, samples=32))
        files = [Path("metrics.json"), *sorted(Path("data/evaluation").iterdir())]
        seen.append([path.read_bytes() for path in files])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


def test_an_unavailable_fid_is_reported_and_all_other_metrics_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/weights.pth")  # where nobody listens
    pack_blots(24)
    run(stage(inception=True, samples=32))
    metrics = json.loads(Path("metrics.json").read_text())
    why = metrics.pop("inception")["not_computed"]
    assert set(metrics) == PANEL | {"swd_levels", "yardsticks", "compared"}
    assert "cannot be downloaded (no connection): get that file" in why
    assert f"FID and KID are not computed, all other metrics are: {why}" in capsys.readouterr().out


def test_fid_is_computed_with_local_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in the place of the real ones, and pictures enlarged to 75 px instead of 299."""
    Path("weights.pth").write_bytes(random_weights())
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
    monkeypatch.setattr(inception, "SHA256", digest(Path("weights.pth")))
    monkeypatch.setattr(inception, "SIZE_BYTES", Path("weights.pth").stat().st_size)
    pack_blots(24)
    summary = run(stage(inception=True, inception_weights="weights.pth", samples=32))
    metrics = json.loads(Path("metrics.json").read_text())
    assert metrics["inception"]["fid"] > 0
    assert metrics["inception"]["kid"]["value"] > metrics["inception"]["kid"]["floor"]
    assert f"FID {metrics['inception']['fid']:.4g}" in summary

    run(stage(inception_weights="weights.pth", samples=32))
    assert "inception" not in json.loads(Path("metrics.json").read_text())
    save_small_generator(facts={"discriminator": "features"})  # whose features must not be its only judges
    run(stage(inception_weights="weights.pth", samples=32))
    metrics = json.loads(Path("metrics.json").read_text())
    assert metrics["inception"]["fid"] > 0 and metrics["kid"] == metrics["kid_lite1"]


def test_weights_that_params_name_wrongly_stop_the_stage_before_any_work() -> None:
    pack_blots()
    with pytest.raises(AtelierError, match="there is no file gone"):
        run(stage(inception=True, inception_weights="gone.pth"))
    assert not Path("metrics.json").exists()


def test_a_generator_of_another_size_than_the_dataset_is_refused() -> None:
    pack_blots(resolution=64)
    with pytest.raises(AtelierError, match="paints 32 px, the dataset holds 64 px"):
        run(stage())
    assert not Path("metrics.json").exists()


def test_each_label_has_its_coverage_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    pack_blots()
    save_small_generator(network=SMALL.with_labels(LABELS))
    run(stage())
    printed = capsys.readouterr().out
    scores = json.loads(Path("metrics.json").read_text())["labels"]
    assert {*scores} == {"landscape", "marine"}, "no painting is in the class other"
    for name, score in scores.items():
        assert 0 <= score["coverage"] <= 1 and 0 <= score["any_label"] <= 1
        assert score["side"] == "training", "there are fewer than 20 held-out paintings of each"
        line = f"{name}: coverage {score['coverage']:.2f} of {score['compared']} training paintings ("
        assert f"evaluate: {line}" in printed
        assert line in Path("data/evaluation/summary.txt").read_text()
    seen = Path("metrics.json").read_bytes()
    run(stage())
    assert Path("metrics.json").read_bytes() == seen


def test_a_labels_pictures_cover_its_paintings_better_than_those_of_other_labels(monkeypatch) -> None:
    """The generator paints the very paintings of the label that it is asked for."""
    pack_blots()
    save_small_generator(network=SMALL.with_labels(LABELS))
    dataset = open_dataset(Path("data/dataset"))
    rows = {name: np.flatnonzero(np.array(dataset.train.values("genre")) == name) for name in ("landscape", "marine")}

    def copies(generator, seed, count, label):
        yield dataset.train.images[np.resize(rows.get(label, np.arange(4)), count)]

    monkeypatch.setattr(labels, "render_seed", copies)
    pictures = dataset.train.images[np.zeros(30, int)]  # a generator that paints one picture whatever the label
    scores = labels.label_scores(GENERATOR, dataset, pictures, 0, torch.device("cpu"))
    assert scores["landscape"].coverage == scores["marine"].coverage == 1
    assert max(score.any_label for score in scores.values()) < 0.9
