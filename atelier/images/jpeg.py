"""JPEGs: decode them in full or reduced, and detect whether their data are complete.

libjpeg fills missing data with grey and only warns, and Pillow hides the warnings, so truncation is detected here.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from atelier.errors import AtelierError
from atelier.images import Truncated
from atelier.pictures import array, libvips

# raised by Pillow for hostile bytes; its plugins do not check every index
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError,
    AssertionError, AttributeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
UNSUPPORTED_FRAMES = {  # by marker
    0xF7: "JPEG-LS",
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical JPEG"),
}
MID_GREY = 128  # with which libjpeg fills missing data
# random entropy-coded data, without 0xff, which begins a marker
FILLER = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()


def header(content: bytes) -> ImageFile.ImageFile:
    """Read the header of a JPEG, not its pixels. Raises one of DECODER_ERRORS."""
    return JpegImagePlugin.jpeg_factory(io.BytesIO(content), "")


def decode(content: bytes, mode: str, at_least_px: int | None = None) -> Image.Image:
    """Decode a JPEG to an image of `mode`, 2, 4 or 8 times smaller if its shorter side keeps `at_least_px`.

    Every coefficient is decoded in any case. Raises Truncated for data that end early, DECODER_ERRORS for damage.
    """
    opened, shrink = header(content), 1
    if at_least_px is not None:
        while shrink < 8 and min(opened.size) >= 2 * shrink * at_least_px:
            shrink *= 2
    frame = _frame(content)
    if frame.many_scans and opened.mode in ("L", "RGB"):
        if (whole := _decode_without_warnings(content, shrink)) is not None:
            whole.info = dict(opened.info)
            return whole.convert("L") if mode == "L" else whole
        # at full size, because the last scans change nothing in a reduced picture
        if _lacks_data(content, header(content), opened.mode, 1):
            raise Truncated("the JPEG's picture data end early")
        return _drafted(opened, mode, shrink)
    image = _drafted(opened, mode, shrink)
    if not _restarts_are_whole(content, frame):
        raise Truncated("the JPEG lacks some of its restart intervals")
    if _ends_grey(image) and _lacks_data(content, image, mode, shrink):
        raise Truncated("the JPEG's picture data end early")
    return image


def unsupported(content: bytes) -> str:
    """Name the kind of a JPEG that libjpeg does not support; empty if it is not a known one."""
    frame = _frame(content)
    kind = UNSUPPORTED_FRAMES.get(frame.marker, "")
    if not kind and frame.header and frame.header[0] != 8:
        kind = f"JPEG with {frame.header[0]}-bit samples"
    if not kind and len(frame.header) > 5 and frame.header[5] not in (1, 3, 4):
        kind = f"JPEG with {frame.header[5]} channels"
    return kind and f"{kind}, which is not read"


def _drafted(opened: Image.Image, mode: str, shrink: int) -> Image.Image:
    if shrink > 1 or mode != opened.mode:
        opened.draft(mode, (opened.width // shrink, opened.height // shrink))
    opened.load()
    return opened


def _decode_without_warnings(content: bytes, shrink: int) -> Image.Image | None:
    """Decode a JPEG of several scans, `shrink` times smaller; None if libjpeg warns, or libvips is missing."""
    try:
        vips = libvips()
    except AtelierError:
        return None
    try:
        # libvips reads all scans before the first line, so that no warning comes too late
        return Image.fromarray(array(vips.Image.jpegload_buffer(content, shrink=shrink, fail_on="warning")))
    except vips.Error:
        return None


def _ends_grey(image: Image.Image) -> bool:
    """Whether the last pixel has the grey with which libjpeg fills missing data; few pictures end with it."""
    last = image.getpixel((image.width - 1, image.height - 1))
    if isinstance(last, tuple) and len(last) == 4:  # CMYK, inverted
        return max(abs(value - 127) for value in last) <= 1
    red, green, blue = last if isinstance(last, tuple) else (last or 0,) * 3
    return abs(0.299 * red + 0.587 * green + 0.114 * blue - MID_GREY) <= 1


def _lacks_data(content: bytes, image: Image.Image, mode: str, shrink: int) -> bool:
    """Whether a decoder needs more entropy-coded data than the JPEG has; `image` is its header or decoded picture.

    The JPEG is decoded again with random data before its end marker, which change the picture only if some are missing.
    """
    ends = [_end_of_scan(content, after) for marker, _, after in _segments(content) if marker == 0xDA]
    end = ends[-1] if ends else len(content)
    try:
        image.load()
        other = _drafted(header(content[:end] + FILLER + content[end:]), mode, shrink)
    except DECODER_ERRORS:
        return True
    return other.tobytes() != image.tobytes()


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of a JPEG up to its end marker; entropy-coded data are skipped."""
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xD9:
            return
        if marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        yield marker, at + 4, end
        at = _end_of_scan(content, end) if marker == 0xDA else end


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def _end_of_scan(content: bytes, start: int) -> int:
    """Offset of the marker after the entropy-coded data that begin at `start`."""
    found = _MARKER.search(content, start)
    return found.start() if found else len(content)


@dataclass(frozen=True, slots=True)
class Frame:
    """A JPEG's frame marker and header, its restart interval, and whether it has several scans."""

    marker: int = 0
    header: bytes = b""
    interval: int = 0
    many_scans: bool = False


def _frame(content: bytes) -> Frame:
    marker = interval = 0
    header, scanned = b"", 0
    for segment, start, end in _segments(content):
        if segment == 0xDD:
            interval = int.from_bytes(content[start:end])
        elif (0xC0 <= segment <= 0xCF and segment not in (0xC4, 0xC8, 0xCC)) or segment == 0xF7:
            marker, header = segment, content[start:end]
        elif segment == 0xDA:
            scanned = content[start] if start < len(content) else 0
            break
    return Frame(marker, header, interval, marker == 0xC2 or (len(header) > 5 and scanned < header[5]))


def _restarts_are_whole(content: bytes, frame: Frame) -> bool:
    """Whether a sequential JPEG of one scan has all its restart markers; true for all others."""
    header = frame.header
    if not frame.interval or frame.marker not in (0xC0, 0xC1) or len(header) < 6 + 3 * header[5]:
        return True
    height, width, channels = struct.unpack(">HHB", header[1:6])
    across = down = 8
    if channels != 1:
        factors = [divmod(header[7 + 3 * channel], 16) for channel in range(channels)]
        across, down = (8 * max(factor[axis] for factor in factors) for axis in (0, 1))
    start = end = 0
    for segment, first, after in _segments(content):
        if segment == 0xDA:
            if start or content[first] != channels:
                return True
            start, end = after, _end_of_scan(content, after)
    if not (start and across and down and height):
        return True
    units = -(-width // across) * -(-height // down)
    data = np.frombuffer(content, np.uint8)[start:end]
    marks = np.flatnonzero(data[:-1] == 0xFF)
    restarts = int(np.count_nonzero((data[marks + 1] & 0xF8) == 0xD0))
    return bool(restarts >= -(-units // frame.interval) - 1)
