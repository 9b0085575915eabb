"""The running average of the generator, which is what paints."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


class Ema:
    """Keeps `average` = an exponential average of a network's weights and buffers.

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

    def painter(self, latents: Iterable[Tensor]) -> nn.Module:
        """A copy of the average whose batch norms measure their statistics anew on `latents`, in eval mode.

        Averaged weights have other activations than the weights that were averaged: the statistics must be their own
        (Izmailov et al., arXiv 1803.05407 §3.2). Here they lower kid_rand by 43 % in the median (docs/training.md).
        """
        painter = copy.deepcopy(self.average)
        update_bn(latents, painter)
        return painter.eval()
