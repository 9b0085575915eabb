"""DCGAN, and sketch, a small variant of it for CPUs and laptops.

DCGAN is as in Soumith's and Barrat's Torch code (arXiv 1511.06434; art-DCGAN's main.lua): all convolutions are 4×4
without bias, and a field of latents makes a larger picture. Its transposed convolutions have different weights for even
and odd pixels, which shows as a checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard). Sketch doubles
pixels and convolves 3×3, which leaves no checkerboard. For details it adds noise to the layer at half the resolution,
scaled by its features (after StyleGAN, arXiv 1812.04948 §3.2). Both have the same discriminator.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import Conv2d, Downsample, ProjectLatent, ToLogit, Upsample, conv_transpose2d
from atelier.networks.labels import Discriminator, LabelEmbedding, Labels
from atelier.networks.latent_field import (
    IMAGE_CHANNELS,
    SQUARE_CELLS,
    FieldGenerator,
    Lattice,
    doublings,
    latent_per_cell,
)
from atelier.pictures import BASE_SIDE, Cells

WEIGHTS_STD = 0.02  # of the first weights
PIXELS_STD = 0.06  # of those of sketch's last layer
# Share of the training's noise in eval mode. All of it shows as hatching in flat skies; without any, fine detail is
# missing (bench/RESULTS.md).
EVAL_NOISE = 0.5


class DcganGenerator(FieldGenerator):
    """Latents (B, nz) or (B, nz, h, w), standard normal → images in [−1, 1].

    One picture has `cells` base cells of resolution / 4 px, and a field (h + rows − 1, w + columns − 1) of them. For
    squares, up to 16 latents overlap in a cell of the first layer. In a field larger than 1×1 their sum is divided by
    the square root of their number, which keeps the variance that the next batch norm was trained on.
    """

    def __init__(
        self, resolution: int, nz: int = 100, ngf: int = 64, labels: Labels | None = None, cells: Cells = SQUARE_CELLS
    ) -> None:
        super().__init__()
        self.resolution, self.nz, self.labels, self.cells = resolution, nz, labels, cells

        def lattice(side: int) -> Lattice:
            # all upsampling layers together depend on one base cell more at each side, however many layers there are
            return Lattice(cells=1, overhang=side - 1, before=side - 1, after=0, context=1, px=resolution // BASE_SIDE)

        self.lattices = lattice(cells[0]), lattice(cells[1])
        widths = _widths(ngf, resolution)
        self.project = ProjectLatent(nz, widths[-1], cells)
        layers = [*_doubling_layers(Upsample, widths), Upsample(ngf, IMAGE_CHANNELS), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.embed = LabelEmbedding(self.classes, widths[-1], cells) if labels else None
        self.apply(_init)

    def base(self, z: Tensor) -> Tensor:
        field = z if z.ndim == 4 else z[:, :, None, None]
        features: Tensor = self.project(field[:, : self.nz])
        if self.normalise_overlap and field.shape[2:] != (1, 1):
            features = features * _overlap(field, self.cells).rsqrt()
        if self.labels:
            # the mean of labels that overlap
            labels = conv_transpose2d(field[:, self.nz :], self.label_kernels())
            features = features + labels / _overlap(field, self.cells)
        return features


class DcganDiscriminator(Discriminator):
    """Images (B, 3, H, W) of one picture's size, in [−1, 1] → logits (B,), positive for real."""

    def __init__(
        self, resolution: int, ndf: int = 64, labels: Labels | None = None, cells: Cells = SQUARE_CELLS
    ) -> None:
        super().__init__()
        widths = _widths(ndf, resolution)
        layers: list[nn.Module] = [Downsample(IMAGE_CHANNELS, ndf), nn.LeakyReLU(0.2, inplace=True)]
        for fine, coarse in itertools.pairwise(widths):
            layers += [Downsample(fine, coarse), nn.BatchNorm2d(coarse), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, ToLogit(widths[-1], cells))
        self.embed = LabelEmbedding(len(labels.names), widths[-1], cells) if labels else None
        self.apply(_init)


