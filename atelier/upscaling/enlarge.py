"""Enlarging pictures of any size in memory bounded by a tile; tile by tile equals the whole, seam and border included.

All passes of the network are chained within a tile, and its result is rounded into its place: nothing else of the
picture is ever held in float32. That arithmetic is enough: on a CPU with AVX2 or AVX-512, with any number of threads
and tiles of any usual size, oneDNN adds in one order, and the bits are the same (bench/RESULTS.md has the figures).

Work that is done in tiles, and again in smaller ones where memory does not suffice.

A print's samples: 8 or 16 bits a colour, rounded once, from float32 straight to what is kept.

Enlarging without learning: Pillow's Lanczos.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.device import is_out_of_memory
from atelier.errors import AtelierError
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress
from atelier.upscaling.network import SRVGGNetCompact


def in_memory(work: Callable[[int], None], sides_px: Sequence[int]) -> int:
    """Do the work with tiles of the first of these sides for which memory suffices; that side.

    Raises AtelierError where it suffices for none.
    """
    for side_px in sides_px:
        if _fits(work, side_px):
            return side_px
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise AtelierError(
        f"memory does not suffice to enlarge tiles of {sides_px[-1]} px: end other programs, "
        "or set upscale.device to cpu"
    )


def halves(side_px: int, least_px: int) -> list[int]:
    """The side, its half, and so on, as far as `least_px`."""
    return [side_px, *(halves(side_px // 2, least_px) if side_px // 2 >= least_px else [])]


def _fits(work: Callable[[int], None], side_px: int) -> bool:
    """Whether memory sufficed; the error and the tensors that its frames hold are gone when this returns."""
    try:
        work(side_px)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


DTYPES = {8: np.uint8, 16: np.uint16}


class Counted:
    """Tells how many more pixels are finished, and takes it back where the work starts again."""

    def __init__(self, done: ProgressCallback) -> None:
        self._done, self._count = done, 0

    def start(self) -> None:
        self(-self._count)

    def __call__(self, pixels: int) -> None:
        self._count += pixels
        self._done(pixels)


def blank(height: int, width: int, bits: int) -> Samples:
    """Room for a print (H, W, 3). Raises AtelierError where it does not fit into memory."""
    try:
        return np.empty((height, width, 3), DTYPES[bits])
    except (MemoryError, ValueError):
        raise AtelierError(
            f"a print of {width:,} × {height:,} px does not fit into memory: make upscale.scale smaller"
        ) from None


def put(result: Samples, top: int, left: int, images: Tensor) -> None:
    """Round one image (1, 3, h, w) in about [0, 1], half to even, into its place in the result.

    Raises AtelierError where it holds no numbers.
    """
    if not images.isfinite().all():
        raise AtelierError("the upscaler makes NaN of a picture: it is damaged, or its training diverged")
    levels = images.clamp(0, 1).mul_(np.iinfo(result.dtype).max).round_().to(torch.int32)
    _, _, height, width = images.shape
    result[top : top + height, left : left + width] = levels[0].permute(1, 2, 0).cpu().numpy()


def to_images(picture: Pixels, device: torch.device) -> Tensor:
    """Pixels (h, w, 3), a part of a picture say, as an image (1, 3, h, w) in [0, 1], channels last."""
    images = torch.from_numpy(np.array(picture)).to(device)  # a copy, since torch writes where it reads
    return images.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.channels_last).div_(255)


TILE_PX = 256  # of what the last pass is given: 48 features of it and its surroundings are 15 MB

TILE_ON_A_GPU_PX = 1024  # 16 times that keeps thousands of cores busy

LEAST_PX = 32


@dataclass(frozen=True)
class Span:
    """Pixels `start` to `end` − 1 of one axis."""

    start: int
    end: int

    def times(self, scale: int) -> "Span":
        return Span(self.start * scale, self.end * scale)

    def seen(self, scale: int, reach: int, size: int) -> "Span":
        """What a network that enlarges by `scale` looks at to make these, where there are `size` pixels.

        It ends at the picture's edge: there the network's zero padding must be the one that the whole would get.
        """
        return Span(max(self.start // scale - reach, 0), min(-(-self.end // scale) + reach, size))

    def within(self, other: "Span") -> slice:
        return slice(self.start - other.start, self.end - other.start)


def enlarge(network: SRVGGNetCompact, picture: Pixels, scale: int) -> Pixels:
    """A picture (H, W, 3) `scale` times larger on each side, in as many passes of the network as that takes.

    Raises AtelierError where no number of passes gives `scale`.
    """
    result = blank(picture.shape[0] * scale, picture.shape[1] * scale, 8)
    enlarge_into(result, network, picture)
    return result.astype(np.uint8, copy=False)


def enlarge_into(
    result: Samples,
    network: SRVGGNetCompact,
    picture: Pixels,
    tile_px: int | None = None,
    done: ProgressCallback = ignore_progress,
) -> None:
    """Fill the result, some times larger than the picture, on the network's device.

    `tile_px` is a side of what the last pass is given (None: one that suits the device); it is halved for as long as
    memory does not suffice. Raises AtelierError where no number of passes gives the result's size.
    """
    device = next(network.parameters()).device
    scale = result.shape[0] // picture.shape[0]
    count = passes(network.scale, scale)
    first_px = tile_px or (TILE_PX if device.type == "cpu" else TILE_ON_A_GPU_PX)
    counted = Counted(done)

    def fill(side_px: int) -> None:
        counted.start()
        for rows, columns in _tiles(picture, max(side_px // network.scale ** (count - 1), 1)):
            images = _enlarged(network, picture, rows, columns, count)
            put(result, rows.start * scale, columns.start * scale, images)
            counted((rows.end - rows.start) * (columns.end - columns.start) * scale**2)

    in_memory(fill, halves(first_px, min(first_px, LEAST_PX)))


def passes(network_scale: int, scale: int) -> int:
    """How many passes of a network make `scale`. Raises AtelierError where none do."""
    count = round(math.log(scale, network_scale)) if network_scale > 1 else 0
    if count < 1 or network_scale**count != scale:
        raise AtelierError(
            f"upscale.scale holds {scale}; the upscaler enlarges {network_scale} times a pass, "
            f"so it may hold {network_scale}, {network_scale**2}, …"
        )
    return count


def _tiles(picture: Pixels, tile_px: int) -> Iterator[tuple[Span, Span]]:
    height, width, _ = picture.shape
    for top, left in itertools.product(range(0, height, tile_px), range(0, width, tile_px)):
        yield Span(top, min(top + tile_px, height)), Span(left, min(left + tile_px, width))


@torch.inference_mode()
def _enlarged(network: SRVGGNetCompact, picture: Pixels, rows: Span, columns: Span, count: int) -> Tensor:
    """The image (1, 3, h, w) of these pixels of the picture after `count` passes over the whole picture."""
    scale, reach = network.scale, network.reach_px
    windows = [(rows.times(scale**count), columns.times(scale**count))]
    for level in reversed(range(count)):  # from what is wanted back to what must be looked at
        height, width = (side * scale**level for side in picture.shape[:2])
        wanted = windows[0]
        windows.insert(0, (wanted[0].seen(scale, reach, height), wanted[1].seen(scale, reach, width)))
    (top, left), *larger = windows
    device = next(network.parameters()).device
    images = to_images(picture[top.start : top.end, left.start : left.end], device)
    for below, right in larger:
        images = network(images).clamp_(0, 1)
        images = images[:, :, below.within(top.times(scale)), right.within(left.times(scale))]
        images = images.contiguous(memory_format=torch.channels_last)
        top, left = below, right
    return images


CONTEXT_PX = 4  # Lanczos looks 3 px to each side


def enlarge_lanczos(picture: Pixels, scale: int) -> Pixels:
    """A picture (H, W, 3) `scale` times larger on each side."""
    return np.asarray(Image.fromarray(picture).resize(_size(picture, scale), Image.Resampling.LANCZOS))


def lanczos_into(result: Samples, picture: Pixels) -> None:
    """Fill the result, some times larger than the picture; 16 bits do not pass through 8."""
    scale = result.shape[0] // picture.shape[0]
    if result.dtype == np.uint8:
        result[:] = enlarge_lanczos(picture, scale)
        return
    for channel in range(3):
        grey = Image.fromarray(picture[:, :, channel].astype(np.float32))
        levels = np.asarray(grey.resize(_size(picture, scale), Image.Resampling.LANCZOS))
        result[:, :, channel] = np.rint(levels.clip(0, 255) * 257)  # 65535 / 255


def _size(picture: Pixels, scale: int) -> tuple[int, int]:
    height, width, _ = picture.shape
    return width * scale, height * scale
