"""Periodic fractal noise and how to look it up: the one source of irregularity. Knows no sea and no sky."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]  # single precision wherever it is as large as a picture
SIDE = 256  # of a texture, one period; a power of two, so that wrapping is a bit mask


def fractal(rng: np.random.Generator, coarsest: int = 4, octaves: int = 6, gain: float = 0.55) -> Field:
    """A SIDE × SIDE periodic texture of mean 0 and deviation 1; `coarsest` lumps a period, each octave doubles them."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for octave in range(octaves):
        cells = coarsest * 2**octave
        grid = np.pad(rng.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        smooth = Image.fromarray(grid).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC, box=(2, 2, cells + 2, cells + 2)
        )
        total += np.asarray(smooth) * np.float32(gain**octave)
    total -= total.mean()
    total /= total.std()
    return total


def sample(texture: Field, x: Field, y: Field) -> Field:
    """The texture at (x, y), in periods, bilinear, wrapping around."""
    x, y = x * np.float32(SIDE), y * np.float32(SIDE)
    column, row = np.floor(x), np.floor(y)
    across, down = x - column, y - row
    left, top = column.astype(np.int32) & (SIDE - 1), row.astype(np.int32) & (SIDE - 1)
    right, bottom = (left + 1) & (SIDE - 1), (top + 1) & (SIDE - 1)
    flat = texture.ravel()
    top, bottom = top * SIDE, bottom * SIDE
    upper = flat[top + left] * (1 - across) + flat[top + right] * across
    lower = flat[bottom + left] * (1 - across) + flat[bottom + right] * across
    found: Field = upper * (1 - down) + lower * down
    return found


def smoothstep(low: float, high: float, value: Field) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    ramp = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    found: Field = ramp * ramp * (3 - 2 * ramp)
    return found


def mix(a: Field, b: Field, share: Field) -> Field:
    """`a` where `share` is 0, `b` where it is 1; `share` (h, w) serves all three channels."""
    found: Field = a + (b - a) * share[..., None]
    return found
