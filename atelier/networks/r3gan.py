"""R3GAN in its compact form (Huang et al., arXiv 2501.05441): residual blocks without any normalisation.

No layer combines the images of a batch. The networks are made for the relativistic loss with both gradient penalties.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import Conv2d, ToLogit, conv2d, conv_transpose2d
from atelier.networks.labels import Discriminator, LabelEmbedding, Labels
from atelier.networks.latent_field import SQUARE_CELLS, FieldGenerator, Lattice, doublings, latent_per_cell
from atelier.pictures import BASE_SIDE, Cells

PRESETS = {"S": (256, 1), "M": (384, 2), "L": (768, 2)}  # widest layer, blocks a resolution; L is the paper's
WIDEST_PX = 32  # channels halve with each doubling above, down to an eighth
EXPANSION = 2  # the inner convolution's channels as a multiple of the outer's
GROUP = 16  # channels of a group of the inner convolution
SLOPE = 0.2
GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # keeps the variance through a leaky ReLU


class R3ganGenerator(FieldGenerator):
    """Latents (B, nz) or (B, nz, h, w), standard normal → images (B, 3, H, W) of h × w times the size of one picture.

    One picture has `cells` base cells of resolution / 4 px. Colours are in about [−1, 1]: there is no tanh, and values
    outside are clipped when they are converted to pixels.
    """

    def __init__(
        self, resolution: int, preset: str, nz: int = 64, labels: Labels | None = None, cells: Cells = SQUARE_CELLS
    ) -> None:
        super().__init__()
        self.resolution, self.nz, self.labels, self.cells = resolution, nz, labels, cells
        widths, blocks = _shape(resolution, preset)
        # at each size the blocks depend on `blocks` px more and upsampling on one; each size counts half the one before
        context = 2 * blocks + 1
        cell_px = resolution // BASE_SIDE
        down, across = (Lattice(side, overhang=0, before=1, after=1, context=context, px=cell_px) for side in cells)
        self.lattices = down, across
        self.project = Conv2d(nz, widths[0], 1)
        self.basis = nn.Parameter(torch.empty(widths[0], *cells))
        layers = _blocks(widths[0], blocks)
        for coarse, fine in itertools.pairwise(widths):
            layers += [Up(coarse, fine), *_blocks(fine, blocks)]
        self.layers = nn.Sequential(*layers, Conv2d(widths[-1], 3, 1))
        _init(self)
        nn.init.normal_(self.basis)
        self.embed = LabelEmbedding(self.classes, widths[0]) if labels else None

    def base(self, z: Tensor) -> Tensor:
        latents = latent_per_cell(z[:, : self.nz], self.cells, self.normalise_overlap)
        pictures = (max(side // count, 1) for side, count in zip(latents.shape[2:], self.cells, strict=True))
        projected: Tensor = self.project(latents)
        if self.labels:
            weights = latent_per_cell(z[:, self.nz :], self.cells, normalise_overlap=False)
            projected = projected + conv_transpose2d(weights, self.label_kernels())
        return projected * self.basis.repeat(1, *pictures)


class R3ganDiscriminator(Discriminator):
    """Images (B, 3, H, W) of one picture's size → logits (B,), larger for real; twice differentiable."""

    def __init__(self, resolution: int, preset: str, labels: Labels | None = None, cells: Cells = SQUARE_CELLS) -> None:
        super().__init__()
        widths, blocks = _shape(resolution, preset)
        layers: list[nn.Module] = [Conv2d(3, widths[-1], 1)]
        for fine, coarse in itertools.pairwise(reversed(widths)):
            layers += [*_blocks(fine, blocks), Down(fine, coarse)]
        last = Conv2d(widths[0], widths[0], cells, groups=widths[0], pad=False)
        self.layers = nn.Sequential(*layers, *_blocks(widths[0], blocks), last, ToLogit(widths[0], (1, 1)))
        _init(self)
        self.embed = LabelEmbedding(len(labels.names), widths[0]) if labels else None


class Block(nn.Module):
    """x + W₃ φ(W₂ φ(W₁ x + b₁) + b₂): 1×1 up, 3×3 in groups, 1×1 down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.widen = Conv2d(width, inner, 1, bias=True)
        self.mix = Conv2d(inner, inner, 3, groups=inner // GROUP, bias=True)
        self.narrow = Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.widen(x), SLOPE)
        y = functional.leaky_relu(self.mix(y), SLOPE)
        narrowed: Tensor = self.narrow(y)
        return x + narrowed


class Resample(nn.Module):
    """Resampling by the fixed kernel [1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64, and a 1×1 convolution if channels change."""

    kernel: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.channels = nn.Identity() if before == after else Conv2d(before, after, 1)
        # on the CPU even if the network is built on torch's meta device, because no file contains it
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu")
        self.register_buffer("kernel", torch.outer(line, line)[None, None] / 64, persistent=False)


class Up(Resample):
    """(B, before, H, W) → (B, after, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(x)
        kernel = (4 * self.kernel).expand(x.shape[1], -1, -1, -1)
        return conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class Down(Resample):
    """(B, before, H, W) → (B, after, H/2, W/2)."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], -1, -1, -1)
        smaller: Tensor = self.channels(conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1]))
        return smaller


def _shape(resolution: int, preset: str) -> tuple[list[int], int]:
    """The channels at 4, 8, … px up to a square picture's side, and the number of blocks at each."""
    widest, blocks = PRESETS[preset]
    sides = [BASE_SIDE * 2**step for step in range(doublings(resolution) + 1)]
    return [max(widest * WIDEST_PX // max(side, WIDEST_PX), widest // 8) for side in sides], blocks


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [Block(width) for _ in range(count)]


def _init(network: nn.Module) -> None:
    """Initialise for variance 1 after every layer; blocks begin as the identity.

    With L blocks, the first two of a block's three layers are scaled by L^(−1/4) (Fixup, arXiv 1901.09321 §3.1).
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _normal(module, 1.0)
    for block in blocks:
        for layer in (block.widen, block.mix):
            _normal(layer, GAIN * len(blocks) ** -0.25)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(block.narrow.weight)


def _normal(layer: nn.Conv2d, gain: float) -> None:
    nn.init.normal_(layer.weight, 0.0, gain / layer.weight[0].numel() ** 0.5)
