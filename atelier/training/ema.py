"""The running average of the generator, which is what paints."""

import copy
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

POWER = 16.97  # σ_rel 0.05: the average reaches back over a twentieth of the training so far (arXiv 2312.02696 §3.1)


class Ema:
    """Keeps `average` = a running average of a network's weights and buffers.

    An exponential one's decay warms up as min(decay, (1 + t) / (10 + t)), so that a short run is not an average of
    its noise. With "power" the decay is (1 − 1/t)^(1 + POWER) at step t: it reaches back over the same share of any
    training, short or long.
    """

    def __init__(self, network: nn.Module, decay: float | Literal["power"]) -> None:
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay
        self.keeps_statistics = False  # until the first update: for weights that came with their own
        self._pairs = list(
            zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0."""
        self.keeps_statistics = False
        weight = 1 - self._decay_at(step)
        floats = [(mine, theirs) for mine, theirs in self._pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)
        for mine, theirs in self._pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)

    def painter(self, latents: Iterable[Tensor]) -> nn.Module:
        """A copy of the average whose batch norms measure their statistics anew on `latents`, in eval mode.

        Averaged weights have other activations than the weights that were averaged: the statistics must be their own
        (Izmailov et al., arXiv 1803.05407 §3.2).
        """
        painter = copy.deepcopy(self.average)
        if not self.keeps_statistics:
            update_bn(latents, painter)
        return painter.eval()

    def _decay_at(self, step: int) -> float:
        if self._decay == "power":
            return float((1 - 1 / (step + 1)) ** (1 + POWER))
        return min(self._decay, (1 + step) / (10 + step))
