"""The two networks as a training begins with them: built, placed, each with its optimiser, and the average that paints.

Knows neither data nor steps.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.optim import Optimizer

from atelier.networks import make_networks
from atelier.start import Start
from atelier.training.ema import Ema
from atelier.training.plan import TrainingPlan
from atelier.training.schedules import beta2_at


@dataclass(frozen=True)
class Players:
    """Generator and discriminator, their optimisers, and the generator's running average."""

    generator: nn.Module
    discriminator: nn.Module
    adam_g: Optimizer
    adam_d: Optimizer
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
        betas = (plan.beta1, beta2_at(plan.beta2, 0))
        adam_g = torch.optim.Adam(generator.parameters(), plan.lr, betas, fused=True)
        adam_d = torch.optim.Adam(discriminator.parameters(), plan.lr_discriminator, betas, fused=True)
        ema = Ema(generator, plan.ema)
        ema.keeps_statistics = start is not None
        return cls(generator, discriminator, adam_g, adam_d, ema)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, channels last: what its convolutions like best."""
    return network.to(device).to(memory_format=torch.channels_last)
