"""The colour space of every picture here, as files name it: sRGB.

`srgb.icc` is sRGB-v2-magic.icc of github.com/saucecontrol/Compact-ICC-Profiles (CC0), which follows sRGB's curve to the
last of 8 bits, and is of version 2 of the format, which every printer's software reads.
"""

from functools import cache
from pathlib import Path


@cache
def srgb() -> bytes:
    """The profile."""
    return Path(__file__).with_name("srgb.icc").read_bytes()
