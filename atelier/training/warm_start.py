"""A warm start: the generator first learns to reconstruct the training pictures from their principal components.

A picture's latent is its whitened principal components at a low resolution. The generator learns to paint each picture
from its latent, and so begins the adversarial training with the paintings' layout and colours.
"""

import torch
from torch import Tensor
from torch.nn import functional

from atelier.training.data import ResidentData
from atelier.training.distributed import World
from atelier.training.seeds import generator_for

SIDE_PX = 32  # at which pictures are analysed
FITTED = 4000  # pictures at most that the components are found from
AT_ONCE = 128  # pictures in memory as floats at their own size
ITERATIONS, OVERSAMPLED = 4, 10  # of the randomised decomposition (Halko et al., arXiv 0909.4061)
TINY = 1e-6  # in place of the deviation of a component that no picture has
JITTER = 0.1  # standard deviation of the noise added to a picture's components


class PrincipalLatents:
    """The latents (n, nz) of a data set's items: whitened principal components, as many as there are, at most nz.

    All processes of `world` use those of the first: on another CPU a component may come out with the opposite sign.
    """

    def __init__(self, data: ResidentData, nz: int, seed: int, world: World) -> None:
        self._nz = nz
        fitted = torch.randperm(len(data), generator=generator_for("components", seed, 0))[:FITTED]
        pixels = _small(data, fitted)
        mean = pixels.mean(0)
        pixels -= mean
        directions = _directions(pixels, nz, seed)
        deviations = (pixels @ directions).norm(dim=0) / max(len(pixels) - 1, 1) ** 0.5
        scores = _small(data, torch.arange(len(data)), directions) - mean @ directions
        self._latents = scores / deviations.clamp_min(TINY)
        world.as_first([self._latents])

    def drawn(self, items: Tensor, draws: torch.Generator) -> Tensor:
        """Latents (n, nz) of these items with a little noise; numbers beyond the components are noise alone."""
        noise = torch.randn(len(items), self._nz, generator=draws)
        own = self._latents[items]
        return torch.cat([own + JITTER * noise[:, : own.shape[1]], noise[:, own.shape[1] :]], 1)


def _directions(pixels: Tensor, nz: int, seed: int) -> Tensor:
    """The first principal directions of centred rows, as columns: nz, or as many as the rows have."""
    known = min(nz, len(pixels) - 1, pixels.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**32)
        rank = min(known + OVERSAMPLED, *pixels.shape)
        _, _, directions = torch.svd_lowrank(pixels, rank, ITERATIONS)
    return directions[:, :known]


def _small(data: ResidentData, items: Tensor, directions: Tensor | None = None) -> Tensor:
    """Items as rows of floats at SIDE_PX on the CPU, or their coordinates along `directions`."""
    rows = []
    for part in torch.split(items, AT_ONCE):
        pictures = data.pictures(part)
        side = min(SIDE_PX, pictures.shape[2])
        small = functional.adaptive_avg_pool2d(pictures, side).flatten(1).cpu()
        rows.append(small if directions is None else small @ directions)
    return torch.cat(rows)
