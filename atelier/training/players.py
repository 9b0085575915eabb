"""The two networks as a training begins with them: built, placed, each with its optimiser, and the average that paints.

Knows neither data nor steps.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.optim import Optimizer

from atelier.networks import make_networks
from atelier.networks.latent_field import PICTURE
from atelier.training.config import TrainingPlan
from atelier.training.ema import Ema
from atelier.training.initial import Start
from atelier.training.muon import Muon
from atelier.training.schedules import beta2_at

MUON_MOMENTUM = 0.5  # as Adam's first momentum in DCGAN: more makes the two networks oscillate


@dataclass(frozen=True)
class Players:
    """Generator and discriminator, their optimisers, and the generator's running average."""

    generator: nn.Module
    discriminator: nn.Module
    optimizer_g: Optimizer
    optimizer_d: Optimizer
    ema: Ema

    @classmethod
    def of(cls, plan: TrainingPlan, start: Start | None, device: torch.device) -> Self:
        """Of the plan's seed, or with the weights of `start`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)  # weights are drawn on the CPU, the same for every device
            generator, discriminator = make_networks(plan.network)
        if start:
            start.give_to(generator, discriminator)
        generator, discriminator = _placed(generator, device), _placed(discriminator, device)
        optimizer_g = _optimizer(generator, plan, plan.lr, plan.muon_lr)
        optimizer_d = _optimizer(discriminator, plan, plan.lr_discriminator, plan.muon_lr_discriminator)
        ema = Ema(generator, plan.ema)
        ema.keeps_statistics = start is not None
        return cls(generator, discriminator, optimizer_g, optimizer_d, ema)


class MuonAndAdam(Optimizer):
    """One optimiser for a network: Muon for the kernels of its hidden convolutions, Adam for all other weights.

    The others are those that read or write pictures or logits, batch norms and biases. The first parameter group is
    Adam's, the second Muon's.
    """

    def __init__(self, network: nn.Module, adam: torch.optim.Adam, muon: Muon) -> None:
        super().__init__(network.parameters(), {})
        self._both = (adam, muon)
        self.param_groups = [*adam.param_groups, *muon.param_groups]
        adam.state = muon.state = self.state  # of different weights: one state to save and to load

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for optimizer in self._both:
            optimizer.step()


def hidden_kernels(network: nn.Module) -> list[nn.Parameter]:
    """The kernels of convolutions from features to features: neither from or to pictures, nor to a logit."""
    return [
        weight
        for weight in network.parameters()
        if weight.ndim == 4 and not {1, PICTURE} & {*weight.shape[:2]}
    ]


def _optimizer(network: nn.Module, plan: TrainingPlan, lr: float, muon_lr: float) -> Optimizer:
    betas = (plan.beta1, beta2_at(plan.beta2, 0))
    hidden = hidden_kernels(network) if plan.optimizer == "muon" else []
    if not hidden:
        return torch.optim.Adam(network.parameters(), lr, betas, fused=True)
    names = {id(weight) for weight in hidden}
    others = [weight for weight in network.parameters() if id(weight) not in names]
    muon = Muon(hidden, muon_lr, MUON_MOMENTUM, "original")
    return MuonAndAdam(network, torch.optim.Adam(others, lr, betas, fused=True), muon)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, channels last: what its convolutions like best."""
    return network.to(device).to(memory_format=torch.channels_last)
