"""The adversarial losses and the weight of their gradient penalties, written as in the papers.

A loss receives the discriminator and the images instead of logits, because the penalties need the gradient of the
logits with respect to the images.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import without_weight_gradients

GAMMA_64, GAMMA_EXPONENT = 2.0, 3.1  # fitted to R3GAN's 2 at 64 px and 150 at 256 px (its train.py)
GAMMA_END_RATIO = 0.1  # the penalties' weight at the end of a training, relative to the start

Logs = dict[str, Tensor]  # the named means of one step, scalars without gradients, on the device


class DiscriminatorLoss(NamedTuple):
    """What the discriminator minimises, and the values of the step for losses.csv."""

    loss: Tensor
    logs: Logs


class AdversarialLoss(Protocol):
    """The losses of both networks on images (B, 3, H, W), each the mean over the batch."""

    columns: tuple[str, ...]  # of losses.csv: the discriminator's logs, and loss_g

    def discriminator(
        self, network: nn.Module, real: Tensor, fake: Tensor, progress: float, *labels: Tensor
    ) -> DiscriminatorLoss:
        """The discriminator's loss; `progress` is the share of the training that is done, from 0 to 1.

        `labels`, (B, classes), are those of the real and of the generated images, if the network has any.
        """

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """The generator's loss. `network` is the discriminator, whose weights need no gradients; only `fake` does."""


class NonSaturating:
    """Goodfellow's non-saturating loss (arXiv 1406.2661 §3), as in DCGAN: binary cross-entropy on logits.

    A discriminator that guesses has loss_d = 2 ln 2. d_real and d_fake are the mean probabilities of being real that
    it gives to real and to generated images.
    """

    columns: tuple[str, ...] = ("loss_d", "loss_g", "d_real", "d_fake")

    def discriminator(
        self, network: nn.Module, real: Tensor, fake: Tensor, progress: float, *labels: Tensor
    ) -> DiscriminatorLoss:
        """−log σ(D(x)) − log(1 − σ(D(g)))."""
        real_logits, fake_logits = network(real, *labels), network(fake, *labels)
        loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        d_real, d_fake = real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()
        return DiscriminatorLoss(loss, _logs(loss_d=loss, d_real=d_real, d_fake=d_fake))

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """−log σ(D(g))."""
        return functional.softplus(-network(fake, *labels)).mean()


class Relativistic:
    """R3GAN's loss (arXiv 2501.05441): relativistic pairing of real and generated images, with R1 and R2 penalties.

    loss_d is logged without the penalties, so a discriminator that guesses has loss_d = ln 2. d_gap is the mean of
    D(x) − D(g), penalty the mean squared gradient of both, whose weight at the start of the training is `gamma`.
    Gradients are taken with respect to the augmented images.
    """

    columns: tuple[str, ...] = ("loss_d", "loss_g", "d_gap", "penalty")

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def discriminator(
        self, network: nn.Module, real: Tensor, fake: Tensor, progress: float, *labels: Tensor
    ) -> DiscriminatorLoss:
        """softplus(−(D(x) − D(g))) + γ/2 · (‖∇D(x)‖² + ‖∇D(g)‖²): R1 on real images, R2 on generated ones."""
        if _combines_images(network):
            real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
            real_logits, fake_logits = network(real, *labels), network(fake, *labels)
            penalty = (_squared_gradient(real_logits, real) + _squared_gradient(fake_logits, fake)).mean()
        else:  # half as many convolutions to start
            images = torch.cat([real, fake]).detach().requires_grad_()
            logits = network(images, *(each.repeat(2, 1) for each in labels))
            real_logits, fake_logits = logits.chunk(2)
            penalty = 2 * _squared_gradient(logits, images).mean()
        loss = functional.softplus(fake_logits - real_logits).mean()
        logs = _logs(loss_d=loss, d_gap=(real_logits - fake_logits).mean(), penalty=penalty)
        return DiscriminatorLoss(loss + gamma_at(self.gamma, progress) / 2 * penalty, logs)

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """softplus(−(D(g) − D(x)))."""
        with torch.no_grad():
            real_logits = network(real, *labels)
        return functional.softplus(real_logits - network(fake, *labels)).mean()


