"""What all ways to enlarge a picture share: the print's samples, tiles that fit into memory, progress; and Lanczos.

A print has 8 or 16 bits a colour. Results are rounded once, from float32 straight to these samples, tile by tile, so
that nothing else of a picture is held in float32.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.device import is_out_of_memory
from atelier.errors import AtelierError
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback

DTYPES = {8: np.uint8, 16: np.uint16}
LANCZOS_REACH_PX = 4  # Lanczos uses 3 px to each side


class PixelCounter:
    """Reports finished pixels to a callback, and takes them back when the work starts again."""

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress, self._count = progress, 0

    def restart(self) -> None:
        self.add(-self._count)

    def add(self, pixels: int) -> None:
        self._count += pixels
        self._progress(pixels)


@dataclass(frozen=True)
class Span:
    """Pixels `start` to `end` − 1 along one axis."""

    start: int
    end: int

    def times(self, scale: int) -> "Span":
        return Span(self.start * scale, self.end * scale)

    def within(self, other: "Span") -> slice:
        return slice(self.start - other.start, self.end - other.start)


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
    try:
        return np.empty((height, width, 3), DTYPES[bits])
    except (MemoryError, ValueError):
        raise AtelierError(
            f"a print of {width:,} × {height:,} px does not fit into memory: make upscale.scale smaller"
        ) from None


def to_tensor(picture: Pixels, device: torch.device) -> Tensor:
    """Pixels (h, w, 3) as an image (1, 3, h, w) in [0, 1], channels last."""
    images = torch.from_numpy(np.array(picture)).to(device)  # a copy: torch needs writable memory
    return images.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.channels_last).div_(255)


def write_tile(result: Samples, top: int, left: int, images: Tensor) -> None:
    """Round one image (1, 3, h, w) in about [0, 1], half to even, into its place in the print.

    Raises AtelierError if it contains NaN or infinity.
    """
    if not images.isfinite().all():
        raise AtelierError("the upscaler makes NaN of a picture: it is damaged, or its training diverged")
    levels = images.clamp(0, 1).mul_(np.iinfo(result.dtype).max).round_().to(torch.int32)
    _, _, height, width = images.shape
    result[top : top + height, left : left + width] = levels[0].permute(1, 2, 0).cpu().numpy()


def with_fitting_tiles(work: Callable[[int], None], sides_px: Sequence[int]) -> int:
    """Call `work` with the first of these tile sides for which memory suffices, and return that side.

    Raises AtelierError if memory suffices for none.
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


def halved_sides(side_px: int, least_px: int) -> list[int]:
    """The side, its half, its quarter, …, none below `least_px`."""
    return [side_px, *(halved_sides(side_px // 2, least_px) if side_px // 2 >= least_px else [])]


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


def _fits(work: Callable[[int], None], side_px: int) -> bool:
    """Whether memory sufficed; the error, and the tensors that its frames hold, are gone when this returns."""
    try:
        work(side_px)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
