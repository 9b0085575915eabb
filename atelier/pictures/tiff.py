"""TIFF files of murals: tiled, pyramidal, deflated, written and read by libvips.

Files that are read may come from anybody. What is needed of their directories is parsed here, because a library that
parses all of it can be led to read without end; pixels are decoded only if the layout is that of `write`.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.pictures import Pixels, Samples, bands, libvips, srgb
from atelier.pictures.png import MAX_TEXT_BYTES, decoded_bands
from atelier.progress import ProgressCallback
from atelier.text import escaped

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little-endian and big-endian; + is BigTIFF
MAX_ENTRIES = 64  # of a directory; `write` makes about twenty
MAX_DIRECTORIES = 32  # `write` makes one for each level of the pyramid
MAX_CLASSIC_BYTES = 2_000_000_000  # larger files are BigTIFF, because offsets of 32 bits end at 4 GiB
TILE_PX = 256
MM_PER_INCH = 25.4
DPI = 300  # without a resolution, programs take a pixel for a millimetre
POLL_S = 0.2

WIDTH, HEIGHT, DESCRIPTION = 256, 257, 270
# bits, deflate, RGB, samples per pixel, interleaved, horizontal predictor, tiles
AS_WRITTEN = {
    258: (8, 8, 8), 259: (8,), 262: (2,), 277: (3,), 284: (1,), 317: (2,), 322: (TILE_PX,), 323: (TILE_PX,),
}  # fmt: skip
NUMBERS = {3: "H", 4: "I", 16: "Q"}  # the unsigned integer types of TIFF 6.0 and BigTIFF
TEXT_TYPE = 2

Entries = dict[int, tuple[int, int, bytes]]  # tag → type, count, and the value or its offset


def is_tiff(signature: bytes) -> bool:
    """Whether a file with these first bytes is a TIFF."""
    return signature[:4] in SIGNATURES


def write(
    path: Path, raw: BinaryIO, offset: int, width: int, height: int, text: str, on_progress: ProgressCallback
) -> None:
    """Write a mural atomically from a file that contains its RGB samples from `offset` on, without loading it.

    `on_progress` gets the written share, 0 to 1. Equal contents give equal bytes. Raises AtelierError on a full disk.
    """
    vips = libvips()
    mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    image = vips.Image.new_from_memory(memoryview(mapped)[offset:], width, height, 3, "uchar")
    image = image.copy(interpretation="srgb", xres=DPI / MM_PER_INCH, yres=DPI / MM_PER_INCH)

    def report(share: float) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)  # frees pages that were read; the others are read again when needed
        on_progress(share)

    image.set_type(vips.GValue.gstr_type, "image-description", text)
    image.set_type(vips.GValue.blob_type, "icc-profile-data", srgb())
    tiles: dict[str, Any] = {"tile": True, "tile_width": TILE_PX, "tile_height": TILE_PX, "pyramid": True}
    bigtiff = 3 * width * height > MAX_CLASSIC_BYTES
    with replacing(path) as temporary:
        save = partial(image.tiffsave, compression="deflate", predictor="horizontal", bigtiff=bigtiff, **tiles)
        try:
            _save_in_thread(image, partial(save, str(temporary)), report)
        except vips.Error as error:
            why = (str(error.detail).splitlines() or ["no reason given"])[0]
            raise AtelierError(f"{path} could not be written ({why}): is the disk full?") from None


def text(path: Path, file: BinaryIO) -> bytes | None:
    """The image's description, None if there is none. `path` is the file's name in errors.

    Raises AtelierError if the file is not a TIFF, is damaged, or has too many directories or circular ones.
    """
    return _Directories(path, file).description


def read(path: Path, file: BinaryIO, width: int, height: int) -> Iterator[Samples]:
    """The pixels, in bands from the top, of a file that `write` made with this size.

    Raises AtelierError if the file has another size or layout, or is damaged.
    """
    _Directories(path, file).check_layout(width, height)
    return decoded_bands(path, file, "tiffload_source", fail_on="warning")


def preview(path: Path, side_px: int) -> Pixels:
    """Read a mural at the smallest level of its pyramid whose longer side has at least `side_px`."""
    vips = libvips()
    level = vips.Image.tiffload(str(path))
    for page in range(1, level.get_n_pages()):
        smaller = vips.Image.tiffload(str(path), page=page)
        if max(smaller.width, smaller.height) < side_px:
            break
        level = smaller
    pixels: Pixels = np.concatenate([*bands(level)])
    return pixels


def _save_in_thread(image: Any, save: Callable[[], None], on_progress: ProgressCallback) -> None:
    """Save in a thread, so that the main thread can handle signals, which Python does not during a call of libvips."""
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
                on_progress(share)
                wait([saving], POLL_S)
        finally:
            image.set_kill(True)  # of no effect after the end
    saving.result()
    on_progress(1.0)


class _Directories:
    """The first directory of a TIFF whose chain of directories was followed to its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        file.seek(0)
        head = file.read(16).ljust(16, b"\0")
        if not is_tiff(head):
            raise AtelierError(f"{escaped(path)} is no TIFF: name a mural that Atelier made")
        self._ends, self._big = "<" if head[:2] == b"II" else ">", b"+" in head[2:4]
        self._pointer = "Q" if self._big else "I"
        (offset,) = self._unpack(self._pointer, head[8:] if self._big else head[4:8])
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
        kind, count, value = self._first.get(DESCRIPTION, (TEXT_TYPE, 0, b""))
        if not count:
            return None
        if kind != TEXT_TYPE or count > MAX_TEXT_BYTES:
            raise AtelierError(f"{escaped(self._path)} has a description of a kind that Atelier does not write")
        return self._value(value, count).rstrip(b"\0")

    def check_layout(self, width: int, height: int) -> None:
        """Raise AtelierError if the picture has another size, or is not laid out as by `write`."""
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
        """An entry's value: the entry's own bytes, or those at the offset that it holds."""
        if length <= len(value):
            return value[:length]
        (offset,) = self._unpack(self._pointer, value)
        return self._at(offset, length)

    def _read(self, offset: int) -> tuple[Entries, int]:
        """A directory's entries, and the offset of the next directory, 0 after the last."""
        counter, entry = (f"{self._ends}{form}" for form in (("Q", "HHQ8s") if self._big else ("H", "HHI4s")))
        start = offset + struct.calcsize(counter)
        (count,) = struct.unpack(counter, self._at(offset, start - offset))
        if count > MAX_ENTRIES:
            raise AtelierError(f"{escaped(self._path)} has a directory of a kind that Atelier does not write")
        length = count * struct.calcsize(entry)
        listed = struct.iter_unpack(entry, self._at(start, length))
        entries: Entries = {tag: (kind, number, value) for tag, kind, number, value in listed}
        (following,) = self._unpack(self._pointer, self._at(start + length, 8 if self._big else 4))
        return entries, following

    def _at(self, offset: int, length: int) -> bytes:
        try:
            self._file.seek(offset)
        except (OSError, OverflowError, ValueError):  # an impossible offset
            content = b""
        else:
            content = self._file.read(length)
        if len(content) < length:
            raise AtelierError(f"{escaped(self._path)} ends before what it refers to: it was cut off")
        return content

    def _unpack(self, form: str, content: bytes) -> tuple[Any, ...]:
        return struct.unpack(f"{self._ends}{form}", content)
