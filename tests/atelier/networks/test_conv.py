"""Our convolutions equal torch's, and so do their first and second derivatives."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from atelier.networks import NetworkConfig, conv, make_networks
from atelier.networks.conv import Downsample, ProjectLatent, ToLogit, Upsample
from atelier.training.losses import Relativistic
from atelier.training.state import generator_for

LAYERS = [
    (Downsample, (3, 5), (2, 3, 16, 16)), (Downsample, (3, 5), (2, 3, 8, 8)), (Upsample, (5, 3), (2, 5, 8, 8)),
    (Upsample, (5, 64), (2, 5, 4, 4)), (Upsample, (5, 3), (2, 5, 2, 6)), (ProjectLatent, (7, 5, (4, 4)), (2, 7, 1, 1)),
    (ProjectLatent, (7, 5, (4, 6)), (2, 7, 2, 3)), (ToLogit, (5, (4, 4)), (2, 5, 4, 4)),
    (ToLogit, (5, (3, 4)), (2, 5, 3, 4)),
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


@pytest.mark.parametrize("kind, channels, shape", LAYERS)
def test_in_bfloat16_a_layer_and_its_gradients_equal_torchs_up_to_rounding(kind, channels, shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = kind(*channels)
    exact, rounded = (played(layer, drawn("x", shape), bfloat16) for bfloat16 in (False, True))
    for one, other in zip(exact, rounded, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 0.01 * one.norm()


@pytest.mark.parametrize(
    "kernel, stride, padding, groups, size",
    [
        (3, 1, 1, 2, (6, 5)), (4, 2, 1, 1, (8, 4)), (4, 2, 1, 4, (6, 6)), (3, 2, 1, 1, (6, 6)), (1, 1, 0, 1, (3, 2)),
        (4, 1, 0, 4, (4, 4)),
    ],
)  # fmt: skip
def test_a_convolution_equals_torchs_and_can_be_differentiated_twice(kernel, stride, padding, groups, size):
    """In double precision, where finite differences are exact enough to tell."""
    x = drawn("x", (2, 4, *size)).double().requires_grad_()
    weight = drawn("weight", (4, 4 // groups, kernel, kernel)).double().requires_grad_()
    bias = drawn("bias", (4,)).double().requires_grad_()

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv.conv2d(x, weight, bias, stride, padding, groups)

    def transposed(y: Tensor, weight: Tensor) -> Tensor:
        return conv.conv_transpose2d(y, weight, stride, padding, groups)

    y = ours(x, weight, bias)
    assert torch.equal(y, functional.conv2d(x, weight, bias, stride, padding, groups=groups))
    assert gradcheck(ours, (x, weight, bias), fast_mode=True)
    assert gradgradcheck(ours, (x, weight, bias), fast_mode=True)
    y = y.detach().requires_grad_()
    expected = functional.conv_transpose2d(y, weight, None, stride, padding, groups=groups)
    assert torch.equal(transposed(y, weight), expected)
    assert gradcheck(transposed, (y, weight), fast_mode=True)
    assert gradgradcheck(transposed, (y, weight), fast_mode=True)


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that torch computes within this context."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "convolution" in func.__name__
        return func(*args, **(kwargs or {}))


def test_a_step_of_the_penalised_discriminator_computes_only_the_convolutions_that_it_needs():
    """torch's own second derivatives compute 2,620 in this step."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, discriminator = make_networks(NetworkConfig("r3gan", 64, {"preset": "S", "nz": 8}))
    real, fake = drawn("real", (2, 3, 64, 64)), drawn("fake", (2, 3, 64, 64))
    with Convolutions() as convolutions:
        Relativistic(2.0).discriminator(discriminator, real, fake, 0.0).loss.backward()
    layers = sum(isinstance(module, nn.Conv2d) for module in discriminator.modules()) + 4  # which make maps smaller
    # in each: one for the logits, one for their gradient, and two derivatives of both
    assert convolutions.count <= 6 * layers


@pytest.mark.parametrize("arch", ["dcgan", "sketch"])
def test_the_layers_keep_the_names_of_their_weights(arch):
    """Models on disk, and imported ones, are read by these names."""
    generator, discriminator = make_networks(NetworkConfig(arch, 16, {"nz": 8, "ngf": 8, "ndf": 4}))
    assert "project.weight" in generator.state_dict()
    assert [name for name in discriminator.state_dict() if name.endswith("weight")] == [
        "layers.0.weight", "layers.2.weight", "layers.3.weight", "layers.5.weight",
    ]  # fmt: skip
