"""A print's samples: 8 or 16 bits a colour, rounded once, from float32 straight to what is kept."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Done = Callable[[float], None]  # told of so many more pixels that are finished
DTYPES = {8: np.uint8, 16: np.uint16}


def unheard(pixels: float) -> None:
    """Where nobody asks how far it is."""


class Counted:
    """Tells how many more pixels are finished, and takes it back where the work starts again."""

    def __init__(self, done: Done) -> None:
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
