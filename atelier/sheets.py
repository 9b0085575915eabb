"""Contact sheets: pictures of one size side by side as one. Knows arrays and PNGs, not where pictures come from."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.utils import make_grid

from atelier.files import replacing

Pixels = npt.NDArray[np.uint8]


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
    grid = make_grid(tiles, nrow=columns, padding=pad_px, pad_value=255)
    return np.ascontiguousarray(grid.permute(1, 2, 0).numpy())


def write_sheet(path: Path, images: Pixels, columns: int | None = None, pad_px: int = 2) -> None:
    """Write the sheet as a PNG: whole or not at all, the same bytes for the same pictures."""
    with replacing(path) as temporary:
        Image.fromarray(sheet(images, columns, pad_px)).save(temporary, format="PNG", compress_level=6)


def thumbnail(rgb: Pixels, side_px: int) -> Pixels:
    """The picture with its longer side at most `side_px`; a picture that is small enough stays as it is."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.array(picture)
