"""The digest by which a picture is known, of any file that shows it: whoever saved it last, in whatever format.

A file of anybody's: what it would take to decode is asked of its header first. Knows no provenance.
"""

import struct
from pathlib import Path

import numpy as np

from atelier.errors import AtelierError
from atelier.images.decode import Opened, failure
from atelier.images.kinds import sniff, unreadable
from atelier.images.verify import read_rgb
from atelier.pictures import png
from atelier.pictures.untrusted import opened, shown
from atelier.provenance.facts import PixelFacts

MAX_BYTES = 1 << 30
MAX_PIXELS = 200_000_000  # of which decoding takes some 1.2 GB


def pixels_sha256(path: Path) -> str:
    """SHA-256 of the picture's RGB samples, as a provenance has it. Raises AtelierError where it is no picture."""
    with opened(path, "name a picture") as file:
        head = file.read(26)
        if (
            head.startswith(png.SIGNATURE) and head[24:26] == b"\x10\x02"
        ):  # 16-bit colours, which `read_rgb` rounds
            width, height = struct.unpack(">II", head[16:24])
            _refuse_huge(path, width, height)
            return PixelFacts.of_bands(png.read(path, file, width, height, 16)).sha256
        content = head + file.read(MAX_BYTES + 1 - len(head))
    if len(content) > MAX_BYTES:
        raise AtelierError(f"{shown(path)} is larger than any picture of ours, {MAX_BYTES >> 30} GiB")
    _refuse_huge(path, *_size(path, content))
    try:
        return PixelFacts.of(np.asarray(read_rgb(content))).sha256
    except AtelierError as error:
        raise AtelierError(f"{shown(path)}: {error}") from None


def _refuse_huge(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise AtelierError(
            f"{shown(path)} claims {width:,} × {height:,} px, more than the {MAX_PIXELS:,} that are looked at"
        )


def _size(path: Path, content: bytes) -> tuple[int, int]:
    kind = sniff(content)
    if kind is None:
        raise AtelierError(f"{shown(path)} is no picture of a kind that Atelier knows: name a PNG")
    if why := unreadable(kind):
        raise AtelierError(f"{shown(path)}: {why}")
    try:
        return Opened(kind, content).size
    except Exception as error:  # noqa: BLE001  # a stranger's file, of which a decoder may raise anything
        damaged, why = failure(kind, content, error)
        what = "is a damaged picture" if damaged else "cannot be read"
        raise AtelierError(f"{shown(path)} {what} ({shown(why)})") from None
