"""The colour space of every picture here, as files name it: sRGB.

`srgb.icc` was made once by Little CMS (Pillow's `ImageCms.createProfile("sRGB")`) and kept, so that it is the same in
every file: its date is set to the first of January 2000, and its checksum, which ICC lets one leave out, to nothing.
"""

from functools import cache
from pathlib import Path


@cache
def srgb() -> bytes:
    """The profile."""
    return Path(__file__).with_name("srgb.icc").read_bytes()
