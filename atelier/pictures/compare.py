"""How alike two pictures are, value by value, in bounded memory.

Knows arrays of (H, W, 3), uint8 or uint16, memory-mapped or not; no file and no verdict.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from atelier.pictures.vips import Samples


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
