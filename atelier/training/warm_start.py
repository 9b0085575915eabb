"""A warm start: the generator first learns to reconstruct the training pictures from their principal components.

A picture's latent is its whitened principal components at a low resolution. The generator learns to paint each picture
from its latent, and so begins the adversarial training with the paintings' layout and colours.
"""

import torch
from torch import Tensor
from torch.nn import functional

from atelier.training.data import ResidentData
from atelier.training.seeds import generator_for

SIDE_PX = 32  # at which pictures are analysed
FITTED = 4000  # pictures at most that the components are found from
AT_ONCE = 500  # pictures in memory as floats
ITERATIONS, OVERSAMPLED = 4, 10  # of the randomised decomposition (Halko et al., arXiv 0909.4061)
JITTER = 0.1  # standard deviation of the noise added to a picture's components


class PrincipalLatents:
    """The latents (n, nz) of a data set's items: whitened principal components, as many as there are, at most nz."""

    def __init__(self, data: ResidentData, nz: int, seed: int) -> None:
        self._nz = nz
        pixels = torch.cat([_small(data, part) for part in torch.split(torch.arange(len(data)), AT_ONCE)])
        chosen = torch.randperm(len(pixels), generator=generator_for("components", seed, 0))[:FITTED]
        mean = pixels[chosen].mean(0)
        pixels -= mean
        known = min(nz, len(chosen) - 1, pixels.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**32)
            rank = min(known + OVERSAMPLED, len(chosen), pixels.shape[1])
            _, _, directions = torch.svd_lowrank(pixels[chosen], rank, ITERATIONS)
        scores = pixels @ directions[:, :known]
        self._latents = scores / scores[chosen].std(0).clamp_min(1e-6)

    def drawn(self, items: Tensor, draws: torch.Generator) -> Tensor:
        """Latents (n, nz) of these items with a little noise; numbers beyond the components are noise alone."""
        noise = torch.randn(len(items), self._nz, generator=draws)
        own = self._latents[items]
        return torch.cat([own + JITTER * noise[:, : own.shape[1]], noise[:, own.shape[1] :]], 1)


def _small(data: ResidentData, items: Tensor) -> Tensor:
    """Items as rows of floats at SIDE_PX, on the CPU."""
    pictures = data.pictures(items).cpu()
    side = min(SIDE_PX, pictures.shape[2])
    return functional.adaptive_avg_pool2d(pictures, side).flatten(1)
