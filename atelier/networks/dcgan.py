"""DCGAN as in Soumith's and Barrat's Torch code (arXiv 1511.06434; art-DCGAN's main.lua).

All convolutions are 4×4 without bias. The generator is fully convolutional: a field of latents makes a larger picture.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import Downsample, ProjectLatent, ToLogit, Upsample
from atelier.networks.latent_field import BASE_SIDE, FieldGenerator, Lattice, upsampling_steps


class DcganGenerator(FieldGenerator):
    """Latents (B, nz) or (B, nz, h, w), standard normal → images in [−1, 1] of (h + 3, w + 3) · resolution / 4 px.

    Up to 16 latents overlap in a cell of the first layer. For a field larger than 1×1 their sum is divided by the
    square root of their number, which keeps the variance that the next batch norm was trained on.
    """

    def __init__(self, resolution: int, nz: int = 100, ngf: int = 64) -> None:
        super().__init__()
        self.resolution, self.nz = resolution, nz
        # all upsampling layers together depend on one base cell more at each side, however many layers there are
        self.lattice = Lattice(
            cells=1,
            overhang=BASE_SIDE - 1,
            before=BASE_SIDE - 1,
            after=0,
            context=1,
            px=resolution // BASE_SIDE,
        )
        widths = [ngf * 2**step for step in reversed(range(upsampling_steps(resolution)))]
        self.project = ProjectLatent(nz, widths[0])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for coarse, fine in itertools.pairwise(widths):
            layers += [
                Upsample(coarse, fine),
                nn.BatchNorm2d(fine),
                nn.ReLU(inplace=True),
            ]
        layers += [Upsample(widths[-1], 3), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_init)

    def base(self, z: Tensor) -> Tensor:
        field = z if z.ndim == 4 else z[:, :, None, None]
        features: Tensor = self.project(field)
        if self.normalise_overlap and field.shape[2:] != (1, 1):
            features = features * _overlap(field).rsqrt()
        return features


class DcganDiscriminator(nn.Module):
    """Images (B, 3, resolution, resolution) in [−1, 1] → logits (B,), positive for real."""

    def __init__(self, resolution: int, ndf: int = 64) -> None:
        super().__init__()
        widths = [ndf * 2**step for step in range(upsampling_steps(resolution))]
        layers: list[nn.Module] = [
            Downsample(3, widths[0]),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for fine, coarse in itertools.pairwise(widths):
            layers += [
                Downsample(fine, coarse),
                nn.BatchNorm2d(coarse),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [ToLogit(widths[-1], 4)]
        self.layers = nn.Sequential(*layers)
        self.apply(_init)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.flatten()


def _overlap(field: Tensor) -> Tensor:
    """The number of latents that overlap in each cell of the first feature map: (1, 1, h + 3, w + 3)."""
    ones = torch.ones(1, 1, *field.shape[2:], device=field.device, dtype=field.dtype)
    return functional.conv_transpose2d(ones, torch.ones(1, 1, 4, 4, device=field.device, dtype=field.dtype))


def _init(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
