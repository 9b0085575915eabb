"""Enlarging pictures of any size in bounded memory; tile by tile equals the whole, seam and border included."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from atelier.errors import AtelierError
from atelier.upscaling.network import SRVGGNetCompact

TILE_PX = 256  # 48 features of a tile and its surroundings are 15 MB

Pixels = npt.NDArray[np.uint8]


def enlarge(network: SRVGGNetCompact, picture: Pixels, scale: int, tile_px: int = TILE_PX) -> Pixels:
    """A picture (H, W, 3) `scale` times larger on each side, in as many passes of the network as that takes.

    Raises AtelierError where no number of passes gives `scale`.
    """
    images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(torch.float32).div_(255)
    for _ in range(passes(network.scale, scale)):
        images = enlarge_once(network, images, tile_px)
    pixels: Pixels = images.mul_(255).round_().to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()
    return pixels


def enlarge_lanczos(picture: Pixels, scale: int) -> Pixels:
    """The same without learning: Pillow's Lanczos."""
    height, width, _ = picture.shape
    return np.asarray(
        Image.fromarray(picture).resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    )


def passes(network_scale: int, scale: int) -> int:
    """How many passes of a network make `scale`. Raises AtelierError where none do."""
    count = round(math.log(scale, network_scale))
    if count < 1 or network_scale**count != scale:
        raise AtelierError(
            f"upscale.scale holds {scale}; the upscaler enlarges {network_scale} times a pass, "
            f"so it may hold {network_scale}, {network_scale**2}, …"
        )
    return count


@torch.no_grad()
def enlarge_once(network: SRVGGNetCompact, images: Tensor, tile_px: int = TILE_PX) -> Tensor:
    """One pass over images (B, 3, H, W) in [0, 1], on the network's device, a tile at a time.

    A window is a tile and what the network sees around it, cut off at the picture's edge: there the network's zero
    padding must be the one that the whole picture would get.
    """
    scale, reach = network.scale, network.reach_px
    count, channels, height, width = images.shape
    device = next(network.parameters()).device
    enlarged = torch.empty(count, channels, height * scale, width * scale)
    for top, left in itertools.product(range(0, height, tile_px), range(0, width, tile_px)):
        bottom, right = min(top + tile_px, height), min(left + tile_px, width)
        above, before = max(top - reach, 0), max(left - reach, 0)
        window = images[:, :, above : bottom + reach, before : right + reach]
        window = network(window.to(device, memory_format=torch.channels_last))
        rows = slice((top - above) * scale, (bottom - above) * scale)
        columns = slice((left - before) * scale, (right - before) * scale)
        enlarged[:, :, top * scale : bottom * scale, left * scale : right * scale] = window[
            :, :, rows, columns
        ]
    return enlarged.clamp_(0, 1)
