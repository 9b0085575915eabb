"""Contact sheets: pictures of one size side by side as one. Knows arrays and PNGs, not where pictures come from."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.utils import make_grid

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
    tiles = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    if count == 1:  # make_grid frames every sheet but a single picture's
        tiles = torch.nn.functional.pad(tiles, (pad_px,) * 4, value=255)
    drawn = make_grid(tiles, nrow=columns, padding=pad_px, pad_value=255)
    return np.ascontiguousarray(drawn.permute(1, 2, 0).numpy())


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
