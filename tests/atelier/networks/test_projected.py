"""Discriminators over pretrained features: what is trained of them, what is stored, and their gradients."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, load_discriminator, make_networks, save_network, weights_fit
from atelier.networks.labels import Labels
from atelier.networks.projected import FeatureDiscriminator, Head, RandomConv2d, discriminator_parts, joined_parts
from atelier.training.optimizers import make_optimizer

CONFIG = NetworkConfig("dcgan", 32, {"nz": 4, "ngf": 4, "ndf": 4})


def made(seed: int, kind: str = "features") -> torch.nn.Module:
    torch.manual_seed(seed)
    return make_networks(CONFIG, kind)[1]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return made(0)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("size", "logits"), [((32, 32), 4), ((128, 128), 4), ((64, 96), 3 * 4), ((64, 85), 9), ((160, 256), 2 * 5 * 4)]
)
def test_images_of_any_shape_have_logits_of_four_scales(network, size, logits) -> None:
    with torch.no_grad():
        found = network(images(2, 3, *size))
    assert found.shape == (2, logits) and found.isfinite().all()


def test_small_images_are_enlarged_as_torch_does_bilinearly(network) -> None:
    small = images(2, 3, 32, 48)
    enlarged = functional.interpolate(small, (128, 192), mode="bilinear", align_corners=False)
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network(small), network(enlarged), atol=1e-3)
    network.train()


def test_only_the_heads_are_trained_and_the_mixing_is_drawn_by_the_seed_and_stored() -> None:
    network, again, other = made(0), made(0), made(1)
    assert all(name.startswith("heads.") for name, _ in network.named_parameters())
    stored = network.state_dict()
    assert not any(name.startswith("features.") for name in stored)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in stored.items())
    mixing = [name for name in stored if name.startswith("mix_")]
    assert len(mixing) == 8
    assert not any(torch.equal(stored[name], other.state_dict()[name]) for name in mixing)
    before = {name: value.clone() for name, value in stored.items()}
    optimizer = make_optimizer(network, "muon", 1e-3, 1e-2, (0.5, 0.999))
    network(images(2, 3, 32, 32)).mean().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {name for name, _ in network.named_parameters() if name.endswith("weight")}
    assert not changed & {*mixing}


def test_images_have_a_gradient_through_the_features(network) -> None:
    pictures = images(2, 3, 32, 32).requires_grad_()
    (gradient,) = torch.autograd.grad(network(pictures).mean(), pictures)
    assert gradient.isfinite().all() and bool((gradient.abs().sum((1, 2, 3)) > 0).all())


def test_a_random_convolution_keeps_the_variance_and_the_last_kernel_has_length_one() -> None:
    torch.manual_seed(0)
    assert RandomConv2d(64, 256, 3)(torch.randn(4, 64, 16, 16))[..., 1:-1, 1:-1].std() == pytest.approx(1, abs=0.05)
    head = Head(16, 0).eval()
    features = torch.randn(4, 16, 4, 4)
    before = head(features)
    with torch.no_grad():
        head.logit.weight *= 100
    assert torch.allclose(head(features), before, rtol=1e-4)


@pytest.mark.parametrize("kind", ["own", "features", "both"])
def test_a_file_says_its_kind_and_judges_as_the_network_did(kind, tmp_path: Path) -> None:
    network = made(0, kind).eval()
    facts = {} if kind == "own" else {"discriminator": kind}
    save_network(tmp_path / "d.safetensors", network, CONFIG, facts)
    loaded, header = load_discriminator(tmp_path / "d.safetensors")
    assert header.get("discriminator", "own") == kind
    pictures = images(2, 3, 32, 32)
    assert torch.equal(loaded(pictures), network(pictures))
    generator, _ = make_networks(CONFIG)
    kinds = [
        each for each in ("own", "features", "both")
        if weights_fit(CONFIG, generator.state_dict(), network.state_dict(), each)
    ]  # fmt: skip
    assert kinds == [kind]


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path / "d.safetensors", made(0, "own"), CONFIG, {"discriminator": "psychic"})
    with pytest.raises(AtelierError, match="kind 'psychic'; this version has own, features, both"):
        load_discriminator(tmp_path / "d.safetensors")


def test_both_are_the_own_one_of_the_same_seed_and_one_over_features() -> None:
    both, own = made(0, "both"), made(0, "own")
    parts = discriminator_parts("both", both.state_dict())
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in parts["own"].items())
    assert parts["features"].keys() == FeatureDiscriminator().state_dict().keys()
    joined = joined_parts("both", parts)
    assert joined is not None and joined.keys() == both.state_dict().keys()
    assert joined_parts("own", {}) is None and joined_parts("both", {}) is None
    pictures = images(3, 3, 32, 32)
    both.eval()
    assert torch.allclose(both(pictures), both.own(pictures) + both.features(pictures).mean(1))


def test_labels_move_the_logits_of_all_scales_once_they_are_trained() -> None:
    labels = Labels("genre", ("marina", "portrait"), (30, 20))
    torch.manual_seed(0)
    both = make_networks(CONFIG.with_labels(labels), "both")[1].eval()
    pictures, weights = images(2, 3, 32, 32), torch.eye(2)
    with torch.no_grad():
        before = both.features(pictures)
        assert torch.equal(both.features(pictures, weights), before)
        both.features.embed.weight[1] += 1
        after = both.features(pictures, weights)
    assert torch.equal(after[0], before[0]) and bool((after[1] != before[1]).all())
    assert both(pictures, weights).shape == (2,)
