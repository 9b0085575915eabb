"""PNG files as Atelier writes and reads them: pixels, a text, a physical size. Knows no provenance.

What is read is a stranger's file: chunks before the pixels are counted and bounded, pixels are decoded only where the
header is one that `write` makes.
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
from atelier.pictures import Samples
from atelier.pictures.untrusted import escaped
from atelier.pictures.vips import bands, libvips, srgb

KEYWORD = b"atelier"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 1 << 16  # of a text; ours are about one KiB
MAX_CHUNKS = 64  # before the pixels; ours are four
PLAIN_TEXT = KEYWORD + b"\0\0\0\0\0"  # not compressed, of no language (PNG 1.2, 4.2.3.3)
RGB = 2  # the colour type
INCH_M = 0.0254


def write(path: Path, pixels: Samples, text: str, dpi: float | None = None) -> None:
    """Write (H, W, 3) samples of 8 or 16 bits and a text: whole or not at all, the same bytes for the same content.

    It says that its colours are sRGB; with `dpi` it is a print, which says how large it is.
    """
    ours = [_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb(), 9))]
    if dpi is not None:
        a_metre = round(dpi / INCH_M)
        ours.append(_chunk(b"pHYs", struct.pack(">IIB", a_metre, a_metre, 1)))
    ours.append(_chunk(b"iTXt", PLAIN_TEXT + text.encode("ascii")))
    header, *data = _encoded(pixels)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([SIGNATURE, header, *ours, *data, _chunk(b"IEND", b"")])


def text(path: Path, file: BinaryIO) -> bytes | None:
    """The text under our keyword; None where there is none. `path` is what errors call it.

    Raises AtelierError where the file is damaged, or holds more than one such text.
    """
    texts = [body for kind, body in _chunks(path, file) if kind == b"iTXt" and _keyword(body) == KEYWORD]
    if len(texts) > 1:
        raise AtelierError(
            f"{escaped(path)} carries more than one Atelier provenance: name a PNG as Atelier wrote it"
        )
    return _plain(path, texts[0]) if texts else None


def read(path: Path, file: BinaryIO, width: int, height: int, bits: int) -> Iterator[Samples]:
    """The pixels in bands from the top, of a file that must have this size and depth, as `write` writes it.

    Raises AtelierError where it has not, or is damaged.
    """
    found = _header(path, file)
    wanted = struct.pack(">IIBBBBB", width, height, bits, RGB, 0, 0, 0)
    if found != wanted:
        raise AtelierError(
            f"{escaped(path)} is a PNG of another kind ({_described(found)}) than its provenance names "
            f"({_described(wanted)}): another program saved it"
        )
    vips = libvips()
    file.seek(0)
    try:
        source = vips.Source.new_from_descriptor(file.fileno())
        yield from bands(vips.Image.pngload_source(source, access="sequential", fail_on="error"))
    except vips.Error:
        raise AtelierError(f"{escaped(path)} is damaged: its pixels cannot be decoded") from None


def _encoded(pixels: Samples) -> Iterator[bytes]:
    """A PNG's header and the chunks of its pixels."""
    if pixels.dtype == np.uint16:  # which Pillow does not write
        height, width, _ = pixels.shape
        image = libvips().Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, 3, "ushort")
        image = image.copy(interpretation="rgb16")
        content = image.pngsave_buffer(compression=6, filter="all", bitdepth=16, keep="none")
    else:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
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
    """Kind and body of the header and of the text chunks before the pixels; others are skipped unread."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise AtelierError(f"{escaped(path)} is no PNG: name a PNG that Atelier made")
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise AtelierError(f"{escaped(path)} ends before its pixels: it was cut off")
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            return
        if kind not in (b"IHDR", b"iTXt") or length > MAX_BYTES:
            file.seek(length + 4, 1)
            continue
        body, checksum = file.read(length), file.read(4)
        if struct.pack(">I", zlib.crc32(kind + body)) != checksum:
            what = "a text chunk" if kind == b"iTXt" else "the header"
            raise AtelierError(f"{escaped(path)} is damaged: the checksum of {what} is wrong")
        yield kind, body
    raise AtelierError(
        f"{escaped(path)} holds more than {MAX_CHUNKS} chunks before its pixels: not a PNG of Atelier's"
    )


def _keyword(body: bytes) -> bytes:
    return body.split(b"\0", 1)[0]


def _plain(path: Path, body: bytes) -> bytes:
    """The text after keyword, compression flag and method, language, translated keyword (PNG 1.2, 4.2.3.3)."""
    _, _, rest = body.partition(b"\0")
    if rest[:1] != b"\0":
        raise AtelierError(
            f"{escaped(path)} carries a compressed provenance: Atelier writes none, it was altered"
        )
    return rest[2:].split(b"\0", 2)[2] if rest[2:].count(b"\0") >= 2 else b""


def _header(path: Path, file: BinaryIO) -> bytes:
    """The first chunk's body, or nothing where it is no header."""
    file.seek(0)
    kind, body = next(_chunks(path, file), (b"", b""))
    return body if kind == b"IHDR" and len(body) == 13 else b""


def _described(header: bytes) -> str:
    if not header:
        return "without a header"
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    colours = {0: "grey", RGB: "RGB", 3: "a palette", 4: "grey and transparency", 6: "RGB and transparency"}
    woven = ", interlaced" if interlaced else ""
    return f"{width:,} × {height:,} px, {bits} bits, {colours.get(colour, 'no colours')}{woven}"
