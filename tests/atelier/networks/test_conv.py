"""The convolutions for bfloat16 equal torch's, and so do their first and second derivatives."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from atelier.networks import NetworkConfig, conv, make_networks
from atelier.networks.conv import Downsample, ProjectLatent, ToLogit, Upsample
from atelier.training.state import generator_for

LAYERS = [
    (Downsample, (3, 5), (2, 3, 16, 16)), (Downsample, (3, 5), (2, 3, 8, 8)), (Upsample, (5, 3), (2, 5, 8, 8)),
    (Upsample, (5, 64), (2, 5, 4, 4)), (Upsample, (5, 3), (2, 5, 2, 6)), (ProjectLatent, (7, 5), (2, 7, 1, 1)),
    (ProjectLatent, (7, 5), (2, 7, 2, 3)), (ToLogit, (5, 4), (2, 5, 4, 4)),
]  # fmt: skip


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator_for(name))


def played(layer: nn.Module, x: Tensor, bfloat16: bool) -> list[Tensor]:
    """The output and the gradients by input and weights, of a loss that weighs each number differently."""
    x = x.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    layer.to(memory_format=torch.channels_last).zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        y = layer(x).float()
    (y * drawn("weights", tuple(y.shape))).sum().backward()
    return [y.detach(), x.grad, layer.weight.grad.clone()]


@pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
def _choice(request, monkeypatch):
    """The ways of computing that are chosen on a CPU with AMX, or without."""
    monkeypatch.setattr(conv, "DOWN_PATCHES_PX", 0 if request.param else 8)
    monkeypatch.setattr(conv, "PAIRED_CHANNELS", 3 if request.param else 48)


@pytest.mark.usefixtures("_choice")
@pytest.mark.parametrize("kind, channels, shape", LAYERS)
def test_in_bfloat16_a_layer_and_its_gradients_equal_torchs_up_to_rounding(kind, channels, shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = kind(*channels)
    exact, rounded = (played(layer, drawn("x", shape), bfloat16) for bfloat16 in (False, True))
    for one, other in zip(exact, rounded, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 0.01 * one.norm()


@pytest.mark.usefixtures("_choice")
@pytest.mark.parametrize("channels", [2, 49])
@pytest.mark.parametrize("side", [conv.WEIGHT_PATCHES_PX, 2 * conv.WEIGHT_PATCHES_PX])
def test_every_way_of_computing_them_can_be_differentiated_twice(channels, side):
    """In double precision, where finite differences are exact enough to tell."""
    fine = drawn("fine", (1, channels, side, 4)).double().requires_grad_()
    coarse = drawn("coarse", (1, 1, side // 2, 2)).double().requires_grad_()
    weight = drawn("weight", (1, channels, 4, 4)).double().requires_grad_()
    for function, inputs in (
        (conv._Down.apply, (fine, weight)),
        (conv._Up.apply, (coarse, weight)),
        (conv._Weight.apply, (fine, coarse)),
    ):
        assert gradcheck(function, inputs, fast_mode=True)
        assert gradgradcheck(function, inputs, fast_mode=True)
    with torch.no_grad():
        assert torch.allclose(conv._Down.apply(fine, weight), functional.conv2d(fine, weight, None, 2, 1))
        up = functional.conv_transpose2d(coarse, weight, None, 2, 1)
        assert torch.allclose(conv._Up.apply(coarse, weight), up)


@pytest.mark.parametrize("arch", ["dcgan", "sketch"])
def test_the_layers_keep_the_names_of_their_weights(arch):
    """Models on disk, and imported ones, are read by these names."""
    generator, discriminator = make_networks(NetworkConfig(arch, 16, {"nz": 8, "ngf": 8, "ndf": 4}))
    assert "project.weight" in generator.state_dict()
    assert [name for name in discriminator.state_dict() if name.endswith("weight")] == [
        "layers.0.weight", "layers.2.weight", "layers.3.weight", "layers.5.weight",
    ]  # fmt: skip