class SketchGenerator(FieldGenerator):
    """Latents and grain, standard normal → images in [−1, 1] of h × w times the size of one picture.

    Args:
        resolution: side of one square picture in px, a power of two.
        nz: length of a latent.
        ngf: channels at half the resolution, doubled at each coarser step and halved at the full resolution.
        noise: maps of noise at half the resolution, at most ngf; 0 for none. None for the network of earlier models,
            which has neither noise nor a layer at the full resolution.
        labels: the classes of its pictures, if it has any.
        cells: rows and columns of base cells of one picture.
    """

    def __init__(
        self, resolution: int, nz: int = 100, ngf: int = 24, noise: int | None = 8, labels: Labels | None = None,
        cells: Cells = SQUARE_CELLS,
    ) -> None:  # fmt: skip
        super().__init__()
        if noise is not None and noise > ngf:
            raise ValueError(f"noise holds {noise}; it may hold at most ngf, {ngf}")
        self.resolution, self.nz, self.labels, self.cells = resolution, nz, labels, cells
        cell_px = resolution // BASE_SIDE
        # all upsampling layers and the last convolution together depend on one base cell more at each side
        down, across = (Lattice(cells=side, overhang=0, before=1, after=1, context=1, px=cell_px) for side in cells)
        self.lattices = down, across
        self.grain = (noise or 0) * (cell_px // 2) ** 2
        widths = _widths(ngf, resolution)
        self.project = Project(nz, widths[-1], cells)
        layers = _doubling_layers(UpsampleConv, widths)
        layers += [UpsampleConv(ngf, IMAGE_CHANNELS)] if noise is None else _details(ngf, noise)
        self.layers = SketchLayers(widths[-1], cell_px // 2, *layers, nn.Tanh())
        self.embed = LabelEmbedding(self.classes, widths[-1], cells) if labels else None

    def base(self, z: Tensor) -> Tensor:
        features: Tensor = self.project(latent_per_cell(z[:, : self.nz], self.cells, self.normalise_overlap))
        if self.labels:
            weights = latent_per_cell(z[:, self.nz :], self.cells, normalise_overlap=False)
            features = features + project_cells(weights, self.label_kernels())
        return features


class SketchLayers(nn.Sequential):
    """Layers from base features, with the grain as their last channels, to images.

    The first `width` channels go through all layers. The grain becomes maps of noise for the layers `UpsampleConv`:
    each base cell has `side` × `side` numbers of every map.
    """

    def __init__(self, width: int, side: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._width, self._side = width, side

    def forward(self, features: Tensor) -> Tensor:
        # channels last, in which convolutions are fastest; the layers keep the memory format
        x = features[:, : self._width].contiguous(memory_format=torch.channels_last)
        grain = features[:, self._width :].detach()  # its gradient is not used
        noise = functional.pixel_shuffle(grain, self._side).contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x, noise) if isinstance(layer, UpsampleConv) else layer(x)
        return x


class Project(nn.Module):
    """Latents of `latent_per_cell` → features (B, width, H, W): with separate weights for each of a picture's cells."""

    def __init__(self, nz: int, width: int, cells: Cells) -> None:
        super().__init__()
        self.weight = _normal(nz, width, *cells)

    def forward(self, latents: Tensor) -> Tensor:
        return project_cells(latents, self.weight)


def project_cells(numbers: Tensor, weight: Tensor) -> Tensor:
    """Multiply the numbers of each base cell, or of all, by the weights (n, width, rows, columns) of its place."""
    if numbers.shape[2:] == (1, 1):
        return conv_transpose2d(numbers, weight)
    batch, n, height, width = numbers.shape
    rows, columns = weight.shape[2:]
    pictures = numbers.view(batch, n, height // rows, rows, width // columns, columns)
    return torch.einsum("bzhiwj,zcij->bchiwj", pictures, weight).reshape(batch, -1, height, width)


class UpsampleConv(nn.Module):
    """Nearest-neighbour doubling, then a 3×3 convolution: (B, before, H, W) → (B, after, 2H, 2W).

    Several of the nine weights multiply equal pixels. Summed in advance, they make a transposed convolution of kernel 4
    and stride 2, which gives the same result with 4/9 of the multiplications.

    With `maps`, noise (B, maps, H, W) is added by a transposed convolution. It is multiplied by the first `maps`
    features, so the network decides where it is strong; in eval mode it has `EVAL_NOISE` of that strength. Its weights
    differ for even and odd pixels, which shows no checkerboard because noise has no pattern.
    """

    def __init__(self, before: int, after: int, maps: int = 0) -> None:
        super().__init__()
        self.maps = maps
        self.weight = _normal(before, after, 3, 3)
        if maps:
            self.noise = _normal(maps, after, 4, 4)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        # Along an axis, weights (a, b, c) on doubled pixels equal (c, b + c, a + b, a) on single ones: the sums of
        # neighbours in the flipped, zero-padded kernel.
        even = 4 * functional.avg_pool2d(self.weight.flip(2, 3), 2, stride=1, padding=1)  # sums; ONNX has only means
        if noise is None or not self.maps:
            return conv_transpose2d(x, even, stride=2, padding=1)
        # split, because its gradients are concatenated, while those of two uses of x would be added
        strengths, others = x.split([self.maps, x.shape[1] - self.maps], 1)  # type: ignore[no-untyped-call]
        scaled = noise.to(x.dtype) * strengths
        if not self.training:
            scaled = scaled * EVAL_NOISE
        features, weight = torch.cat([strengths, others, scaled], 1), torch.cat([even, self.noise])
        return conv_transpose2d(features, weight, stride=2, padding=1)


def _widths(narrowest: int, resolution: int) -> list[int]:
    """The channels at half the resolution and at each coarser step down to the base cells."""
    return [narrowest * 2**step for step in range(doublings(resolution))]


def _doubling_layers(upsample_layer: type[Upsample] | type[UpsampleConv], widths: list[int]) -> list[nn.Module]:
    """The layers from base features to half the resolution."""
    layers: list[nn.Module] = [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
    for coarse, fine in itertools.pairwise(reversed(widths)):
        layers += [upsample_layer(coarse, fine), nn.BatchNorm2d(fine), nn.ReLU(inplace=True)]
    return layers


def _details(ngf: int, noise: int) -> list[nn.Module]:
    """Sketch's layers from half the resolution to the picture."""
    thin = max(ngf // 2, IMAGE_CHANNELS)
    last = Conv2d(thin, IMAGE_CHANNELS, 3)
    nn.init.normal_(last.weight, 0.0, PIXELS_STD)
    return [UpsampleConv(ngf, thin, noise), nn.BatchNorm2d(thin), nn.ReLU(inplace=True), last]


def _overlap(field: Tensor, cells: Cells) -> Tensor:
    """The number of latents that overlap in each cell of the first feature map, (1, 1, H, W)."""
    ones = torch.ones(1, 1, *field.shape[2:], device=field.device, dtype=field.dtype)
    return functional.conv_transpose2d(ones, torch.ones(1, 1, *cells, device=field.device, dtype=field.dtype))


def _init(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, WEIGHTS_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, WEIGHTS_STD)
        nn.init.zeros_(module.bias)


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), 0.0, WEIGHTS_STD))
