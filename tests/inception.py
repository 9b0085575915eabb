"""Weights for FID's network, drawn at random: the real ones are downloaded, which no test does."""

import io
from functools import cache

import torch
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3


class _Drawn(FeatureExtractorInceptionV3):
    """As it is built, before any file."""

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        pass


@cache
def random_weights() -> bytes:
    """A state dict as torch saves it, of layers that neither swallow nor blow up what passes through them."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _Drawn("drawn", ["2048"], nothing)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    saved = io.BytesIO()
    torch.save(network.state_dict(), saved)
    return saved.getvalue()
