"""The digest by which a picture is known, of any file that shows it: whoever saved it last, in whatever format.

A file of anybody's: what it would take to decode is asked of its header first. Knows no provenance.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.errors import AtelierError
from atelier.images import read_rgb
from atelier.provenance import PixelFacts
from atelier.strangers import opened, shown

MAX_BYTES = 1 << 30
MAX_PIXELS = 200_000_000  # of which decoding takes some 1.2 GB
FORMATS = ("PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG")


def pixels_sha256(path: Path) -> str:
    """SHA-256 of the picture's RGB samples, as a provenance has it. Raises AtelierError where it is no picture."""
    with opened(path, "name a picture") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise AtelierError(f"{shown(path)} is larger than any picture of ours, {MAX_BYTES >> 30} GiB")
    try:
        width, height = Image.open(io.BytesIO(content), formats=FORMATS).size
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError) as error:
        raise AtelierError(f"{shown(path)} is no picture that can be read ({_first_line(error)})") from None
    if width * height > MAX_PIXELS:
        raise AtelierError(
            f"{shown(path)} claims {width:,} × {height:,} px, more than the {MAX_PIXELS:,} that are looked at"
        )
    try:
        return PixelFacts.of(np.asarray(read_rgb(content))).sha256
    except AtelierError as error:
        raise AtelierError(f"{shown(path)}: {error}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].replace("<_io.BytesIO object", "<it")
