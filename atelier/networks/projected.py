"""Discriminators over pretrained features: Projected GAN (Sauer et al., arXiv 2111.01007).

EfficientNet-Lite0 computes feature maps at four scales. Random layers that are never trained mix their channels and
their scales, so that no part of the features can be ignored; a small network, the head, judges each of the four. Layers
differ from the authors' code: the mixing ends at the scale of the features instead of twice their size, which takes a
quarter of the arithmetic, and each head begins with a convolution at its own scale.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.networks.conv import Conv2d, Downsample, ToLogit, conv2d
from atelier.networks.efficientnet import LITE0, MAP_CHANNELS, EfficientNetLite
from atelier.networks.labels import LabelEmbedding, Labels

SMALLEST_SIDE_PX = 128  # of the images that Lite0 sees; at stride 32 the map has 4 × 4 cells, as a head's last layer
CHANNELS_MIXED = (64, 128, 256, 512)  # of the four maps after the mixing of channels, as in the paper
SCALES_MIXED = (64, 64, 128, 256)  # and after that of scales
WIDEST = 256  # channels of a head
LAST_SIDE = 4  # of the kernel that writes a logit
SLOPE = 0.2


class FeatureDiscriminator(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → logits (B, n), larger for real images.

    The n logits are those of all four heads: each head gives one for every place of its map, so larger images have
    more. Images whose shorter side has fewer than 128 px are enlarged to that; the weights do not depend on the size.

    The random layers are buffers, drawn from torch's global generator and stored with the trained weights. Lite0's
    weights come from its package. Lite0 computes in float32 under autocast too: on a CPU depthwise convolutions are
    slower in bfloat16.
    """

    def __init__(self, labels: Labels | None = None) -> None:
        super().__init__()
        self.features = EfficientNetLite(LITE0)
        sizes = zip(MAP_CHANNELS, CHANNELS_MIXED, strict=True)
        self.mix_channels = nn.ModuleList(RandomConv2d(before, after, 1) for before, after in sizes)
        sizes = zip(CHANNELS_MIXED, SCALES_MIXED, strict=True)
        self.mix_scales = nn.ModuleList(RandomConv2d(before, after, 3) for before, after in sizes)
        count = len(SCALES_MIXED)
        self.heads = nn.ModuleList(Head(width, count - 1 - scale) for scale, width in enumerate(SCALES_MIXED))
        self.embed = LabelEmbedding(len(labels.names), count * WIDEST) if labels else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B, n) of images (B, 3, H, W); `labels` are weights (B, classes), None for none."""
        with torch.autocast(images.device.type, enabled=False):
            maps = self.features(_enlarged(images).contiguous(memory_format=torch.channels_last))
        mixed: Tensor | None = None
        vectors: Sequence[Tensor | None] = [None] * len(maps)
        if self.embed is not None and labels is not None:
            vectors = torch.split(labels.to(self.embed.weight.dtype) @ self.embed.vectors(), WIDEST, 1)
        logits = []
        layers = [*zip(maps, self.mix_channels, self.mix_scales, self.heads, vectors, strict=True)]
        for found, mix_channels, mix_scales, head, vector in reversed(layers):  # from the coarsest to the finest
            found = mix_channels(found)
            if mixed is not None:
                found = found + _doubled(mixed)[..., : found.shape[2], : found.shape[3]]
            mixed = mix_scales(found)
            logits.append(head(mixed, vector))
        return torch.cat(logits, 1)


class BothDiscriminators(nn.Module):
    """The architecture's own discriminator and one over pretrained features, each with its own loss.

    Called as one network it returns logits (B,): the sum of its own and of the mean of the others'.
    """

    def __init__(self, own: nn.Module, features: nn.Module) -> None:
        super().__init__()
        self.own, self.features = own, features

    def forward(self, images: Tensor, *labels: Tensor | None) -> Tensor:
        logits: Tensor = self.own(images, *labels) + self.features(images, *labels).mean(1)
        return logits


class RandomConv2d(nn.Module):
    """A convolution (B, before, H, W) → (B, after, H, W) that is never trained and keeps the variance."""

    weight: Tensor

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(after, before, side, side))
        nn.init.normal_(self.weight, 0.0, (before * side**2) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, padding=self.weight.shape[2] // 2)


class Head(nn.Module):
    """Features (B, width, H, W) → logits (B, n), one of each place of the map, which is halved `halvings` times.

    With a label's vector (B, WIDEST), its product with the mean of the last features is added to all logits, as in a
    projection discriminator (arXiv 1802.05637).

    The paper divides every kernel by its largest singular value. Behind a batch norm that changes nothing, so it is
    done to the last kernel alone, whose only singular value is its length.
    """

    def __init__(self, width: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE, inplace=True)]
        for _ in range(halvings):
            wider = min(2 * width, WIDEST)
            layers += [Downsample(width, wider), nn.BatchNorm2d(wider), nn.LeakyReLU(SLOPE, inplace=True)]
            width = wider
        self.layers = nn.Sequential(*layers)
        self.logit = ToLogit(width, (LAST_SIDE, LAST_SIDE))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.layers(x)
        weight = self.logit.weight
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(weight.dtype)
            logits = conv2d(x, weight / weight.norm()).flatten(1)
            return logits if label is None else logits + (x.mean((2, 3)) * label).sum(1, keepdim=True)


def discriminator_parts(kind: str, tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights of a discriminator of this kind (own, features or both) by part, `own` and `features`."""
    if kind != "both":
        return {kind: tensors}
    return {
        part: {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
        for part in ("own", "features")
    }


def joined_parts(kind: str, parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor] | None:
    """The inverse: names as in a discriminator of this kind, of those `parts` that it has; None if there are none."""
    if kind != "both":
        return parts.get(kind)
    return {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()} or None


def _enlarged(images: Tensor) -> Tensor:
    """Images whose shorter side has at least 128 px, enlarged bilinearly if necessary."""
    height, width = images.shape[2:]
    scale = SMALLEST_SIDE_PX / min(height, width)
    if scale <= 1:
        return images
    return _resized(images, round(height * scale), round(width * scale))


def _doubled(x: Tensor) -> Tensor:
    return _resized(x, 2 * x.shape[2], 2 * x.shape[3])


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation of (B, C, h, w) as two products of matrices, whose gradient is deterministic on a GPU."""
    vertical = _interpolation(x.shape[2], height, x.dtype, x.device)
    return vertical @ x @ _interpolation(x.shape[3], width, x.dtype, x.device).T


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _interpolation(before: int, after: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (after, before) of linear interpolation along one axis."""
    unit = torch.eye(before, dtype=torch.float64, device="cpu")[None]
    matrix = functional.interpolate(unit, after, mode="linear", align_corners=False)[0].T
    return matrix.to(device, dtype)
