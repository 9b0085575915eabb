"""The adversarial losses and the weight of their penalties."""

import pytest
import torch
from torch import nn

from atelier.networks import NetworkConfig, make_networks
from atelier.training.losses import Relativistic, gamma_at, gamma_for
from atelier.training.state import generator_for

NZ, BATCH = 8, 8


class Bowl(nn.Module):
    """D(x) = a · Σx², whose gradient is 2 a x."""

    def __init__(self, a: float = 0.1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.a * images.square().sum((1, 2, 3))


def images(name: str, count: int = BATCH) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator_for(name)) * 2 - 1


def test_the_relativistic_loss_pairs_each_real_image_with_a_generated_one():
    bowl, real, fake = Bowl(), images("real"), images("fake")
    gap = bowl(real) - bowl(fake)
    loss, logs = Relativistic(gamma=0).discriminator(bowl, real, fake, 0)
    assert loss.item() == pytest.approx(nn.functional.softplus(-gap).mean().item())
    assert logs["loss_d"].item() == pytest.approx(loss.item(), abs=1e-6)
    assert logs["d_gap"].item() == pytest.approx(gap.mean().item(), abs=1e-6)
    expected = nn.functional.softplus(gap).mean()
    assert Relativistic(1).generator(bowl, real, fake).item() == pytest.approx(expected.item())


def test_both_penalties_are_squared_gradients_and_are_differentiable():
    bowl, real, fake = Bowl(0.1), images("real"), images("fake")
    loss, logs = Relativistic(gamma=3).discriminator(bowl, real, fake, 0)
    squares = sum(x.square().sum((1, 2, 3)).mean().item() for x in (real, fake))
    assert logs["penalty"].item() == pytest.approx(4 * 0.1**2 * squares, rel=1e-5)
    without = Relativistic(gamma=0).discriminator(bowl, real, fake, 0).loss
    (with_penalty,) = torch.autograd.grad(loss, bowl.a)
    (alone,) = torch.autograd.grad(without, bowl.a)
    assert (with_penalty - alone).item() == pytest.approx(3 / 2 * 8 * 0.1 * squares, rel=1e-4)


def test_the_generators_loss_computes_no_gradient_for_real_images():
    real, fake = images("real").requires_grad_(), images("fake").requires_grad_()
    Relativistic(1).generator(Bowl(), real, fake).backward()
    assert real.grad is None
    assert fake.grad is not None


def test_gamma_depends_on_the_resolution_and_falls_to_a_tenth():
    assert [gamma_for(side) for side in (64, 128, 256)] == pytest.approx([2, 17.1, 147], rel=0.01)
    assert [gamma_at(2, done) for done in (0, 0.5, 1, 1.2)] == pytest.approx([2, 1.1, 0.2, 0.2])


@pytest.mark.parametrize("arch, settings", [
    ("dcgan", {"nz": NZ, "ngf": 8, "ndf": 4}), ("sketch", {"nz": NZ, "ngf": 8, "ndf": 4, "noise": 4}),
    ("r3gan", {"preset": "S", "nz": NZ}),
])  # fmt: skip
def test_the_gradients_of_the_penalties_are_deterministic(arch, settings):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        _, discriminator = make_networks(NetworkConfig(arch, 16, settings))
    real, fake = (torch.rand(2, 3, 16, 16, generator=generator_for(name)) for name in ("real", "fake"))
    torch.set_deterministic_debug_mode("error")
    try:
        found = []
        for _ in range(2):
            discriminator.zero_grad()
            Relativistic(2).discriminator(discriminator, real, fake, 0).loss.backward()
            found.append([parameter.grad.clone() for parameter in discriminator.parameters()])
    finally:
        torch.set_deterministic_debug_mode("default")
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(gradient.isfinite().all() for gradient in found[0])
