"""From latents to the 4×4 cells that a generator grows from: one cell of latents, or a field of them for a canvas.

Here every latent of a field is a whole picture of its own, and what lies between two of them passes from one into the
other: a (h, w) field becomes a picture of h · resolution × w · resolution px. Each 4×4 cell is given the latent that
it would have in a picture of its own, so that the layers above see only what they were trained on.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BASE = 4  # side of the coarsest feature map of one picture
PICTURE = 3  # channels of a picture


@dataclass(frozen=True)
class Lattice:
    """How latents, base cells and pixels lie over each other, alike along both axes.

    Latent j begins at base cell j · cells, and n latents make n · cells + overhang of them. Base cells depend on the
    latents above them, `before` more and `after` more. The picture above base cells [j, k) depends on `context` more of
    them at either side; each is px wide.
    """

    cells: int
    overhang: int
    before: int
    after: int
    context: int
    px: int


class FieldGenerator(nn.Module):
    """Base class of the generators, which paint one picture from one latent, or a larger canvas from a field of them.

    The input, (B, inputs) or (B, inputs, h, w), is standard normal. Its first `nz` numbers are the latent, which
    decides what the picture shows. The others are the grain, noise for details: `grain` numbers for each of the 4×4
    base cells of a latent, none for most networks. Between neighbouring latents their sum or mixture is scaled to the
    length of one latent, unless `normalise_overlap` is False.
    """

    resolution: int
    nz: int
    lattice: Lattice
    layers: nn.Sequential
    normalise_overlap: bool = True
    grain: int = 0

    @property
    def inputs(self) -> int:
        """Numbers of one latent and its grain."""
        return self.nz + BASE * BASE * self.grain

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(self.with_grain(self.base(z[:, : self.nz]), z[:, self.nz :]))
        return images

    def with_grain(self, base: Tensor, grain: Tensor) -> Tensor:
        """Concatenate the grain, (B, n) or (B, n, h, w), to base features (B, features, 4h, 4w), along the channels."""
        if not self.grain:
            return base
        height, width = base.shape[2] // BASE, base.shape[3] // BASE
        cells = grain.view(-1, self.grain, BASE, BASE, height, width).permute(0, 1, 4, 2, 5, 3)
        return torch.cat([base, cells.reshape(-1, self.grain, *base.shape[2:]).to(base.dtype)], 1)

    def base(self, z: Tensor) -> Tensor:
        """The coarsest features of one latent, (B, features, 4, 4), or of a field, from which the layers go on."""
        raise NotImplementedError


def doublings(resolution: int) -> int:
    """How often 4×4 cells are doubled until they are the picture."""
    times = int(math.log2(resolution)) - 2
    if times < 1 or resolution != BASE * 2**times:
        raise ValueError(f"resolution holds {resolution}; it may hold a power of two from 8 up")
    return times


def latent_per_cell(z: Tensor, normalise_overlap: bool = True) -> Tensor:
    """A latent for every 4×4 cell: (B, nz) → (B, nz, 1, 1), which stands for all 16, (B, nz, h, w) → (B, nz, 4h, 4w).

    Between the middles of neighbouring pictures latents are mixed linearly and then stretched to the length that
    lengths mixed the same way have: mixed normal latents would be shorter than any that training showed. Without
    `normalise_overlap` they stay as short as that.
    """
    if z.ndim == 2:
        return z[:, :, None, None]
    if z.shape[2:] == (1, 1):
        return z
    if not normalise_overlap:
        return _widened(z)
    lengths = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    mixed, wanted = _widened(z), _widened(lengths)
    stretched: Tensor = mixed * (
        wanted / torch.linalg.vector_norm(mixed, dim=1, keepdim=True).clamp_min(1e-12)
    )
    return stretched


def tiled(cells: Tensor, like: Tensor) -> Tensor:
    """Repeat what belongs to the cells of one picture, (C, 4, 4), over a field that `latent_per_cell` returned."""
    return cells.repeat(1, max(like.shape[2] // BASE, 1), max(like.shape[3] // BASE, 1))


def _widened(field: Tensor) -> Tensor:
    return functional.interpolate(field, scale_factor=float(BASE), mode="bilinear", align_corners=False)
