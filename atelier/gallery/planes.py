"""Arrays of brightness and colour: periodic fractal noise, ramps, mixtures, and conversion to and from images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.floating[Any]]  # in single precision if it is as large as a picture
TEXTURE_PX = 256  # the side of a texture, one period; a power of two, so that wrapping is a bit mask


def fractal(rng: np.random.Generator, coarsest: int = 4, octaves: int = 6, gain: float = 0.55) -> FloatArray:
    """A periodic texture (TEXTURE_PX, TEXTURE_PX) of mean 0 and standard deviation 1.

    The first octave has `coarsest` cells a period, each further one twice as many at `gain` times the amplitude.
    """
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for octave in range(octaves):
        cells = coarsest * 2**octave
        grid = np.pad(rng.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        smooth = Image.fromarray(grid).resize(
            (TEXTURE_PX, TEXTURE_PX), Image.Resampling.BICUBIC, box=(2, 2, cells + 2, cells + 2)
        )
        total += np.asarray(smooth) * np.float32(gain**octave)
    total -= total.mean()
    total /= total.std()
    return total


def sample(texture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """The texture at (x, y), in periods, with bilinear interpolation and wrapping around."""
    x, y = x * np.float32(TEXTURE_PX), y * np.float32(TEXTURE_PX)
    column, row = np.floor(x), np.floor(y)
    across, down = x - column, y - row
    left, top = column.astype(np.int32) & (TEXTURE_PX - 1), row.astype(np.int32) & (TEXTURE_PX - 1)
    right, bottom = (left + 1) & (TEXTURE_PX - 1), (top + 1) & (TEXTURE_PX - 1)
    flat = texture.ravel()
    top, bottom = top * TEXTURE_PX, bottom * TEXTURE_PX
    upper = flat[top + left] * (1 - across) + flat[top + right] * across
    lower = flat[bottom + left] * (1 - across) + flat[bottom + right] * across
    found: FloatArray = upper * (1 - down) + lower * down
    return found


def smoothstep(low: float, high: float, value: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, and a smooth cubic between."""
    ramp = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    found: FloatArray = ramp * ramp * (3 - 2 * ramp)
    return found


def mix(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    """Mix `a` (at `share` 0) and `b` (at 1); arrays of shape (3, h, w) or (h, w), broadcast against each other."""
    found: FloatArray = b - a
    found = found * share
    found += a
    return found


def from_image(picture: Image.Image) -> FloatArray:
    """An RGB image as an array (3, h, w) of 0 to 1, in single precision."""
    planes: FloatArray = np.stack([np.asarray(band, np.float32) for band in picture.split()])
    planes *= np.float32(1 / 255)
    return planes


def to_image(colours: FloatArray) -> Image.Image:
    """An array (3, h, w) as an RGB image; values are clipped to 0 to 1."""
    whole = (np.clip(colours, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in whole])


def rgb(colour: str) -> FloatArray:
    """'#rrggbb' as an array (3, 1, 1) of 0 to 1."""
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)], np.float32)[:, None, None]