class Hinge:
    """The hinge loss (arXiv 1705.02894), as Projected GAN has it: without penalties, a mean over all logits.

    A discriminator that guesses has loss_d = 2. logit_real and logit_fake are the mean logits of both kinds of images.
    """

    columns: tuple[str, ...] = ("loss_d", "loss_g", "logit_real", "logit_fake")

    def discriminator(
        self, network: nn.Module, real: Tensor, fake: Tensor, progress: float, *labels: Tensor
    ) -> DiscriminatorLoss:
        """max(0, 1 − D(x)) + max(0, 1 + D(g))."""
        real_logits, fake_logits = network(real, *labels), network(fake, *labels)
        loss = functional.relu(1 - real_logits).mean() + functional.relu(1 + fake_logits).mean()
        logs = _logs(loss_d=loss, logit_real=real_logits.mean(), logit_fake=fake_logits.mean())
        return DiscriminatorLoss(loss, logs)

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        """−D(g)."""
        generated: Tensor = network(fake, *labels)
        return -generated.mean()


class OwnAndFeatures:
    """The loss `own` of an architecture's own discriminator plus the hinge loss of one over features, weights 1 and 1.

    The network is a `BothDiscriminators`. loss_d is the own one's, features_loss_d the other's, loss_g the sum.
    """

    def __init__(self, own: AdversarialLoss) -> None:
        self._own, self._features = own, Hinge()
        self.columns = (*own.columns, "features_loss_d", "logit_real", "logit_fake")

    def discriminator(
        self, network: nn.Module, real: Tensor, fake: Tensor, progress: float, *labels: Tensor
    ) -> DiscriminatorLoss:
        own = self._own.discriminator(network.own, real, fake, progress, *labels)  # type: ignore[arg-type]
        features = self._features.discriminator(network.features, real, fake, progress, *labels)  # type: ignore[arg-type]
        logs = {**features.logs, "features_loss_d": features.logs["loss_d"], **own.logs}
        return DiscriminatorLoss(own.loss + features.loss, logs)

    def generator(self, network: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        own = self._own.generator(network.own, real, fake, *labels)  # type: ignore[arg-type]
        return own + self._features.generator(network.features, real, fake, *labels)  # type: ignore[arg-type]


def reconstruction_loss(painted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of images (B, 3, H, W), plus that at half their size and twice that at a quarter."""
    difference = painted - real
    half = functional.avg_pool2d(difference, 2)
    quarter = functional.avg_pool2d(half, 2)
    return difference.abs().mean() + half.abs().mean() + 2 * quarter.abs().mean()


def gamma_for(resolution: int) -> float:
    """The penalties' weight at the start, by the images' side in pixels: 2 at 64, 17 at 128, 147 at 256."""
    return float(GAMMA_64 * (resolution / 64) ** GAMMA_EXPONENT)


def gamma_at(start: float, progress: float) -> float:
    """The penalties' weight after this share of the training; it falls along a cosine to a tenth of `start`."""
    return cosine(start, start * GAMMA_END_RATIO, progress)


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine, as R3GAN's schedules; `progress` is clamped to [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def _combines_images(network: nn.Module) -> bool:
    """Whether a layer uses statistics of its batch, which are then those of real or of generated images alone."""
    return any(name.endswith("running_mean") for name, _ in network.named_buffers())  # of any kind of batch norm


def _squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """‖∇D‖² of each image (B,), itself differentiable."""
    with without_weight_gradients():
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def _logs(**values: Tensor) -> Logs:
    return {name: value.detach() for name, value in values.items()}
