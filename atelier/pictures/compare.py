"""Compare pictures: by the digest of their pixels, or value by value in bounded memory.

`pixels_sha256` reads a file that may come from anybody, so its size is read from the header before it is decoded.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atelier.errors import AtelierError
from atelier.images import missing_decoder, sniff
from atelier.images.decode import ImageDecoder, classify_failure
from atelier.images.verify import read_rgb
from atelier.pictures import Samples, png
from atelier.provenance.facts import PixelFacts
from atelier.text import escaped, open_regular

MAX_BYTES = 1 << 30
MAX_PIXELS = 200_000_000  # decoding takes about 1.2 GB


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """How two pictures differ: in how many of all values (three a pixel) and pixels, by how much, and where."""

    values: int
    differing: int
    largest: float  # difference, in 255ths
    pixels: int  # that differ
    place: str  # for example "columns 3 to 5, rows 2 to 9"; empty if none differ


def compare_pixels(bands: Iterable[Samples], other: Samples) -> PixelDifference:
    """Compare a picture that comes in bands from the top with another (H, W, 3), which may be memory-mapped.

    Raises ValueError if they differ in size or depth.
    """
    height, width, _ = other.shape
    differing = largest = pixels = end = 0
    columns, lines = np.zeros(width, bool), np.zeros(height, bool)  # in which pixels differ
    for rows in bands:
        start, end = end, end + len(rows)
        beside = other[start:end]
        if rows.shape != beside.shape or rows.itemsize != beside.itemsize:
            raise ValueError(f"{rows.shape} and {beside.shape}, {rows.dtype} and {beside.dtype} differ")
        band = np.abs(rows.astype(np.int32) - beside)
        touched = band.any(axis=2)
        differing += int(np.count_nonzero(band))
        pixels += int(np.count_nonzero(touched))
        largest = max(largest, int(band.max()))
        columns |= touched.any(axis=0)
        lines[start:end] = touched.any(axis=1)
    if end != height:
        raise ValueError(f"one picture has {end} rows, the other {height}")
    across, down = np.flatnonzero(columns), np.flatnonzero(lines)
    place = f"columns {across[0]:,} to {across[-1]:,}, rows {down[0]:,} to {down[-1]:,}" if pixels else ""
    return PixelDifference(other.size, differing, largest * 255 / np.iinfo(other.dtype).max, pixels, place)


def pixels_sha256(path: Path) -> str:
    """SHA-256 of a picture's RGB samples, as a provenance contains it; the same for every lossless format.

    Raises AtelierError if the file is not a picture, or too large.
    """
    return PixelFacts.of_bands(read_samples(path)).sha256


def read_samples(path: Path) -> Iterator[Samples]:
    """A picture's RGB samples (rows, W, 3) in bands from the top: of 16 bits from a PNG of that depth, otherwise of 8.

    Raises AtelierError as `pixels_sha256` does.
    """
    with open_regular(path, "name a picture") as file:
        head = file.read(26)
        # a PNG of 16-bit RGB, which `read_rgb` would round to 8
        if head.startswith(png.SIGNATURE) and head[24:26] == b"\x10\x02":
            width, height = struct.unpack(">II", head[16:24])
            _refuse_huge(path, width, height)
            yield from png.read(path, file, width, height, 16)
            return
        content = head + file.read(MAX_BYTES + 1 - len(head))
    if len(content) > MAX_BYTES:
        raise AtelierError(f"{escaped(path)} is larger than {MAX_BYTES >> 30} GiB, which no picture of Atelier is")
    _refuse_huge(path, *_size(path, content))
    try:
        yield np.asarray(read_rgb(content))
    except AtelierError as error:
        raise AtelierError(f"{escaped(path)}: {error}") from None


def _refuse_huge(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise AtelierError(
            f"{escaped(path)} claims {width:,} × {height:,} px, more than the {MAX_PIXELS:,} that are read"
        )


def _size(path: Path, content: bytes) -> tuple[int, int]:
    kind = sniff(content)
    if kind is None:
        raise AtelierError(f"{escaped(path)} is not a picture of a kind that Atelier reads: name a PNG")
    if why := missing_decoder(kind):
        raise AtelierError(f"{escaped(path)}: {why}")
    try:
        return ImageDecoder(kind, content).size
    except Exception as error:  # noqa: BLE001  # a decoder may raise anything for a hostile file
        damaged, why = classify_failure(kind, content, error)
        what = "is a damaged picture" if damaged else "cannot be read"
        raise AtelierError(f"{escaped(path)} {what} ({escaped(why)})") from None
