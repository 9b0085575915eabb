"""The compact network and its file."""

from pathlib import Path

import pytest
import spandrel
import torch

from atelier.errors import AtelierError
from atelier.networks import save_weights
from atelier.upscaling.network import FORMAT, SRVGGNetCompact, load_upscaler, save_upscaler


def network(scale: int = 2, features: int = 8, blocks: int = 2) -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(scale, features, blocks)


@pytest.mark.parametrize(("scale", "parameters"), [(2, 600_652), (4, 621_424)])
def test_the_full_size_has_real_esrgans_parameter_counts(scale: int, parameters: int) -> None:
    assert sum(p.numel() for p in network(scale, 64, 16).parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 4])
def test_spandrel_opens_our_file_as_the_network_it_is(tmp_path: Path, scale: int) -> None:
    ours = network(scale)
    save_upscaler(tmp_path / "upscaler.safetensors", ours, {"steps": 1, "seed": 0})
    descriptor = spandrel.ModelLoader().load_from_file(tmp_path / "upscaler.safetensors")
    assert isinstance(descriptor, spandrel.ImageModelDescriptor)
    assert (descriptor.architecture.name, descriptor.scale) == ("RealESRGAN Compact", scale)
    assert descriptor.tags == ["8nf", "2nc"]
    images = torch.rand(1, 3, 20, 30)
    assert torch.allclose(descriptor(images), ours(images).clamp(0, 1), atol=1e-6)


def test_a_file_gives_the_network_and_its_facts_back(tmp_path: Path) -> None:
    ours = network()
    save_upscaler(tmp_path / "upscaler.safetensors", ours, {"steps": 3})
    loaded, header = load_upscaler(tmp_path / "upscaler.safetensors")
    images = torch.rand(1, 3, 9, 7)
    assert torch.allclose(loaded(images), ours(images), atol=1e-6)
    assert header["steps"] == 3
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_loading_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    save_upscaler(tmp_path / "upscaler.safetensors", network(), {})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_upscaler(tmp_path / "upscaler.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("features", [16, "8", -1])
def test_weights_that_are_not_the_headers_are_refused(tmp_path: Path, features: object) -> None:
    path = tmp_path / "upscaler.safetensors"
    header = {"scale": 2, "features": features, "blocks": 2}
    save_weights(path, network().state_dict(), FORMAT, header)
    with pytest.raises(AtelierError, match="does not hold the weights its header names"):
        load_upscaler(path)
