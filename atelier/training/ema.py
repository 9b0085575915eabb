"""The running average of the generator, which is what paints."""

import copy

import torch
from torch import nn


class Ema:
    """Keeps `average` = an exponential average of a network's weights; buffers (batch statistics) likewise.

    The decay warms up as min(decay, (1 + t) / (10 + t)), so that a short run is not an average of its noise.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay
        self._pairs = list(
            zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        floats = [(mine, theirs) for mine, theirs in self._pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)
        for mine, theirs in self._pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)
