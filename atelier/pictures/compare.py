"""How alike two pictures are, value by value, in bounded memory.

Knows arrays of (H, W, 3), uint8 or uint16, memory-mapped or not; no file and no verdict.

The digest by which a picture is known, of any file that shows it: whoever saved it last, in whatever format.

A file of anybody's: what it would take to decode is asked of its header first. Knows no provenance.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atelier.errors import AtelierError
from atelier.images.decode import ImageDecoder, classify_failure
from atelier.images.kinds import missing_decoder, sniff
from atelier.images.verify import read_rgb
from atelier.pictures import Samples, png
from atelier.pictures.untrusted import escaped, open_regular
from atelier.provenance.facts import PixelFacts


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
class PixelDifference:
    """What differs: of all `values` (three a pixel) so many, at most by `largest` 255ths, in `pixels` within `box`."""

    values: int
    differing: int
    largest: float
    pixels: int
    box: Box | None


def compare_pixels(bands: Iterable[Samples], other: Samples) -> PixelDifference:
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
    return PixelDifference(other.size, differing, largest * 255 / np.iinfo(other.dtype).max, pixels, box)


MAX_BYTES = 1 << 30

MAX_PIXELS = 200_000_000  # of which decoding takes some 1.2 GB


def pixels_sha256(path: Path) -> str:
    """SHA-256 of the picture's RGB samples, as a provenance has it. Raises AtelierError where it is no picture."""
    with open_regular(path, "name a picture") as file:
        head = file.read(26)
        if (
            head.startswith(png.SIGNATURE) and head[24:26] == b"\x10\x02"
        ):  # 16-bit colours, which `read_rgb` rounds
            width, height = struct.unpack(">II", head[16:24])
            _refuse_huge(path, width, height)
            return PixelFacts.of_bands(png.read(path, file, width, height, 16)).sha256
        content = head + file.read(MAX_BYTES + 1 - len(head))
    if len(content) > MAX_BYTES:
        raise AtelierError(f"{escaped(path)} is larger than any picture of ours, {MAX_BYTES >> 30} GiB")
    _refuse_huge(path, *_size(path, content))
    try:
        return PixelFacts.of(np.asarray(read_rgb(content))).sha256
    except AtelierError as error:
        raise AtelierError(f"{escaped(path)}: {error}") from None


def _refuse_huge(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise AtelierError(
            f"{escaped(path)} claims {width:,} × {height:,} px, more than the {MAX_PIXELS:,} that are looked at"
        )


def _size(path: Path, content: bytes) -> tuple[int, int]:
    kind = sniff(content)
    if kind is None:
        raise AtelierError(f"{escaped(path)} is no picture of a kind that Atelier knows: name a PNG")
    if why := missing_decoder(kind):
        raise AtelierError(f"{escaped(path)}: {why}")
    try:
        return ImageDecoder(kind, content).size
    except Exception as error:  # noqa: BLE001  # a stranger's file, of which a decoder may raise anything
        damaged, why = classify_failure(kind, content, error)
        what = "is a damaged picture" if damaged else "cannot be read"
        raise AtelierError(f"{escaped(path)} {what} ({escaped(why)})") from None
