"""The compact super-resolution network of Real-ESRGAN (realesrgan/archs/srvgg_arch.py), and its file.

Parameter names are that network's own, so that spandrel and the tools built on it open our file as they open theirs.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.errors import AtelierError
from atelier.networks.weights import are_weights_of, read_weights, save_weights

FORMAT = "atelier-upscaler/1"


class SRVGGNetCompact(nn.Module):
    """Images (B, 3, H, W) in [0, 1] → about [0, 1] of (B, 3, scale·H, scale·W): detail over nearest neighbours."""

    def __init__(self, scale: int, features: int, blocks: int) -> None:
        super().__init__()
        self.scale, self.features, self.blocks = scale, features, blocks
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(blocks):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        layers += [nn.Conv2d(features, 3 * scale**2, 3, 1, 1)]
        self.body = nn.Sequential(*layers)

    @property
    def reach_px(self) -> int:
        """How far, in small pixels, a result looks beyond its own place."""
        return self.blocks + 2

    def forward(self, images: Tensor) -> Tensor:
        detail = functional.pixel_shuffle(self.body(images), self.scale)
        return detail + functional.interpolate(images, scale_factor=self.scale, mode="nearest")


def save_upscaler(path: Path, network: SRVGGNetCompact, facts: dict[str, Any]) -> None:
    """Write weights with a header of the network's shape and `facts` (steps, seed, versions, …), byte-stable."""
    shape = {"scale": network.scale, "features": network.features, "blocks": network.blocks}
    save_weights(path, network.state_dict(), FORMAT, {**facts, "arch": "compact", **shape})


def load_upscaler(path: Path, device: torch.device | str = "cpu") -> tuple[SRVGGNetCompact, dict[str, Any]]:
    """The network of an `upscaler.safetensors`, in eval mode without gradients, and its header.

    Raises AtelierError where the file is absent, damaged, or not one of ours.
    """
    header, tensors = read_weights(path, FORMAT, {"scale", "features", "blocks"}, "train_upscaler")
    shape = header["scale"], header["features"], header["blocks"]
    counts = all(type(number) is int and number > 0 for number in shape) and shape[2] < len(tensors)
    if not counts or not are_weights_of(lambda: SRVGGNetCompact(*shape), tensors):
        raise AtelierError(
            f"{path} does not hold the weights its header names: `dvc repro train_upscaler` makes it again"
        )
    with torch.random.fork_rng():  # building draws weights that are replaced at once
        network = SRVGGNetCompact(*shape)
    network.load_state_dict(tensors)
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last), header
