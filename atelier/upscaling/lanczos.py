"""Enlarging without learning: Pillow's Lanczos."""

import numpy as np
from PIL import Image

from atelier.upscaling.samples import Pixels, Samples

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
