"""The warm start: latents from which the generator learns to reconstruct the training images before it is a GAN.

The latent of an image is its whitened principal components at a low resolution. The generator learns to paint each
image from its latent, so the adversarial training begins with the layout and colours of the paintings.
"""

import torch
from torch import Tensor
from torch.nn import functional

from atelier.training.data import ResidentData
from atelier.training.distributed import ProcessGroup
from atelier.training.state import generator_for

SIDE_PX = 32  # images are reduced to this side for the principal component analysis
MAX_ANALYSED = 4000  # images
LOADED_AT_ONCE = 128  # images in memory as floats at their own size
ITERATIONS, OVERSAMPLED = 4, 10  # of the randomised decomposition (Halko et al., arXiv 0909.4061)
MIN_DEVIATION = 1e-6  # replaces the deviation of a component in which all images agree
JITTER_STD = 0.1  # of the noise added to an image's components


class PrincipalLatents:
    """The latents (n, nz) of a data set's items: whitened principal components, at most nz of them.

    All processes use those of rank 0, because on another CPU a component may have the opposite sign.
    """

    def __init__(self, data: ResidentData, nz: int, seed: int, group: ProcessGroup) -> None:
        self._nz = nz
        analysed = torch.randperm(len(data), generator=generator_for("components", seed, 0))[:MAX_ANALYSED]
        pixels = _reduced(data, analysed)
        mean = pixels.mean(0)
        pixels -= mean
        directions = _principal_directions(pixels, nz, seed)
        deviations = (pixels @ directions).norm(dim=0) / max(len(pixels) - 1, 1) ** 0.5
        scores = _reduced(data, torch.arange(len(data)), directions) - mean @ directions
        self._latents = scores / deviations.clamp_min(MIN_DEVIATION)
        group.broadcast([self._latents])

    def sample(self, items: Tensor, draws: torch.Generator) -> Tensor:
        """The latents (n, nz) of these items with a little noise; entries beyond the components are noise alone."""
        noise = torch.randn(len(items), self._nz, generator=draws)
        own = self._latents[items]
        return torch.cat([own + JITTER_STD * noise[:, : own.shape[1]], noise[:, own.shape[1] :]], 1)


def _principal_directions(pixels: Tensor, nz: int, seed: int) -> Tensor:
    """The first principal directions of centred rows, as columns: nz, or as many as the rows have."""
    count = min(nz, len(pixels) - 1, pixels.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**32)
        rank = min(count + OVERSAMPLED, *pixels.shape)
        _, _, directions = torch.svd_lowrank(pixels, rank, ITERATIONS)
    return directions[:, :count]


def _reduced(data: ResidentData, items: Tensor, directions: Tensor | None = None) -> Tensor:
    """Items as rows of floats at SIDE_PX on the CPU, or their coordinates along `directions`."""
    rows = []
    for part in torch.split(items, LOADED_AT_ONCE):
        images = data.images(part)
        side = min(SIDE_PX, images.shape[2])
        small = functional.adaptive_avg_pool2d(images, side).flatten(1).cpu()
        rows.append(small if directions is None else small @ directions)
    return torch.cat(rows)
