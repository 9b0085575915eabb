"""A small network of our own for CPUs and laptops: DCGAN's layers with even upsampling, and noise for details.

A transposed convolution of kernel 4 and stride 2 gives even and odd pixels weights of their own, which shows as a
checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard). Doubling pixels and convolving 3×3 does not. Noise is
given to the layer at half the resolution, as strong as its features say (after StyleGAN, arXiv 1812.04948 §3.2).
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import doubled, projected
from atelier.networks.dcgan import DcganDiscriminator
from atelier.networks.latent_field import BASE, PICTURE, FieldGenerator, Lattice, doublings, latent_per_cell

SketchDiscriminator = DcganDiscriminator  # it doubles nothing, so it is even already
PIXELS_STD = 0.06  # of the last layer's first weights


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
        cell_px = resolution // BASE
        # doublings and the last convolution see one base cell further, however many there are
        self.lattice = Lattice(cells=BASE, overhang=0, before=1, after=1, context=1, px=cell_px)
        self.grain = (noise or 0) * (cell_px // 2) ** 2
        widths = [ngf * 2**step for step in reversed(range(doublings(resolution)))]
        self.project = Project(nz, widths[0])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for coarse, fine in itertools.pairwise(widths):
            layers += [DoubleAndConvolve(coarse, fine), nn.BatchNorm2d(fine), nn.ReLU(inplace=True)]
        layers += [DoubleAndConvolve(ngf, PICTURE)] if noise is None else _details(ngf, noise)
        self.layers = SketchLayers(widths[0], cell_px // 2, *layers, nn.Tanh())

    def base(self, z: Tensor) -> Tensor:
        features: Tensor = self.project(latent_per_cell(z, self.normalise_overlap))
        return features


def _details(ngf: int, noise: int) -> list[nn.Module]:
    """The layers from half the resolution to the picture."""
    thin = max(ngf // 2, PICTURE)
    last = nn.Conv2d(thin, PICTURE, 3, padding=1, bias=False)
    nn.init.normal_(last.weight, 0.0, PIXELS_STD)
    return [DoubleWithNoise(ngf, thin, noise), nn.BatchNorm2d(thin), nn.ReLU(inplace=True), last]


class SketchLayers(nn.Sequential):
    """Layers from base features, with the grain as their last channels, to images.

    The first `width` channels go through all layers. The grain becomes maps of noise for the one `DoubleWithNoise`
    layer: each base cell holds `side` × `side` numbers of every map.
    """

    def __init__(self, width: int, side: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._width, self._side = width, side

    def forward(self, features: Tensor) -> Tensor:
        # channels last from the start: the layers keep the memory format, and convolutions are quick in this one
        x = features[:, : self._width].contiguous(memory_format=torch.channels_last)
        grain = features[:, self._width :].detach()  # a gradient for it would be computed for nothing
        noise = functional.pixel_shuffle(grain, self._side)
        noise = noise.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x, noise) if isinstance(layer, DoubleWithNoise) else layer(x)
        return x


class Project(nn.Module):
    """Latents of `latent_per_cell` → features (B, width, 4h, 4w): each of a picture's cells has its own weights."""

    def __init__(self, nz: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(nz, width, BASE, BASE))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, latents: Tensor) -> Tensor:
        if latents.shape[2:] == (1, 1):
            return projected(latents, self.weight)
        batch, nz, height, width = latents.shape
        pictures = latents.view(batch, nz, height // BASE, BASE, width // BASE, BASE)
        return torch.einsum("bzhiwj,zcij->bchiwj", pictures, self.weight).reshape(batch, -1, height, width)


class DoubleAndConvolve(nn.Module):
    """Each pixel becomes 2×2 equal ones, then a 3×3 convolution: (B, before, H, W) → (B, after, 2H, 2W).

    Of the nine weights some meet equal pixels. Summed beforehand, they are a transposed convolution of kernel 4 and
    stride 2, which gives the same pictures for 4/9 of the multiplications.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(before, after, 3, 3))
        nn.init.normal_(self.weight, 0.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return doubled(x, _summed(self.weight))


class DoubleWithNoise(nn.Module):
    """`DoubleAndConvolve` of features (B, before, H, W) and of noise (B, maps, H, W), added up.

    The noise is first multiplied by the first `maps` features, so that the network decides where it is strong. Its
    weights differ for even and odd pixels, which shows no checkerboard, because noise has no pattern.
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
        even = _summed(self.weight)
        if not self.maps:
            return doubled(x, even)
        # split, because the gradients of a split are concatenated, and those of two uses of x are added up
        strengths, others = x.split([self.maps, x.shape[1] - self.maps], 1)  # type: ignore[no-untyped-call]
        scaled = noise.to(x.dtype) * strengths
        return doubled(torch.cat([strengths, others, scaled], 1), torch.cat([even, self.noise]))


def _summed(weight: Tensor) -> Tensor:
    """3×3 weights on doubled pixels as 4×4 on single ones: (a, b, c) along an axis become (c, b + c, a + b, a).

    These are the sums of all 2×2 neighbours in the flipped kernel with zeros around it.
    """
    return functional.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
