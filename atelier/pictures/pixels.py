"""The digest by which a picture is known, of any file that shows it: whoever saved it last, in whatever format.

A file of anybody's: what it would take to decode is asked of its header first. Knows no provenance.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from atelier.errors import AtelierError
from atelier.images import DAMAGE, read_rgb
from atelier.pictures import png
from atelier.pictures.strangers import opened, shown
from atelier.provenance import PixelFacts

MAX_BYTES = 1 << 30
MAX_PIXELS = 200_000_000  # of which decoding takes some 1.2 GB
FORMATS = ("PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG")


def pixels_sha256(path: Path) -> str:
    """SHA-256 of the picture's RGB samples, as a provenance has it. Raises AtelierError where it is no picture."""
    with opened(path, "name a picture") as file:
        width, height, deep = _measured(path, file)
        if width * height > MAX_PIXELS:
            raise AtelierError(
                f"{shown(path)} claims {width:,} × {height:,} px, more than the {MAX_PIXELS:,} that are looked at"
            )
        if deep:
            return PixelFacts.of_bands(png.read(path, file, width, height, 16)).sha256
        file.seek(0)
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise AtelierError(f"{shown(path)} is larger than any picture of ours, {MAX_BYTES >> 30} GiB")
    try:
        return PixelFacts.of(np.asarray(read_rgb(content))).sha256
    except AtelierError as error:
        raise AtelierError(f"{shown(path)}: {error}") from None


def _measured(path: Path, file: BinaryIO) -> tuple[int, int, bool]:
    """Width, height, and whether it is a PNG of 16-bit colours, which Pillow would round."""
    head = file.read(26)
    deep = head.startswith(png.SIGNATURE) and head[24:26] == b"\x10\x02"
    try:
        with Image.open(file, formats=FORMATS) as image:
            return *image.size, deep
    except UnidentifiedImageError:
        raise AtelierError(f"{shown(path)} is no picture of a kind that Atelier knows: name a PNG") from None
    except DAMAGE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise AtelierError(f"{shown(path)} is a damaged picture ({shown(said[:200])})") from None
