"""Presets and edits of params.yaml: they change their keys and nothing else in the file."""

import re
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.settings.edit import PRESETS, apply_preset, preset_values
from atelier.settings.load import load_params
from atelier.settings.schema import Params

SHIPPED = Path("params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED, encoding="utf-8")
    return path


def bare(line: str) -> str:
    """A line without its value and without the spaces before its comment."""
    return re.sub(r": .*?(?= *#|$)", ":", line).replace(" ", "")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_its_keys_and_no_comment(path: Path, name: str):
    changes = apply_preset(path, name)
    text = path.read_text(encoding="utf-8")
    assert [bare(line) for line in text.splitlines()] == [bare(line) for line in SHIPPED.splitlines()]
    found, wanted = load_params(path).model_dump(), Params().model_dump()
    for key, value in preset_values(name):
        *sections, last = key.split(".")
        node = wanted
        for section in sections:
            node = node[section]
        node[last] = value
    assert found == wanted
    different = [line for line, old in zip(text.splitlines(), SHIPPED.splitlines(), strict=True) if line != old]
    assert len(different) == len(changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_applied_twice_and_undone(path: Path, name: str):
    apply_preset(path, name)
    once = path.read_text(encoding="utf-8")
    assert apply_preset(path, name) == []
    assert path.read_text(encoding="utf-8") == once
    apply_preset(path, "cpu-demo")
    assert load_params(path) == Params()


def test_the_users_other_settings_and_comments_stay(path: Path):
    text = SHIPPED.replace("source: gallery ", "source: folder  ").replace("count: 64 ", "count: 640")
    text = text.replace('snapshot: "2026-11-22"', "snapshot: '2027-01-02'").replace("seed: 0  ", "seed: 7  ", 1)
    text = text.replace("path: null ", "path: mine ", 1)
    path.write_text("# mine\n" + text, encoding="utf-8")
    changes = apply_preset(path, "gpu-128")
    found = load_params(path)
    assert (found.scrape.source, found.generate.count, found.scrape.snapshot) == ("folder", 640, "2027-01-02")
    assert found.train.seed == 7
    assert found.augment.resolution == 128
    assert path.read_text(encoding="utf-8").startswith("# mine\n")
    assert ("augment.resolution", 64, 128) in [(change.key, change.before, change.after) for change in changes]


def test_sections_that_a_file_leaves_out_are_added_where_they_differ(path: Path):
    path.write_text("train: {kimg: 7}  # short\n", encoding="utf-8")
    apply_preset(path, "gpu-128")
    assert load_params(path).train.dcgan.ngf == 160
    assert "# short" in path.read_text(encoding="utf-8")


def test_a_file_with_a_mistake_is_not_edited(path: Path):
    for text, reason in (
        (SHIPPED.replace("kimg: 64", "kimg: much"), "train.kimg holds 'much'"),
        (
            SHIPPED.replace("size_px: 512               # larger", "size_px: 64 # larger"),
            "download.size_px holds 64",
        ),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(AtelierError, match=reason):
            apply_preset(path, "gpu-128")
        assert path.read_text(encoding="utf-8") == text
    with pytest.raises(AtelierError, match=r"no preset 'gpu-129'.* lists cpu-demo, laptop-64"):
        apply_preset(path, "gpu-129")


def test_the_preset_cpu_demo_is_the_shipped_file():
    assert PRESETS["cpu-demo"]["values"] == {}
    assert load_params(Path("params.yaml")) == Params()


def test_a_preset_resets_the_settings_of_another_architecture(path: Path):
    text = SHIPPED.replace("loss: auto ", "loss: nonsaturating").replace("beta1: auto", "beta1: 0.5 ")
    path.write_text(text, encoding="utf-8")
    apply_preset(path, "gpu-256")
    train = load_params(path).train
    assert (train.arch, train.loss, train.beta1) == ("r3gan", "auto", "auto")
