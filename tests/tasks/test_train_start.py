"""Trainings that start from a model: its weights, its lineage, and models that do not fit."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.importers.__main__ import import_model
from atelier.model_store import (  # fmt: skip
    BASE_MODEL,
    BASE_NETWORK,
    GALLERY_BASE_MODEL,
    SHIPPED_MODELS,
    content_hash,
    start_path,
)
from atelier.networks import NetworkConfig, load_generator, make_networks, read_model, save_weights
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from atelier.training.initial import open_start
from tasks import generate
from tasks.stage import Stage
from tasks.train import run
from tests.datasets import pack_blots

pytestmark = pytest.mark.usefixtures("judged_small")

SETTINGS = {
    "arch": "dcgan", "kimg": 0.04, "batch": 8, "snapshot_kimg": 1, "lr_decay": 0, "device": "cpu",
    "dcgan": {"nz": 8, "ngf": 8, "ndf": 4},
}  # fmt: skip
MODEL = Path("data/model")
BASE = NetworkConfig(**BASE_NETWORK)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pack_blots()


def train(**settings: object) -> str:
    return run(Stage("train", Params.model_validate({"train": {**SETTINGS, **settings}})))


def kept(name: str = "first") -> str:
    return str(import_model(MODEL, None, Path("models"), name))


def facts() -> dict:
    return json.loads((MODEL / "model.json").read_text())


def example_of_pytorch(folder: Path) -> Path:
    """A generator's state dict as pytorch/examples saves it, of the test's size."""
    torch.manual_seed(3)
    resolution = json.loads(Path("data/dataset/dataset.json").read_text())["resolution"]
    generator, _ = make_networks(NetworkConfig("dcgan", resolution, SETTINGS["dcgan"]))
    state = {}
    for name, values in generator.state_dict().items():
        _, place, rest = name.replace("project.", "layers.-1.").split(".")
        state[f"main.{int(place) + 1}.{rest}"] = values.uniform_(0.5, 1.5) if "running" in name else values
    torch.save(state, folder / "netG.pth")
    return folder / "netG.pth"


def test_with_kimg_0_an_imported_generator_paints_as_it_is(tmp_path: Path):
    source = example_of_pytorch(tmp_path)
    path = import_model(source, None, Path("models"), None)
    summary = train(kimg=0, init_from=str(path))
    assert summary.startswith("0 kimg, kid ")
    _, before = read_model(path / "generator.safetensors")
    _, after = read_model(MODEL / "generator.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert Path("data/training/losses.csv").read_text() == "kimg,loss_d,loss_g,d_real,d_fake\n"
    assert [row.split(",")[0] for row in Path("data/training/quality.csv").read_text().split()] == [
        "kimg",
        "0",
    ]
    assert [grid.name for grid in Path("data/training/grids").iterdir()] == ["000000.000.png"]
    generate.run(Stage("generate", Params.model_validate({"generate": {"count": 1}})))
    assert len(list(Path("data/artworks").iterdir())) == 1

    imported = {"format": "pytorch", "sha256": {"generator": digest(source), "discriminator": None}}
    assert facts()["start"]["imported"] == imported
    assert load_generator(MODEL / "generator.safetensors")[1]["start"]["imported"] == imported
    assert str(tmp_path) not in (MODEL / "model.json").read_text()


def test_a_training_starts_from_both_networks_and_records_the_lineage(capsys: pytest.CaptureFixture[str]):
    train()
    assert "start" not in facts()
    first, generator = kept(), digest(MODEL / "generator.safetensors")
    train(init_from=first, lr=1e-9, lr_discriminator=1e-9, ema=0)  # so slowly that it is where it began
    for name in ("generator", "discriminator"):
        _, before = read_model(Path(first) / f"{name}.safetensors")
        _, after = read_model(MODEL / f"{name}.safetensors")
        assert all(torch.allclose(before[key], after[key], atol=1e-4) for key in before if "weight" in key)
    assert facts()["start"]["generator_sha256"] == generator
    assert facts()["start"]["kimg"] == 0.04
    assert "goes on" not in capsys.readouterr().out

    train(init_from=kept("second"))
    assert facts()["start"]["start"]["generator_sha256"] == generator  # and its own past with it


def test_a_model_grows_to_twice_its_resolution_and_both_models_are_recorded(capsys: pytest.CaptureFixture[str]):
    train()
    first, generator = kept(), digest(MODEL / "generator.safetensors")
    pack_blots(resolution=64)
    with pytest.raises(
        AtelierError, match=r"set train.dcgan.ndf to 2, train.dcgan.ngf to 4 to grow it, or augment.res"
    ):
        train(init_from=first)
    larger = {"init_from": first, "dcgan": {"nz": 8, "ngf": 4, "ndf": 2}}
    with pytest.raises(AtelierError, match=r"train.kimg holds 0; it may hold a number above 0"):
        train(**larger, kimg=0)
    train(**larger)
    said = capsys.readouterr().out
    assert f"starts from {first}, which grows from 32 to 64 px: its coarse layers are copied" in said
    start = {"generator_sha256": generator, "grown_from_px": 32, "kimg": 0.04}
    for recorded in (facts()["start"], load_generator(MODEL / "generator.safetensors")[1]["start"]):
        assert start.items() <= recorded.items()
    done = digest(MODEL / "generator.safetensors")
    shutil.rmtree(".atelier")
    train(**larger)
    assert digest(MODEL / "generator.safetensors") == done


def test_frozen_layers_are_recorded_and_make_another_training(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(
        AtelierError, match=r"freeze_discriminator holds 1; it may hold 0, .* set train.init_from to one"
    ):
        train(freeze_discriminator=1)
    train()
    first = kept()
    train(init_from=first)
    assert "freeze_discriminator" not in facts()["training"]
    train(init_from=first, freeze_discriminator=2)
    assert facts()["training"]["freeze_discriminator"] == 2
    assert "goes on" not in capsys.readouterr().out
    _, before = read_model(Path(first) / "discriminator.safetensors")
    _, after = read_model(MODEL / "discriminator.safetensors")
    weights = [name for name in before if name.endswith(("weight", "bias"))]
    assert [name for name in weights if torch.equal(before[name], after[name])] == weights[:4]


def test_the_initial_model_decides_which_state_is_resumed_whatever_its_path(
    capsys: pytest.CaptureFixture[str],
):
    train()
    first = kept()
    train(init_from=first)
    done = digest(MODEL / "generator.safetensors")
    assert "goes on" not in capsys.readouterr().out
    Path("elsewhere").mkdir()
    train(init_from=str(Path(first).rename(Path("elsewhere") / Path(first).name)))
    assert "goes on from 0.04 kimg" in capsys.readouterr().out
    assert digest(MODEL / "generator.safetensors") == done
    assert len(list(Path(".atelier/train").iterdir())) == 2


def test_a_model_that_does_not_fit_is_refused_before_any_work():
    train()
    first = kept()
    with pytest.raises(AtelierError, match=r"init_from: models/first-.* is dcgan of .* params.yaml asks for"):
        train(init_from=first, dcgan={"nz": 8, "ngf": 16, "ndf": 4})
    save_weights(Path(first) / "generator.safetensors", {}, "atelier-model/1", {})
    with pytest.raises(AtelierError, match="was changed"):
        train(init_from=first)


@pytest.mark.parametrize("model", SHIPPED_MODELS, ids=lambda path: path.name)
def test_a_base_model_is_complete_small_and_fits_the_default_settings(model: Path):
    shipped = load_params(ROOT / "params.yaml")
    settings = dict(getattr(shipped.train, shipped.train.arch))
    assert NetworkConfig(shipped.train.arch, shipped.augment.resolution, settings) == BASE
    base = ROOT / model
    assert base.name.endswith(f"-{content_hash(base)}")
    assert sum(path.stat().st_size for path in base.iterdir()) <= 3_000_000  # both together 6 MB
    assert (base / "README.md").read_text().startswith("# ")
    for name in ("generator", "discriminator"):
        header, tensors = read_model(base / f"{name}.safetensors")
        assert NetworkConfig(header["arch"], header["resolution"], header["settings"]) == BASE
        assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float16}


def test_auto_starts_from_the_base_model_only_where_it_fits():
    smaller = NetworkConfig("sketch", 64, {**BASE.settings, "ngf": 16})
    assert start_path("auto", asdict(BASE)) == start_path("base", asdict(smaller)) == BASE_MODEL
    assert start_path("auto", asdict(BASE), "gallery") == GALLERY_BASE_MODEL
    assert start_path("base", asdict(BASE), "gallery") == BASE_MODEL
    for other in (smaller, NetworkConfig("sketch", 128, BASE.settings)):
        assert start_path("auto", asdict(other)) is start_path("auto", asdict(other), "gallery") is None
    assert start_path(None, asdict(BASE)) is None
    with pytest.raises(AtelierError, match=r"the base model, is missing: `git checkout -- models/base-64-"):
        open_start(BASE_MODEL, BASE)  # not in this folder
    shutil.copytree(ROOT / BASE_MODEL, BASE_MODEL)
    with pytest.raises(AtelierError, match=r"init_from: models/base-64-.* params.yaml asks for sketch of 64 px"):
        open_start(BASE_MODEL, smaller)
    start = open_start(BASE_MODEL, BASE)
    assert start.lineage["kimg"] > 100
    (BASE_MODEL / "discriminator.safetensors").unlink()
    with pytest.raises(AtelierError, match="was changed, its name does not fit it any more: `git checkout"):
        open_start(BASE_MODEL, BASE)


def test_a_training_from_the_base_model_has_no_warm_start_and_keeps_its_float16_weights(
    capsys: pytest.CaptureFixture[str],
):
    shutil.copytree(ROOT / BASE_MODEL, BASE_MODEL)
    pack_blots(resolution=64)
    run(Stage("train", Params.model_validate({"train": {"kimg": 0, "init_from": "base", "device": "cpu"}})))
    assert f"starts from {BASE_MODEL}" in capsys.readouterr().out
    _, before = read_model(BASE_MODEL / "generator.safetensors")
    _, after = read_model(MODEL / "generator.safetensors")
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)
    assert facts()["start"]["generator_sha256"] == digest(BASE_MODEL / "generator.safetensors")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kimg": 0},
            "train.kimg holds 0; it may hold a number above 0, and 0 only where train.init_from is base or a model",
        ),
        (
            {"init_from": "data/model"},
            "train.init_from holds 'data/model'; it may hold auto, base, null or a model in models/",
        ),
    ],
)
def test_params_that_start_from_nothing_or_from_an_out_are_refused(settings: dict, sentence: str):
    YAML().dump({"train": settings}, Path("params.yaml"))
    with pytest.raises(AtelierError) as refused:
        load_params(Path("params.yaml"))
    assert sentence in str(refused.value)
