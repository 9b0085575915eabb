"""Stored models: named after their content, opened only if complete, unchanged and of a fitting size."""

from pathlib import Path

import pytest
import torch

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.importers.__main__ import import_model
from atelier.networks import NetworkConfig, make_networks, save_network
from atelier.training.initial import open_start

CONFIG = NetworkConfig("dcgan", 32, {"nz": 4, "ngf": 3, "ndf": 2})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A model trained for 12 kimg, imported into models/."""
    torch.manual_seed(0)
    generator, discriminator = make_networks(CONFIG)
    save_network(tmp_path / "model/generator.safetensors", generator, CONFIG, {"kimg": 12.0, "seed": 3})
    save_network(tmp_path / "model/discriminator.safetensors", discriminator, CONFIG, {"kimg": 12.0})
    return import_model(tmp_path / "model", None, tmp_path / "models", "monday")


def test_a_stored_model_opens_with_its_weights_and_its_history(kept: Path):
    start = open_start(kept, CONFIG)
    generator, discriminator = make_networks(CONFIG)
    generator.load_state_dict(start.generator)
    discriminator.load_state_dict(start.discriminator)
    assert start.lineage == {
        "generator_sha256": digest(kept / "generator.safetensors"),
        "discriminator_sha256": digest(kept / "discriminator.safetensors"),
        "kimg": 12.0,
        "seed": 3,
    }


def test_a_model_without_a_discriminator_fits_discriminators_of_any_width(kept: Path, tmp_path: Path):
    (kept / "discriminator.safetensors").unlink()
    alone = import_model(kept / "generator.safetensors", None, tmp_path / "models", "alone")
    other = NetworkConfig("dcgan", 32, {"nz": 4, "ngf": 3, "ndf": 7})
    assert open_start(alone, other).discriminator is None


@pytest.mark.parametrize(
    "wanted",
    [
        NetworkConfig("dcgan", 16, CONFIG.settings),
        NetworkConfig("dcgan", 256, CONFIG.settings),  # to twice and four times its size it grows
        NetworkConfig("dcgan", 32, {**CONFIG.settings, "ngf": 4}),
        NetworkConfig("dcgan", 32, {**CONFIG.settings, "nz": 5}),
        NetworkConfig("dcgan", 32, {**CONFIG.settings, "ndf": 4}),
    ],
)
def test_a_model_of_another_size_is_an_error_that_says_what_to_set(kept: Path, wanted: NetworkConfig):
    with pytest.raises(AtelierError) as refused:
        open_start(kept, wanted)
    assert "is dcgan of 32 px, {ndf: 2, ngf: 3, nz: 4}; params.yaml asks for" in str(refused.value)


def test_a_model_that_was_changed_is_an_error(kept: Path):
    (kept / ".DS_Store").write_bytes(b"what a desktop leaves")
    open_start(kept, CONFIG)
    with (kept / "generator.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x80\x3f")
    with pytest.raises(AtelierError, match="was changed"):
        open_start(kept, CONFIG)


def test_a_directory_that_is_no_stored_model_is_an_error(kept: Path, tmp_path: Path):
    for path in (
        tmp_path / "model",
        kept / "generator.safetensors",
        kept.with_name("monday-0123456789abcdef"),
    ):
        with pytest.raises(AtelierError, match="`atelier import FILE` makes one"):
            open_start(path, CONFIG)
