"""Murals' files: tiled, pyramidal, deflated TIFFs as Atelier writes and reads them. Knows no provenance.

What is read is a stranger's file. Of its directories a few plain numbers are read, here, since a library that reads
them all would follow a lie to the end of the disk; its pixels are decoded only where all of them are as `write` writes.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.pictures import Pixels, Samples
from atelier.pictures.untrusted import escaped
from atelier.pictures.vips import bands, libvips, srgb

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big ends first; + is BigTIFF
MAX_TEXT = 1 << 16  # ours are about one KiB
MAX_ENTRIES = 64  # of a directory; ours have some twenty
MAX_DIRECTORIES = 32  # ours have one for each level: the side of the last is a tile's at most
CLASSIC_BYTES = 2_000_000_000  # pixels from here on go to a BigTIFF: offsets of 32 bits end at 4 GiB
TILE_PX = 256
MM = 25.4
DPI = 300  # a mural is at print size: unless it says so, programs take a pixel for a millimetre
POLL_S = 0.2

WIDTH, HEIGHT, DESCRIPTION = 256, 257, 270
# bits, deflate, RGB, samples a pixel, interleaved, differences along rows, tiles
AS_WRITTEN = {
    258: (8, 8, 8), 259: (8,), 262: (2,), 277: (3,), 284: (1,), 317: (2,), 322: (TILE_PX,), 323: (TILE_PX,),
}  # fmt: skip
NUMBERS = {3: "H", 4: "I", 16: "Q"}  # the types of TIFF 6.0 and of BigTIFF that hold whole numbers
TEXT = 2

Entries = dict[int, tuple[int, int, bytes]]  # tag → type, count, value or the offset where it lies


def is_tiff(signature: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return signature[:4] in SIGNATURES


def write(
    path: Path, raw: BinaryIO, offset: int, width: int, height: int, text: str, told: Callable[[float], None]
) -> None:
    """Write a mural out of a file that holds its RGB samples from `offset` on, streaming; the same bytes every time.

    `told` hears which share is written. Raises AtelierError where the disk is full.
    """
    vips = libvips()
    mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    image = vips.Image.new_from_memory(memoryview(mapped)[offset:], width, height, 3, "uchar")
    image = image.copy(interpretation="srgb", xres=DPI / MM, yres=DPI / MM)

    def heard(share: float) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)  # what is behind us leaves memory, and what is not comes back
        told(share)

    image.set_type(vips.GValue.gstr_type, "image-description", text)
    image.set_type(vips.GValue.blob_type, "icc-profile-data", srgb())
    with replacing(path) as temporary:

        def save() -> None:
            image.tiffsave(
                str(temporary),
                compression="deflate",
                predictor="horizontal",
                tile=True,
                tile_width=TILE_PX,
                tile_height=TILE_PX,
                pyramid=True,
                bigtiff=3 * width * height > CLASSIC_BYTES,
            )

        try:
            _watched(image, save, heard)
        except vips.Error as error:
            why = (str(error.detail).splitlines() or ["no reason given"])[0]
            raise AtelierError(f"{path} could not be written ({why}): is the disk full?") from None


def text(path: Path, file: BinaryIO) -> bytes | None:
    """The image's description; None where there is none. `path` is what errors call it.

    Raises AtelierError where the file is no TIFF, is damaged, or its directories are too many or a circle.
    """
    return _Directories(path, file).description


def read(path: Path, file: BinaryIO, width: int, height: int) -> Iterator[Samples]:
    """The pixels in bands from the top, of a file that must have this size, as `write` writes it.

    Raises AtelierError where it has not, or is damaged.
    """
    _Directories(path, file).refuse_others(width, height)
    vips = libvips()
    file.seek(0)
    try:
        source = vips.Source.new_from_descriptor(file.fileno())
        yield from bands(vips.Image.tiffload_source(source, fail_on="warning"))
    except vips.Error:
        raise AtelierError(f"{escaped(path)} is damaged: its pixels cannot be decoded") from None


def preview(path: Path, side_px: int) -> Pixels:
    """A small copy of a mural that `write` wrote: the level whose longer side is the smallest from `side_px` up."""
    vips = libvips()
    level = vips.Image.tiffload(str(path))
    for page in range(1, level.get_n_pages()):
        smaller = vips.Image.tiffload(str(path), page=page)
        if max(smaller.width, smaller.height) < side_px:
            break
        level = smaller
    pixels: Pixels = np.concatenate([*bands(level)])
    return pixels


def _watched(image: Any, save: Callable[[], None], told: Callable[[float], None]) -> None:
    """Save in a thread: a signal is heard by Python's main thread, and there not before libvips has returned."""
    share = 0.0

    def note(_: Any, progress: Any) -> None:
        nonlocal share
        share = progress.percent / 100

    image.set_progress(True)
    image.signal_connect("eval", note)
    with ThreadPoolExecutor(1) as executor:
        saving = executor.submit(save)
        try:
            while not saving.done():
                told(share)
                try:
                    saving.result(POLL_S)
                except TimeoutError:
                    continue
        finally:
            image.set_kill(True)  # of no effect where it is done
    saving.result()
    told(1.0)


