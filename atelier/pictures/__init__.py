"""Picture files and contact sheets: reading, writing and comparing them. Here: the types of pixel arrays, and libvips.

libvips reads and writes pictures in pieces, and is loaded at its first use. `srgb.icc`, the profile that every picture
file carries, was made once by Little CMS (Pillow's `ImageCms.createProfile("sRGB")`) and stored, so that it is the same
in every file: its date is 1 January 2000, and its checksum, which ICC makes optional, is zero.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atelier.errors import AtelierError

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, or (N, H, W, 3)
Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W, 3) RGB of 8 or 16 bits

BAND_BYTES = 1 << 24  # in memory of a picture that is read in bands
DTYPES = {"uchar": np.uint8, "ushort": np.uint16}


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
