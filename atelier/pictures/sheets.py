"""Contact sheets: pictures of one size side by side as one. Knows arrays and PNGs, not where pictures come from."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from atelier.files import replacing
from atelier.pictures.colour import srgb

Pixels = npt.NDArray[np.uint8]
SIDE_PX = 512  # about how wide a grid of pictures is
MOST, FEWEST = 8, 3  # pictures a row of it


def sheet(images: Pixels, columns: int | None = None, pad_px: int = 2) -> Pixels:
    """Pictures (n, H, W, 3), row by row, as one (rows, columns) sheet with white seams.

    Without `columns` the sheet is about as wide as high.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"a sheet needs uint8 (n, H, W, 3) pictures, not {images.dtype} {images.shape}")
    count, height, width, _ = images.shape
    columns = columns or max(1, round(math.sqrt(count * height / width)))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    down, right = height + pad_px, width + pad_px
    drawn = np.full((rows * down + pad_px, columns * right + pad_px, 3), 255, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = pad_px + row * down, pad_px + column * right
        drawn[top : top + height, left : left + width] = image
    return drawn


def grid(pictures: Pixels) -> Pixels:
    """As many of the pictures (n, H, W, 3), in their order, as are seen well, as one square grid."""
    side = max(pictures.shape[1:3])
    columns = min(max(SIDE_PX // side, FEWEST), MOST)
    shown = pictures[: columns**2]
    if side * columns > SIDE_PX:
        scale = SIDE_PX / columns / side
        size = (round(pictures.shape[2] * scale), round(pictures.shape[1] * scale))
        shown = np.stack([np.array(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS)) for p in shown])
    else:
        times = SIDE_PX // (side * columns)  # whole pixels: what is coarse shall look coarse
        shown = shown.repeat(times, axis=1).repeat(times, axis=2)
    return sheet(shown, columns)


def write_sheet(path: Path, images: Pixels, columns: int | None = None, pad_px: int = 2) -> None:
    """Write the sheet as a PNG: whole or not at all, the same bytes for the same pictures."""
    with replacing(path) as temporary:
        Image.fromarray(sheet(images, columns, pad_px)).save(
            temporary, format="PNG", compress_level=6, icc_profile=srgb()
        )


def thumbnail(rgb: Pixels, side_px: int) -> Pixels:
    """The picture with its longer side at most `side_px`; a picture that is small enough stays as it is."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.array(picture)