class _Directories:
    """The first directory of a TIFF, once it is certain that they end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        file.seek(0)
        head = file.read(16).ljust(16, b"\0")
        if not is_tiff(head):
            raise AtelierError(f"{escaped(path)} is no TIFF: name a mural that Atelier made")
        self._ends, self._big = "<" if head[:2] == b"II" else ">", b"+" in head[2:4]
        (offset,) = self._unpack("Q", head[8:]) if self._big else self._unpack("I", head[4:8])
        self._first, offset = self._read(offset)
        for _ in range(MAX_DIRECTORIES - 1):
            if not offset:
                return
            _, offset = self._read(offset)
        raise AtelierError(
            f"{escaped(path)} holds more than {MAX_DIRECTORIES} directories, or they lead in a circle: "
            "it is not a mural made by Atelier"
        )

    @property
    def description(self) -> bytes | None:
        kind, count, value = self._first.get(DESCRIPTION, (TEXT, 0, b""))
        if not count:
            return None
        if kind != TEXT or count > MAX_TEXT:
            raise AtelierError(f"{escaped(self._path)} has a description that no mural of Atelier's has")
        return self._value(value, count).rstrip(b"\0")

    def refuse_others(self, width: int, height: int) -> None:
        """Raise AtelierError where the picture is not of this size, or not laid out as `write` lays it out."""
        found = {tag: self._numbers(tag) for tag in (WIDTH, HEIGHT, *AS_WRITTEN)}
        if (found[WIDTH], found[HEIGHT]) != ((width,), (height,)):
            raise AtelierError(
                f"{escaped(self._path)} is a TIFF of another size than its provenance names, "
                f"{width:,} × {height:,} px: another program saved it"
            )
        if any(found[tag] != numbers for tag, numbers in AS_WRITTEN.items()):
            raise AtelierError(f"{escaped(self._path)} is a TIFF of another kind: another program saved it")

    def _numbers(self, tag: int) -> tuple[int, ...]:
        kind, count, value = self._first.get(tag, (0, 0, b""))
        if kind not in NUMBERS or not 0 < count <= 4:
            return ()
        form = f"{count}{NUMBERS[kind]}"
        return self._unpack(form, self._value(value, struct.calcsize(f"={form}")))

    def _value(self, value: bytes, length: int) -> bytes:
        """What an entry holds: itself where there is room, else where it points."""
        if length <= len(value):
            return value[:length]
        (offset,) = self._unpack("Q" if self._big else "I", value)
        return self._at(offset, length)

    def _read(self, offset: int) -> tuple[Entries, int]:
        """A directory's entries, and where the next one lies, 0 after the last."""
        counter, entry, pointer = ("Q", "HHQ8s", "Q") if self._big else ("H", "HHI4s", "I")
        sizes = {form: struct.calcsize(f"={form}") for form in (counter, entry, pointer)}
        (count,) = self._unpack(counter, self._at(offset, sizes[counter]))
        if count > MAX_ENTRIES:
            raise AtelierError(f"{escaped(self._path)} has a directory that no mural of Atelier's has")
        body = self._at(offset + sizes[counter], count * sizes[entry] + sizes[pointer])
        entries: Entries = {}
        for start in range(0, count * sizes[entry], sizes[entry]):
            tag, kind, many, value = self._unpack(entry, body[start : start + sizes[entry]])
            entries[tag] = kind, many, value
        (following,) = self._unpack(pointer, body[-sizes[pointer] :])
        return entries, following

    def _at(self, offset: int, length: int) -> bytes:
        try:
            self._file.seek(offset)
        except (OSError, OverflowError, ValueError):  # an offset that no file has
            content = b""
        else:
            content = self._file.read(length)
        if len(content) < length:
            raise AtelierError(f"{escaped(self._path)} ends before what it refers to: it was cut off")
        return content

    def _unpack(self, form: str, content: bytes) -> tuple[Any, ...]:
        return struct.unpack(f"{self._ends}{form}", content)
