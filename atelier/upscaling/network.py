"""The learned upscaler: the compact super-resolution network of Real-ESRGAN, its file, and enlarging with it.

Parameter names are those of realesrgan/archs/srvgg_arch.py, so that spandrel and the tools built on it open the file.

Pictures of any size are enlarged in tiles, and the result equals that of the whole picture, at seams and borders too.
All passes of the network are chained within a tile. On a CPU with AVX2 or AVX-512, with any number of threads and
tiles of any usual size, oneDNN adds in one order, and the bits are the same (bench/RESULTS.md has the figures).
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.errors import AtelierError
from atelier.networks.weights import create_network, read_weights, save_weights
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress
from atelier.upscaling.enlarge import (
    PixelCounter,
    Span,
    allocate_print,
    halved_sides,
    passes,
    to_tensor,
    with_fitting_tiles,
    write_tile,
)

FORMAT = "atelier-upscaler/1"
TILE_PX = 256  # side of the last pass's input: 48 features of it and its surroundings are 15 MB
GPU_TILE_PX = 1024  # 16 times that keeps thousands of cores busy
MIN_TILE_PX = 32


class SRVGGNetCompact(nn.Module):
    """Enlarges images (B, 3, H, W) in [0, 1] to (B, 3, scale·H, scale·W): nearest neighbours plus learned detail."""

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
        """Radius of the receptive field in small pixels."""
        return self.blocks + 2

    def forward(self, images: Tensor) -> Tensor:
        detail = functional.pixel_shuffle(self.body(images), self.scale)
        return detail + functional.interpolate(images, scale_factor=self.scale, mode="nearest")


def save_upscaler(path: Path, network: SRVGGNetCompact, facts: dict[str, Any]) -> None:
    """Write weights with a header of the network's shape and `facts` (steps, seed, versions, …); bytes are stable."""
    shape = {"scale": network.scale, "features": network.features, "blocks": network.blocks}
    save_weights(path, network.state_dict(), FORMAT, {**facts, "arch": "compact", **shape})


def load_upscaler(path: Path, device: torch.device | str = "cpu") -> tuple[SRVGGNetCompact, dict[str, Any]]:
    """Load an `upscaler.safetensors` in eval mode without gradients; return the network and the file's header.

    Raises AtelierError if the file is absent, damaged, or not an upscaler that `save_upscaler` wrote.
    """
    header, tensors = read_weights(path, FORMAT, {"scale", "features", "blocks"}, "train_upscaler")
    shape = header["scale"], header["features"], header["blocks"]
    counts = all(type(number) is int and number > 0 for number in shape) and shape[2] < len(tensors)
    network = create_network(lambda: SRVGGNetCompact(*shape), tensors) if counts else None
    if network is None:
        raise AtelierError(
            f"{path} does not hold the weights its header names: `dvc repro train_upscaler` makes it again"
        )
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last), header


def enlarge(network: SRVGGNetCompact, picture: Pixels, scale: int) -> Pixels:
    """Enlarge a picture (H, W, 3) `scale` times on each side, in as many passes of the network as that takes.

    Raises AtelierError if no number of passes gives `scale`.
    """
    result = allocate_print(picture.shape[0] * scale, picture.shape[1] * scale, 8)
    enlarge_into(result, network, picture)
    return result.astype(np.uint8, copy=False)


def enlarge_into(
    result: Samples,
    network: SRVGGNetCompact,
    picture: Pixels,
    tile_px: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> None:
    """Fill a print with the enlarged picture, computed on the network's device.

    `tile_px` is the side of the last pass's input (None: one that suits the device); it is halved while memory does
    not suffice. Raises AtelierError if no number of passes gives the print's size.
    """
    device = next(network.parameters()).device
    scale = result.shape[0] // picture.shape[0]
    count = passes(network.scale, scale)
    first_px = tile_px or (TILE_PX if device.type == "cpu" else GPU_TILE_PX)
    counter = PixelCounter(progress)

    def fill(side_px: int) -> None:
        counter.restart()
        for rows, columns in _tiles(picture, max(side_px // network.scale ** (count - 1), 1)):
            images = _enlarge_tile(network, picture, rows, columns, count)
            write_tile(result, rows.start * scale, columns.start * scale, images)
            counter.add((rows.end - rows.start) * (columns.end - columns.start) * scale**2)

    with_fitting_tiles(fill, halved_sides(first_px, min(first_px, MIN_TILE_PX)))


def _tiles(picture: Pixels, tile_px: int) -> Iterator[tuple[Span, Span]]:
    height, width, _ = picture.shape
    for top, left in itertools.product(range(0, height, tile_px), range(0, width, tile_px)):
        yield Span(top, min(top + tile_px, height)), Span(left, min(left + tile_px, width))


@torch.inference_mode()
def _enlarge_tile(network: SRVGGNetCompact, picture: Pixels, rows: Span, columns: Span, count: int) -> Tensor:
    """The image (1, 3, h, w) of one tile after `count` passes, equal to that part of the whole picture's."""
    scale, reach = network.scale, network.reach_px
    windows = [(rows.times(scale**count), columns.times(scale**count))]
    for level in reversed(range(count)):  # from the tile of the result back to the input that each pass needs
        height, width = (side * scale**level for side in picture.shape[:2])
        wanted = windows[0]
        windows.insert(0, (_input_of(wanted[0], scale, reach, height), _input_of(wanted[1], scale, reach, width)))
    (top, left), *larger = windows
    device = next(network.parameters()).device
    images = to_tensor(picture[top.start : top.end, left.start : left.end], device)
    for below, right in larger:
        images = network(images).clamp_(0, 1)
        images = images[:, :, below.within(top.times(scale)), right.within(left.times(scale))]
        images = images.contiguous(memory_format=torch.channels_last)
        top, left = below, right
    return images


def _input_of(output: Span, scale: int, reach_px: int, size_px: int) -> Span:
    """The input pixels, of `size_px`, that one pass needs for these output pixels.

    It ends at the picture's edge, where the network's zero padding must be that of the whole picture.
    """
    start, end = output.start // scale - reach_px, -(-output.end // scale) + reach_px
    return Span(max(start, 0), min(end, size_px))
