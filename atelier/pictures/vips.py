"""libvips, which reads and writes pictures in pieces; loaded when it is first asked for. Knows no format.

The colour space of every picture here, as files name it: sRGB.

`srgb.icc` was made once by Little CMS (Pillow's `ImageCms.createProfile("sRGB")`) and kept, so that it is the same in
every file: its date is set to the first of January 2000, and its checksum, which ICC lets one leave out, to nothing.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atelier.errors import AtelierError
from atelier.pictures import Samples

BAND_BYTES = 1 << 24  # what is held of a picture that is read in bands

DTYPES = {"uchar": np.uint8, "ushort": np.uint16}


@cache
def libvips() -> Any:
    """The module pyvips. Raises AtelierError where it is not installed."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise AtelierError(
            f"libvips cannot be loaded ({error}): `uv pip install 'pyvips[binary]'` installs it"
        ) from None
    logging.getLogger("pyvips").setLevel(
        logging.ERROR
    )  # what it warns of in hostile files, its errors say as well
    pyvips.cache_set_max(0)  # it would answer for a file by what another of its name once held
    return pyvips


def bands(image: Any) -> Iterator[Samples]:
    """A picture's rows from the top, some at a time. Raises pyvips.Error where they cannot be decoded."""
    region = libvips().Region.new(image)
    dtype = np.dtype(DTYPES[image.format])
    rows = max(1, BAND_BYTES // (image.width * image.bands * dtype.itemsize))
    for top in range(0, image.height, rows):
        height = min(rows, image.height - top)
        samples = np.frombuffer(region.fetch(0, top, image.width, height), dtype)
        yield samples.reshape(height, image.width, image.bands)


def array(image: Any) -> npt.NDArray[Any]:
    """All samples of a picture: (H, W), or (H, W, channels) where there are several. Raises pyvips.Error."""
    samples: npt.NDArray[Any] = image.numpy()
    return samples[..., 0] if samples.ndim == 3 and samples.shape[2] == 1 else samples


@cache
def srgb() -> bytes:
    """The profile."""
    return Path(__file__).with_name("srgb.icc").read_bytes()
