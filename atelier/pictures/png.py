"""PNG files of artworks and prints: pixels, a text, a resolution.

Pillow encodes pixels of 8 bits and libvips those of 16, which Pillow cannot write; the chunks around the pixels are
written here, because no library lets one choose all of them, and equal pictures must be equal bytes. Contact sheets
are saved by Pillow alone, in sheets.py, so that training depends on sheets but not on this file.

Files that are read may come from anybody: the chunks before the pixels are limited in number and size, and pixels are
decoded only if the header is one that `write` makes.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.pictures import Samples, bands, from_16_bits, libvips, srgb
from atelier.text import escaped

KEYWORD = b"atelier"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 1 << 16  # those that `write` makes have about 1 KiB
MAX_CHUNKS = 64  # before the pixels; `write` makes four
TEXT_HEAD = KEYWORD + b"\0\0\0\0\0"  # not compressed, no language (PNG 1.2, 4.2.3.3)
RGB_COLOUR_TYPE = 2
COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "a palette", 4: "grey and transparency", 6: "RGB and transparency"}
INCH_M = 0.0254
COMPRESSION_LEVEL = 6


def write(path: Path, pixels: Samples, text: str, dpi: float | None = None) -> None:
    """Write (H, W, 3) samples of 8 or 16 bits and a text atomically; equal contents give equal bytes.

    The file declares its colours as sRGB, and with `dpi` its resolution in dots per inch.
    """
    chunks = [_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb(), 9))]
    if dpi is not None:
        per_metre = round(dpi / INCH_M)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    chunks.append(_chunk(b"iTXt", TEXT_HEAD + text.encode("ascii")))
    header, *data = _encoded(pixels)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([SIGNATURE, header, *chunks, *data, _chunk(b"IEND", b"")])


def text(path: Path, file: BinaryIO) -> bytes | None:
    """The text under Atelier's keyword, None if there is none.

    `file` is at its beginning; `path` is its name in errors. Raises AtelierError if it is no PNG or a damaged one, or
    if the text is compressed or there is more than one.
    """
    texts = [body for kind, body in _chunks(path, file) if kind == b"iTXt" and body.split(b"\0", 1)[0] == KEYWORD]
    if len(texts) > 1:
        raise AtelierError(f"{escaped(path)} carries more than one Atelier provenance: name a PNG as Atelier wrote it")
    if not texts:
        return None
    # after the keyword: flag and method of compression, language, translated keyword, text (PNG 1.2, 4.2.3.3)
    _, _, rest = texts[0].partition(b"\0")
    if rest[:1] != b"\0":
        raise AtelierError(f"{escaped(path)} carries a compressed provenance: Atelier writes none, so it was altered")
    return rest[2:].split(b"\0", 2)[2] if rest[2:].count(b"\0") >= 2 else b""


def read(path: Path, file: BinaryIO, width: int, height: int, bits: int) -> Iterator[Samples]:
    """The pixels, in bands from the top, of a file that `write` made with this size and depth.

    Raises AtelierError if the file has another header, or is damaged.
    """
    file.seek(0)
    kind, found = next(_chunks(path, file), (b"", b""))
    if kind != b"IHDR" or len(found) != 13:
        found = b""
    expected = struct.pack(">IIBBBBB", width, height, bits, RGB_COLOUR_TYPE, 0, 0, 0)
    if found != expected:
        raise AtelierError(
            f"{escaped(path)} is a PNG of another kind ({_describe(found)}) than its provenance names "
            f"({_describe(expected)}): another program saved it"
        )
    return decoded_bands(path, file, "pngload_source", access="sequential", fail_on="error")


def decoded_bands(path: Path, file: BinaryIO, loader: str, **options: str) -> Iterator[Samples]:
    """Decode an open file by one of libvips's loaders. Raises AtelierError if the file is damaged."""
    vips = libvips()
    file.seek(0)
    try:
        image = getattr(vips.Image, loader)(vips.Source.new_from_descriptor(file.fileno()), **options)
        if image.bands != 3:
            raise AtelierError(f"{escaped(path)} has a transparent colour, which Atelier writes none: it was altered")
        yield from bands(image)
    except vips.Error:
        raise AtelierError(f"{escaped(path)} is damaged: its pixels cannot be decoded") from None


def _encoded(pixels: Samples) -> Iterator[bytes]:
    """The header chunk and the pixels' chunks of an encoded PNG."""
    if pixels.dtype == np.uint16:
        image = from_16_bits(pixels, "rgb16")
        content = image.pngsave_buffer(compression=COMPRESSION_LEVEL, filter="all", bitdepth=16, keep="none")
    else:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=COMPRESSION_LEVEL)
        content = buffer.getvalue()
    start = len(SIGNATURE)
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        if kind in (b"IHDR", b"IDAT"):
            yield content[start : start + length + 12]
        start += length + 12


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the header and of the text chunks before the pixels; other chunks are skipped."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise AtelierError(f"{escaped(path)} is no PNG: name a PNG that Atelier made")
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise AtelierError(f"{escaped(path)} ends before its pixels: it was cut off")
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            return
        if kind not in (b"IHDR", b"iTXt") or length > MAX_TEXT_BYTES:
            file.seek(length + 4, 1)
            continue
        body, checksum = file.read(length), file.read(4)
        if struct.pack(">I", zlib.crc32(kind + body)) != checksum:
            what = "a text chunk" if kind == b"iTXt" else "the header"
            raise AtelierError(f"{escaped(path)} is damaged: the checksum of {what} is wrong")
        yield kind, body
    raise AtelierError(
        f"{escaped(path)} holds more than {MAX_CHUNKS} chunks before its pixels: it was not made by Atelier"
    )


def _describe(header: bytes) -> str:
    if not header:
        return "without a header"
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    woven = ", interlaced" if interlaced else ""
    return f"{width:,} × {height:,} px, {bits} bits, {COLOUR_TYPES.get(colour, 'no colours')}{woven}"
