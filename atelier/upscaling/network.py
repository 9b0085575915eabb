"""Enlarging pictures: the compact super-resolution network of Real-ESRGAN with its file, Lanczos, and shared parts.

The network's parameter names are those of realesrgan/archs/srvgg_arch.py, so that spandrel and the tools built on it
open the file. It enlarges pictures of any size in tiles, and the result equals that of the whole picture, at seams and
borders too. All passes are chained within a tile. On a CPU with AVX2 or AVX-512, with any number of threads and tiles
of any usual size, oneDNN adds in one order, and the bits are the same (bench/RESULTS.md has the figures).

A print has 8 or 16 bits a colour. Results are rounded once, from float32 straight to these samples, tile by tile, so
that nothing else of a picture is held in float32.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from atelier.device import is_out_of_memory, machine_memory
from atelier.errors import AtelierError
from atelier.networks import create_network, read_weights, save_weights
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress

FORMAT = "atelier-upscaler/1"
TILE_PX = 256  # side of the last pass's input: 48 features of it and its surroundings are 15 MB
GPU_TILE_PX = 1024  # 16 times that keeps thousands of cores busy
MIN_TILE_PX = 32
DTYPES = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class Span:
    """Pixels `start` to `end` − 1 along one axis."""

    start: int
    end: int

    def times(self, scale: int) -> "Span":
        return Span(self.start * scale, self.end * scale)

    def within(self, other: "Span") -> slice:
        return slice(self.start - other.start, self.end - other.start)


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
        """Radius of the receptive field, in pixels of the input."""
        return self.blocks + 2

    @property
    def context_px(self) -> int:
        """By how many pixels a seamless picture must be continued on each side."""
        return 2 * self.reach_px  # of all passes together: reach + reach / 2 + reach / 4 + …

    def forward(self, images: Tensor) -> Tensor:
        detail = functional.pixel_shuffle(self.body(images), self.scale)
        return detail + functional.interpolate(images, scale_factor=self.scale, mode="nearest")


def save_upscaler(path: Path, network: SRVGGNetCompact, facts: dict[str, Any]) -> None:
    """Write weights with a header of the network's shape and `facts` (steps, seed, versions, …).

    Equal inputs give equal bytes.
    """
    shape = {"scale": network.scale, "features": network.features, "blocks": network.blocks}
    save_weights(path, network.state_dict(), FORMAT, {**facts, "arch": "compact", **shape})


def load_upscaler(path: Path, device: torch.device | str = "cpu") -> tuple[SRVGGNetCompact, dict[str, Any]]:
    """Load an upscaler in eval mode; return it and the file's header. Raises AtelierError for any other file."""
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
    """Enlarge a picture (H, W, 3) `scale` times on each side. Raises AtelierError if no number of passes does."""
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

    def fill(side_px: int, finished: ProgressCallback) -> None:
        first_side = max(side_px // network.scale ** (count - 1), 1)  # of a tile of the picture
        for rows, columns in itertools.product(*(_cut(extent, first_side) for extent in picture.shape[:2])):
            images = _enlarge_tile(network, picture, rows, columns, count)
            write_tile(result, rows.start * scale, columns.start * scale, images)
            finished((rows.end - rows.start) * (columns.end - columns.start) * scale**2)

    with_fitting_tiles(fill, halved_sides(first_px, min(first_px, MIN_TILE_PX)), progress)


def enlarge_lanczos(picture: Pixels, scale: int) -> Pixels:
    """Enlarge a picture (H, W, 3) by Pillow's Lanczos filter, `scale` times on each side."""
    return np.asarray(_lanczos(Image.fromarray(picture), scale))


def lanczos_into(result: Samples, picture: Pixels) -> None:
    """Fill a print with the picture, enlarged by Lanczos; 16-bit prints are computed in float32."""
    scale = result.shape[0] // picture.shape[0]
    if result.dtype == np.uint8:
        result[:] = enlarge_lanczos(picture, scale)
        return
    for channel in range(3):
        plane = Image.fromarray(picture[:, :, channel].astype(np.float32))
        levels = np.asarray(_lanczos(plane, scale))
        result[:, :, channel] = np.rint(levels.clip(0, 255) * 257)  # 65535 / 255


def _lanczos(image: Image.Image, scale: int) -> Image.Image:
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)


def passes(network_scale: int, scale: int) -> int:
    """How many passes of a network enlarge by `scale`. Raises AtelierError if none do."""
    count = round(math.log(scale, network_scale)) if network_scale > 1 else 0
    if count < 1 or network_scale**count != scale:
        raise AtelierError(
            f"upscale.scale holds {scale}; the upscaler enlarges {network_scale} times a pass, "
            f"so it may hold {network_scale}, {network_scale**2}, …"
        )
    return count


def allocate_print(height: int, width: int, bits: int) -> Samples:
    """An uninitialised print (H, W, 3). Raises AtelierError if it does not fit into memory."""
    size, remedy = f"a print of {width:,} × {height:,} px", "make upscale.scale smaller"
    needed_bytes, available_bytes = height * width * 3 * bits // 8, machine_memory()
    if needed_bytes > available_bytes:  # Linux may grant memory that it does not have, and then kills the process
        there = f"needs {needed_bytes / 2**30:,.1f} GiB; this machine has {available_bytes / 2**30:,.1f}"
        raise AtelierError(f"{size} {there}: {remedy}")
    try:
        return np.empty((height, width, 3), DTYPES[bits])
    except MemoryError:
        raise AtelierError(f"{size} does not fit into memory: {remedy}") from None


def to_tensor(picture: Pixels, device: torch.device) -> Tensor:
    """Pixels (h, w, 3) as an image (1, 3, h, w) in [0, 1], channels last."""
    images = torch.from_numpy(np.array(picture)).to(device)  # a copy: torch needs writable memory
    return images.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.channels_last).div_(255)


def write_tile(result: Samples, top: int, left: int, images: Tensor) -> None:
    """Round one image (1, 3, h, w) in about [0, 1], half to even, into its place in the print; AtelierError for NaN."""
    if not images.isfinite().all():
        raise AtelierError("the upscaler returns NaN: train another, or set upscale.method to lanczos")
    levels = images.clamp(0, 1).mul_(np.iinfo(result.dtype).max).round_().to(torch.int32)
    _, _, height, width = images.shape
    result[top : top + height, left : left + width] = levels[0].permute(1, 2, 0).cpu().numpy()


def with_fitting_tiles(
    fill: Callable[[int, ProgressCallback], None], sides_px: Sequence[int], progress: ProgressCallback
) -> int:
    """Call `fill` with the first of these tile sides for which memory suffices, and return that side.

    `fill` also receives a callback for the number of pixels it has just finished. It adds them to `progress`; if `fill`
    runs out of memory, they are subtracted again. Raises AtelierError if memory suffices for no side.
    """
    done = 0.0

    def count(pixels: float) -> None:
        nonlocal done
        done += pixels
        progress(pixels)

    for side_px in sides_px:
        try:
            fill(side_px, count)
            return side_px
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # here the error, and the tensors that its frames hold, are gone
        count(-done)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise AtelierError(
        f"memory does not suffice to enlarge tiles of {sides_px[-1]} px: end other programs, "
        "or set upscale.device to cpu"
    )


def halved_sides(side_px: int, least_px: int) -> list[int]:
    """The side, its half, its quarter, …, none below `least_px`."""
    return [side_px, *(halved_sides(side_px // 2, least_px) if side_px // 2 >= least_px else [])]


def _cut(size: int, side_px: int) -> list[Span]:
    return [Span(start, min(start + side_px, size)) for start in range(0, size, side_px)]


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
