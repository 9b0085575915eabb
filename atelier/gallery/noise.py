"""Planes of numbers: periodic fractal noise, ramps and mixtures, to and from images. Knows no sea and no sky."""

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
    """`a` where `share` is 0, `b` where it is 1; colours are planes (3, h, w), which one `share` (h, w) serves."""
    found: Field = b - a
    found = found * share
    found += a
    return found


def from_image(picture: Image.Image) -> Field:
    """An RGB image as planes (3, h, w) of 0 to 1, in single precision."""
    planes: Field = np.stack([np.asarray(band, np.float32) for band in picture.split()])
    planes *= np.float32(1 / 255)
    return planes


def to_image(colours: Field) -> Image.Image:
    """Planes (3, h, w) as an RGB image; what is out of 0 to 1 is cut off."""
    whole = (np.clip(colours, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in whole])
