"""How alike two pictures are, value by value, in bounded memory; and several pictures hung on one sheet.

Knows arrays of (H, W, 3), uint8 or uint16, memory-mapped or not; no file and no verdict.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from atelier.vips import Samples

TEXT_PX, GAP_PX, SIDE_PX, COLUMNS = 16, 8, 256, 4
INK, PAPER = (24, 24, 24), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels; `right` and `bottom` are the first that are no part of it."""

    left: int
    top: int
    right: int
    bottom: int

    def __str__(self) -> str:
        return f"columns {self.left:,} to {self.right - 1:,}, rows {self.top:,} to {self.bottom - 1:,}"


@dataclass(frozen=True, slots=True)
class Likeness:
    """What differs: of all `values` (three a pixel) so many, at most by `largest` 255ths, in `pixels` within `box`."""

    values: int
    differing: int
    largest: float
    pixels: int
    box: Box | None


def compare(bands: Iterable[Samples], other: Samples) -> Likeness:
    """A picture that comes in bands from the top, and one of the same size and depth, memory-mapped where it is large.

    Raises ValueError where they are not of one size and depth.
    """
    height, width, _ = other.shape
    differing = largest = pixels = end = 0
    left, top, right, bottom = width, height, 0, 0
    for given in bands:
        start, end = end, end + len(given)
        beside = other[start:end]
        if given.shape != beside.shape or given.itemsize != beside.itemsize:
            raise ValueError(f"{given.shape} and {beside.shape}, {given.dtype} and {beside.dtype} differ")
        band = np.abs(given.astype(np.int32) - beside)
        touched = band.any(axis=2)
        if not touched.any():
            continue
        differing += int(np.count_nonzero(band))
        pixels += int(np.count_nonzero(touched))
        largest = max(largest, int(band.max()))
        across, down = np.flatnonzero(touched.any(axis=0)), np.flatnonzero(touched.any(axis=1))
        left, right = min(left, int(across[0])), max(right, int(across[-1]) + 1)
        top, bottom = min(top, start + int(down[0])), start + int(down[-1]) + 1
    if end != height:
        raise ValueError(f"one picture has {end} rows, the other {height}")
    box = Box(left, top, right, bottom) if pixels else None
    return Likeness(other.size, differing, largest * 255 / np.iinfo(other.dtype).max, pixels, box)


def hung(pictures: Sequence[tuple[str, Samples]]) -> npt.NDArray[np.uint8]:
    """Named pictures side by side, small ones enlarged by whole pixels, large ones reduced, each over its name."""
    drawn = [_framed(name, picture) for name, picture in pictures]
    columns = min(COLUMNS, len(drawn))
    width, height = (max(sides) for sides in zip(*(picture.size for picture in drawn), strict=True))
    rows = -(-len(drawn) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX), PAPER)
    for place, picture in enumerate(drawn):
        row, column = divmod(place, columns)
        sheet.paste(picture, (GAP_PX + column * (width + GAP_PX), GAP_PX + row * (height + GAP_PX)))
    return np.array(sheet)


def _framed(name: str, pixels: Samples) -> Image.Image:
    levels = pixels.astype(np.uint8) if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    picture = Image.fromarray(levels)
    times = SIDE_PX // max(picture.size)
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (picture.width, picture.height + round(1.5 * TEXT_PX)), PAPER)
    framed.paste(picture, (0, 0))
    font = ImageFont.load_default(TEXT_PX)
    ImageDraw.Draw(framed).text((0, picture.height), name, fill=INK, font=font)
    return framed
