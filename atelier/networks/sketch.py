"""A small network for CPUs and laptops: DCGAN's layers with even upsampling, and noise for details.

A transposed convolution of kernel 4 and stride 2 has different weights for even and odd pixels, which shows as a
checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard). Upsample pixels and convolving 3×3 does not. Noise is
given to the layer at half the resolution, scaled by its features (after StyleGAN, arXiv 1812.04948 §3.2).
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import project_latents, upsample
from atelier.networks.dcgan import DcganDiscriminator
from atelier.networks.latent_field import (
    BASE_SIDE,
    IMAGE_CHANNELS,
    FieldGenerator,
    Lattice,
    latent_per_cell,
    upsampling_steps,
)

SketchDiscriminator = DcganDiscriminator  # which upsamples nothing
PIXELS_STD = 0.06  # of the last layer's first weights
# Share of the training's noise in eval mode. All of it shows as hatching in flat skies; without any, fine detail is
# missing (bench/RESULTS.md).
EVAL_NOISE = 0.5


class SketchGenerator(FieldGenerator):
    """Latents and grain, standard normal → images in [−1, 1] of h · resolution × w · resolution px.

    Args:
        resolution: side of one picture in px, a power of two.
        nz: length of a latent.
        ngf: channels at half the resolution, doubled at each coarser step and halved at the full resolution.
        noise: maps of noise at half the resolution, at most ngf; 0 for none. None for the network of earlier models,
            which has neither noise nor a layer at the full resolution.
    """

    def __init__(self, resolution: int, nz: int = 100, ngf: int = 24, noise: int | None = 8) -> None:
        super().__init__()
        if noise is not None and noise > ngf:
            raise ValueError(f"noise holds {noise}; it may hold at most ngf, {ngf}")
        self.resolution, self.nz = resolution, nz
        cell_px = resolution // BASE_SIDE
        # all upsampling layers and the last convolution together depend on one base cell more at each side
        self.lattice = Lattice(cells=BASE_SIDE, overhang=0, before=1, after=1, context=1, px=cell_px)
        self.grain = (noise or 0) * (cell_px // 2) ** 2
        widths = [ngf * 2**step for step in reversed(range(upsampling_steps(resolution)))]
        self.project = Project(nz, widths[0])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for coarse, fine in itertools.pairwise(widths):
            layers += [UpsampleConv(coarse, fine), nn.BatchNorm2d(fine), nn.ReLU(inplace=True)]
        layers += [UpsampleConv(ngf, IMAGE_CHANNELS)] if noise is None else _details(ngf, noise)
        self.layers = SketchLayers(widths[0], cell_px // 2, *layers, nn.Tanh())

    def base(self, z: Tensor) -> Tensor:
        features: Tensor = self.project(latent_per_cell(z, self.normalise_overlap))
        return features


def _details(ngf: int, noise: int) -> list[nn.Module]:
    """The layers from half the resolution to the picture."""
    thin = max(ngf // 2, IMAGE_CHANNELS)
    last = nn.Conv2d(thin, IMAGE_CHANNELS, 3, padding=1, bias=False)
    nn.init.normal_(last.weight, 0.0, PIXELS_STD)
    return [UpsampleConvWithNoise(ngf, thin, noise), nn.BatchNorm2d(thin), nn.ReLU(inplace=True), last]


class SketchLayers(nn.Sequential):
    """Layers from base features, with the grain as their last channels, to images.

    The first `width` channels go through all layers. The grain becomes maps of noise for the layer
    `UpsampleConvWithNoise`: each base cell has `side` × `side` numbers of every map.
    """

    def __init__(self, width: int, side: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._width, self._side = width, side

    def forward(self, features: Tensor) -> Tensor:
        # channels last, in which convolutions are fastest; the layers keep the memory format
        x = features[:, : self._width].contiguous(memory_format=torch.channels_last)
        grain = features[:, self._width :].detach()  # its gradient is not used
        noise = functional.pixel_shuffle(grain, self._side)
        noise = noise.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x, noise) if isinstance(layer, UpsampleConvWithNoise) else layer(x)
        return x


class Project(nn.Module):
    """Latents of `latent_per_cell` → features (B, width, 4h, 4w): with separate weights for each of the 4×4 cells."""

    def __init__(self, nz: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(nz, width, BASE_SIDE, BASE_SIDE))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, latents: Tensor) -> Tensor:
        if latents.shape[2:] == (1, 1):
            return project_latents(latents, self.weight)
        batch, nz, height, width = latents.shape
        pictures = latents.view(batch, nz, height // BASE_SIDE, BASE_SIDE, width // BASE_SIDE, BASE_SIDE)
        return torch.einsum("bzhiwj,zcij->bchiwj", pictures, self.weight).reshape(batch, -1, height, width)


class UpsampleConv(nn.Module):
    """Nearest-neighbour doubling, then a 3×3 convolution: (B, before, H, W) → (B, after, 2H, 2W).

    Several of the nine weights multiply equal pixels. Summed in advance, they make a transposed convolution of kernel 4
    and stride 2, which gives the same result with 4/9 of the multiplications.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(before, after, 3, 3))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return upsample(x, _sum_taps(self.weight))


class UpsampleConvWithNoise(nn.Module):
    """The sum of `UpsampleConv`s of features (B, before, H, W) and of noise (B, maps, H, W).

    The noise is multiplied by the first `maps` features, so the network decides where it is strong; in eval mode it has
    `EVAL_NOISE` of that strength. Its weights differ for even and odd pixels, which shows no checkerboard because noise
    has no pattern.
    """

    def __init__(self, before: int, after: int, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.weight = nn.Parameter(torch.empty(before, after, 3, 3))
        nn.init.normal_(self.weight, 0.0, 0.02)
        if maps:
            self.noise = nn.Parameter(torch.empty(maps, after, 4, 4))
            nn.init.normal_(self.noise, 0.0, 0.02)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        even = _sum_taps(self.weight)
        if not self.maps:
            return upsample(x, even)
        # split, because its gradients are concatenated, while those of two uses of x would be added
        strengths, others = x.split([self.maps, x.shape[1] - self.maps], 1)  # type: ignore[no-untyped-call]
        scaled = noise.to(x.dtype) * strengths
        if not self.training:
            scaled = scaled * EVAL_NOISE
        return upsample(torch.cat([strengths, others, scaled], 1), torch.cat([even, self.noise]))


def _sum_taps(weight: Tensor) -> Tensor:
    """The 4×4 weights on single pixels that equal 3×3 weights on doubled ones.

    Along an axis, (a, b, c) become (c, b + c, a + b, a): the sums of neighbours in the flipped, zero-padded kernel.
    """
    return functional.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
