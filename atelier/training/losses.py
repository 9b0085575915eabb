"""What the two networks play for: two games behind one interface.

A game is handed the discriminator and the pictures rather than logits, because one of them punishes gradients.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.training.schedules import gamma_at

GAMMA_64, GAMMA_EXPONENT = 2.0, 3.1  # fitted to R3GAN's 2 at 64 px and 150 at 256 px (its train.py)


class Verdict(NamedTuple):
    """What the discriminator minimises, and what the curve is told of it: three numbers (3,), without gradients."""

    loss: Tensor
    told: Tensor


class Game(Protocol):
    """A loss for either side on pictures (B, 3, H, W), each the mean of its batch."""

    columns: tuple[str, str, str, str]  # of the curve: D's loss, G's loss, and two more of D's numbers

    def discriminator(self, network: nn.Module, real: Tensor, fake: Tensor, done: float) -> Verdict:
        """`done` is the share of the training that lies behind; told are the first, third and fourth column."""

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Gradients flow to `fake` alone; `network`'s weights ask for none."""


class NonSaturating:
    """Goodfellow's non-saturating game (arXiv 1406.2661 §3), as DCGAN plays it: binary cross-entropy on logits.

    loss_d 2 ln 2 is guessing; d_real and d_fake are how likely the discriminator holds either to be real.
    """

    columns = ("loss_d", "loss_g", "d_real", "d_fake")

    def discriminator(self, network: nn.Module, real: Tensor, fake: Tensor, done: float) -> Verdict:
        """−log σ(D(x)) − log(1 − σ(D(g)))."""
        real_logits, fake_logits = network(real), network(fake)
        loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        return Verdict(loss, _told(loss, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()))

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """−log σ(D(g))."""
        return functional.softplus(-network(fake)).mean()


class Relativistic:
    """R3GAN's game (arXiv 2501.05441): is this painting more real than that picture, kept calm by penalties?

    loss_d is the game's part alone, so ln 2 is guessing; d_gap is D(x) − D(g), penalty the squared gradient of both.
    The gradients are those by the pictures as the discriminator sees them, augmented.
    """

    columns = ("loss_d", "loss_g", "d_gap", "penalty")

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def discriminator(self, network: nn.Module, real: Tensor, fake: Tensor, done: float) -> Verdict:
        """softplus(−(D(x) − D(g))) + γ/2 · (‖∇D(x)‖² + ‖∇D(g)‖²): R1 on paintings, R2 on generated pictures."""
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        real_logits, fake_logits = network(real), network(fake)
        game = functional.softplus(fake_logits - real_logits).mean()
        penalty = (_squared_gradient(real_logits, real) + _squared_gradient(fake_logits, fake)).mean()
        told = _told(game, (real_logits - fake_logits).mean(), penalty)
        return Verdict(game + gamma_at(self.gamma, done) / 2 * penalty, told)

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """softplus(−(D(g) − D(x)))."""
        with torch.no_grad():
            real_logits = network(real)
        return functional.softplus(real_logits - network(fake)).mean()


def reconstruction_loss(painted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of pictures (B, 3, H, W) at their own size, half of it, and twice that at a quarter."""
    difference = painted - real
    half = functional.avg_pool2d(difference, 2)
    quarter = functional.avg_pool2d(half, 2)
    return difference.abs().mean() + half.abs().mean() + 2 * quarter.abs().mean()


def gamma_for(resolution: int) -> float:
    """The penalties' first weight: 2 at 64 px, 17 at 128, 147 at 256."""
    return float(GAMMA_64 * (resolution / 64) ** GAMMA_EXPONENT)


def _squared_gradient(logits: Tensor, pictures: Tensor) -> Tensor:
    """‖∇D‖² of each picture (B,), itself differentiable."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def _told(*numbers: Tensor) -> Tensor:
    return torch.stack([number.detach() for number in numbers])
