"""Picture files and contact sheets: reading, writing and comparing them. Here: pixel arrays, shapes, and libvips.

libvips reads and writes pictures in pieces, and is loaded at its first use. `srgb.icc`, the profile that every picture
file carries, was made once by Little CMS (Pillow's `ImageCms.createProfile("sRGB")`) and stored, so that it is the same
in every file: its date is 1 January 2000, and its checksum, which ICC makes optional, is zero.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from atelier.errors import AtelierError

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, or (N, H, W, 3)
Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W, 3) RGB of 8 or 16 bits

BAND_BYTES = 1 << 24  # in memory of a picture that is read in bands
DTYPES = {"uchar": np.uint8, "ushort": np.uint16}

Cells = tuple[int, int]  # rows and columns
# A square picture has BASE_SIDE × BASE_SIDE base cells, the pixels of its coarsest feature map.
BASE_SIDE = 4
SQUARE = "square"
AS_THE_SET = "as the set"  # as augment.aspect: the shape that is nearest to the paintings'
# The shape of one picture in base cells; 7:4 stands for 16:9.
CELLS: Mapping[str, Cells] = {
    SQUARE: (BASE_SIDE, BASE_SIDE), "3:2": (4, 6), "4:3": (3, 4), "16:9": (4, 7), "2:3": (6, 4), "3:4": (4, 3),
    "9:16": (7, 4),
}  # fmt: skip


def picture_size(resolution: int, aspect: str = SQUARE) -> tuple[int, int]:
    """Height and width in px of a picture of a shape of CELLS; a square one has `resolution` × `resolution`."""
    rows, columns = CELLS[aspect]
    return resolution // BASE_SIDE * rows, resolution // BASE_SIDE * columns


def largest_box(width: int, height: int, aspect: str) -> tuple[int, int]:
    """Width and height in px of the largest box of this shape in a picture of width × height px, rounded."""
    rows, columns = CELLS[aspect]
    if width * rows > height * columns:
        return max(1, round(height * columns / rows)), height
    return width, max(1, round(width * rows / columns))


def nearest_aspect(sizes: Iterable[tuple[int, int]]) -> str:
    """The shape whose ratio is nearest, on a logarithmic scale, to the median ratio of sizes (width, height)."""
    middle = median([math.log(width / height) for width, height in sizes] or [0.0])
    return min(CELLS, key=lambda aspect: abs(math.log(CELLS[aspect][1] / CELLS[aspect][0]) - middle))


def size_in_words(height: int, width: int) -> str:
    """A size in px: "64 px" for a square, "96 × 64 px" for a picture that is 96 px wide."""
    return f"{width} px" if height == width else f"{width} × {height} px"


@cache
def libvips() -> Any:
    """The module pyvips. Raises AtelierError if it is not installed."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise AtelierError(
            f"libvips cannot be loaded ({error}): `uv pip install 'pyvips[binary]'` installs it"
        ) from None
    logging.getLogger("pyvips").setLevel(logging.ERROR)  # warnings of damaged files come as errors as well
    pyvips.cache_set_max(0)  # the cache is keyed by file names, whose contents may have changed
    return pyvips


def bands(image: Any) -> Iterator[Samples]:
    """A picture's rows (h, W, channels) from the top, some at a time. Raises pyvips.Error if decoding fails."""
    region = libvips().Region.new(image)
    dtype = np.dtype(DTYPES[image.format])
    rows = max(1, BAND_BYTES // (image.width * image.bands * dtype.itemsize))
    for top in range(0, image.height, rows):
        height = min(rows, image.height - top)
        samples = np.frombuffer(region.fetch(0, top, image.width, height), dtype)
        yield samples.reshape(height, image.width, image.bands)


def array(image: Any) -> npt.NDArray[Any]:
    """All samples of a picture, (H, W), or (H, W, channels) if there are several. Raises pyvips.Error."""
    samples: npt.NDArray[Any] = image.numpy()
    return samples[..., 0] if samples.ndim == 3 and samples.shape[2] == 1 else samples


def from_16_bits(samples: npt.NDArray[Any], interpretation: str) -> Any:
    """A picture of 16-bit samples (H, W, channels); `interpretation` is libvips's name of their colour space."""
    height, width, channels = samples.shape
    memory = np.ascontiguousarray(samples).data
    image = libvips().Image.new_from_memory(memory, width, height, channels, "ushort")
    return image.copy(interpretation=interpretation)


def profile_of(image: Any) -> bytes | None:
    """The ICC profile of a picture."""
    return bytes(image.get("icc-profile-data")) if image.get_typeof("icc-profile-data") else None


@cache
def srgb() -> bytes:
    """The ICC profile of sRGB."""
    return Path(__file__).with_name("srgb.icc").read_bytes()
