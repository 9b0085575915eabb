"""A small network of our own for CPUs and laptops: DCGAN's layers with even upsampling.

A transposed convolution of kernel 4 and stride 2 gives even and odd pixels weights of their own, which shows as a
checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard). Doubling pixels and convolving 3×3 does not.
"""

import itertools

import torch
from torch import Tensor, nn

from atelier.networks.dcgan import DcganDiscriminator
from atelier.networks.fields import BASE, FieldGenerator, Lattice, doublings, spread
from atelier.networks.strided import doubled, projected

SketchDiscriminator = DcganDiscriminator  # it doubles nothing, so it is even already


class SketchGenerator(FieldGenerator):
    """Latents (B, nz) or (B, nz, h, w), standard normal → images in [−1, 1] of h · resolution × w · resolution px."""

    def __init__(self, resolution: int, nz: int = 100, ngf: int = 24) -> None:
        super().__init__()
        self.resolution, self.nz = resolution, nz
        # doublings see one base cell further, however many there are
        self.lattice = Lattice(cells=BASE, overhang=0, before=1, after=1, context=1, px=resolution // BASE)
        widths = [ngf * 2**step for step in reversed(range(doublings(resolution)))]
        self.project = Project(nz, widths[0])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for coarse, fine in itertools.pairwise(widths):
            layers += [DoubleAndConvolve(coarse, fine), nn.BatchNorm2d(fine), nn.ReLU(inplace=True)]
        layers += [DoubleAndConvolve(widths[-1], 3), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def base(self, z: Tensor) -> Tensor:
        features: Tensor = self.project(spread(z, self.evens))
        return features


class Project(nn.Module):
    """Latents as `spread` gives them → features (B, width, 4h, 4w): each of a picture's cells by weights of its own."""

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
        return doubled(x, _summed(_summed(self.weight, 2), 3))


def _summed(weight: Tensor, axis: int) -> Tensor:
    """Along one axis three weights a, b, c on doubled pixels as four on single ones: c, b + c, a + b, a."""
    a, b, c = weight.unbind(axis)
    return torch.stack([c, b + c, a + b, a], axis)
