"""Murals: pictures too large for PNGs and for memory, painted tile by tile into a file that survives a kill."""

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np

from atelier.canvas.recipe import Rectangle, cut
from atelier.errors import AtelierError, counted
from atelier.pictures import Pixels
from atelier.progress import Progress, ProgressCallback
from atelier.provenance.facts import Provenance, canonical_json, write_tiff

MURAL_PX = (1 << 30) // 12  # of a larger PNG, Pillow warns that it may be a decompression bomb
MAX_PX = 1 << 32  # hours of painting and 12 GiB of pixels: the most that any recipe may describe
TILE_PX = 1024  # side of a tile: seconds of painting, which a kill loses
TIFF_WORST_RATIO = 1.4  # bytes of a TIFF, with its smaller levels, by bytes of pixels, if deflate saves none
PX_PER_MPX = 1e6
STATISTICS_FILE = "statistics.safetensors"  # in a mural's folder: unfinished statistics of its canvas


class Source(Protocol):
    """What any part of a picture can be painted from; `atelier.canvas.paint.Painting` is one."""

    height: int
    width: int

    def region(self, top: int, left: int, height: int, width: int) -> Pixels: ...


def is_mural(height: int, width: int) -> bool:
    """Whether a picture of this size is written as TIFF, not PNG. Raises AtelierError if it is too large for both."""
    if height * width > MAX_PX:
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is larger than any that is painted, {MAX_PX:,} px: make its "
            "canvas (generate.canvas) smaller"
        )
    return height * width > MURAL_PX


def check_disk_space(folder: Path, height: int, width: int, count: int) -> None:
    """Raise AtelierError if `count` murals may not fit on the disk, counting what `folder` has of them already."""
    there = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    needed = round(3 * height * width * (1 + TIFF_WORST_RATIO * count)) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise AtelierError(
            f"{counted(count, 'mural')} of {width:,} × {height:,} px may need {_gib(needed)} more in {folder}, where "
            f"{_gib(free)} are free: free some, or make generate.canvas or generate.count smaller"
        )


def folder_name(provenance: Provenance, code: str) -> str:
    """A name for a mural's folder: a hash of all that decides its pixels; `code` identifies the program."""
    return hashlib.sha256(f"{code} {canonical_json(provenance)}".encode()).hexdigest()[:16]


def make_mural(source: Source, provenance: Provenance, folder: Path, progress: Progress, note: str) -> Path:
    """Paint a mural and write its TIFF in `folder`, which belongs to this mural. Returns the TIFF's path.

    What an earlier run has finished there is not done again. `progress` counts millions of pixels.
    """
    finished = folder / "mural.tif"
    if finished.exists():
        progress.count_resumed(source.height * source.width / PX_PER_MPX, note)
        return finished
    pixels = paint_in_folder(source, folder, progress, note)
    write_tiff(finished, pixels, provenance, lambda share: progress.advance(0, f"{note}, file {share:.0%}"))
    for scratch in {*folder.iterdir()} - {finished}:
        scratch.unlink()
    return finished


def paint_in_folder(source: Source, folder: Path, progress: Progress, note: str) -> Path:
    """Paint a mural's pixels into an .npy file in its folder, like `make_mural`. Returns the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = folder / "pixels.npy"
    if begun := painted_px(source, pixels):
        progress.count_resumed(begun / PX_PER_MPX, note)
    paint_tiles(source, pixels, lambda px: progress.advance(px / PX_PER_MPX, note))
    return pixels


def painted_px(source: Source, path: Path) -> int:
    """How many pixels an earlier `paint_tiles` of this source wrote to `path`."""
    return sum(tile.height * tile.width for tile in _tiles(source)[: _finished_tiles(path)])


def paint_tiles(source: Source, path: Path, on_progress: ProgressCallback) -> None:
    """Paint a source into the .npy file `path`, (H, W, 3) uint8, and continue where an earlier run stopped.

    A file beside it has one byte for each finished tile. `on_progress` receives the number of pixels of each tile.
    """
    tiles, count = _tiles(source), _finished_tiles(path)
    if not count:
        _allocate(path, (source.height, source.width, 3))
    with _tile_log(path).open("ab") as log:
        for tile in tiles[count:]:
            painted = source.region(tile.top, tile.left, tile.height, tile.width)
            pixels = np.load(path, mmap_mode="r+")  # anew for each tile, which frees the memory of its pages
            pixels[tile.slices] = painted
            pixels.flush()
            del pixels
            log.write(b".")
            log.flush()
            os.fsync(log.fileno())
            on_progress(tile.height * tile.width)


def _tiles(source: Source) -> list[Rectangle]:
    return [*cut(Rectangle(0, 0, source.height, source.width), TILE_PX, TILE_PX)]


def _finished_tiles(path: Path) -> int:
    log = _tile_log(path)
    return log.stat().st_size if log.exists() and path.exists() else 0


def _tile_log(path: Path) -> Path:
    return path.with_suffix(".tiles")


def _allocate(path: Path, shape: tuple[int, int, int]) -> None:
    """Create an .npy file and reserve its bytes on the disk. Raises AtelierError if they are not available."""
    _tile_log(path).unlink(missing_ok=True)
    try:
        np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise AtelierError(
            f"{path.parent} has no room for {_gib(math.prod(shape))} of pixels ({error.strerror}): free some, or make "
            "the canvas (generate.canvas) smaller"
        ) from None


def _gib(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB"
