"""Murals: pictures too large for PNGs and for memory, painted a tile at a time into a file that a kill leaves good.

Knows neither generators nor stages.
"""

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np

from atelier.canvas.recipe import Rectangle, cut
from atelier.errors import AtelierError
from atelier.pictures import Pixels
from atelier.progress import Progress, ProgressCallback
from atelier.provenance.facts import Provenance, canonical_json, write_tiff
from atelier.settings.messages import counted

MURAL_PX = (1 << 30) // 12  # a larger PNG is a decompression bomb to Pillow, and to others by its example
MAX_PX = 1 << 32  # hours of painting, 12 GiB of pixels: what a recipe may ask for, whoever wrote it
TILE_PX = 1024  # seconds of painting, which is what a kill costs
WORST = 1.4  # a TIFF's bytes for each of its pixels' bytes, its smaller levels included, where deflate finds nothing
PX_PER_MPX = 1e6
STATISTICS_FILE = "statistics.safetensors"  # of a canvas, in its mural's folder, while they are taken


class Source(Protocol):
    """What paints any part of a picture (atelier.canvas.paint.Painting)."""

    height: int
    width: int

    def region(self, top: int, left: int, height: int, width: int) -> Pixels: ...


def is_mural(height: int, width: int) -> bool:
    """Whether a picture is a TIFF, made here, rather than a PNG. Raises AtelierError where it is too large for both."""
    if height * width > MAX_PX:
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is larger than any that is painted, {MAX_PX:,} px: make its "
            "canvas (generate.canvas) smaller"
        )
    return height * width > MURAL_PX


def check_disk_space(folder: Path, height: int, width: int, count: int) -> None:
    """Raise AtelierError where `count` murals may not fit beside what is in `folder` of them already."""
    there = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    needed = round(3 * height * width * (1 + WORST * count)) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise AtelierError(
            f"{counted(count, 'mural')} of {width:,} × {height:,} px may need {_gib(needed)} more in {folder}, where "
            f"{_gib(free)} are free: free some, or make generate.canvas or generate.count smaller"
        )


def folder_name(made: Provenance, code: str) -> str:
    """What a mural's own folder is called: changes with all that decides its pixels, `code` included."""
    return hashlib.sha256(f"{code} {canonical_json(made)}".encode()).hexdigest()[:16]


def make_mural(source: Source, provenance: Provenance, folder: Path, progress: Progress, note: str) -> Path:
    """The TIFF of a mural, made in `folder`, which is this mural's own; what is done of it already is kept.

    `progress` counts millions of pixels.
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
    """Numpy's file of a mural's pixels, in its own folder, where an earlier run may have begun; as `make`."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = folder / "pixels.npy"
    if begun := painted_px(source, pixels):
        progress.count_resumed(begun / PX_PER_MPX, note)
    paint_tiles(source, pixels, lambda px: progress.advance(px / PX_PER_MPX, note))
    return pixels


def painted_px(source: Source, path: Path) -> int:
    """How many pixels of the source `path` holds already, by an earlier `paint` that was stopped."""
    return sum(tile.height * tile.width for tile in _tiles(source)[: _count(path)])


def paint_tiles(source: Source, path: Path, done: ProgressCallback) -> None:
    """Paint all of a source into numpy's file `path`, (H, W, 3) of uint8, going on where an earlier run stopped.

    Which tiles are finished stands beside it, a byte each. Memory is bounded by a tile.
    """
    tiles, count = _tiles(source), _count(path)
    if not count:
        _make_room(path, (source.height, source.width, 3))
    with _noted(path).open("ab") as noted:
        for tile in tiles[count:]:
            painted = source.region(tile.top, tile.left, tile.height, tile.width)
            pixels = np.load(
                path, mmap_mode="r+"
            )  # anew for each tile, so that its pages leave memory with it
            pixels[tile.slices] = painted
            pixels.flush()
            del pixels
            noted.write(b".")
            noted.flush()
            os.fsync(noted.fileno())
            done(tile.height * tile.width)


def _tiles(source: Source) -> list[Rectangle]:
    return [*cut(Rectangle(0, 0, source.height, source.width), TILE_PX, TILE_PX)]


def _count(path: Path) -> int:
    """How many tiles are finished."""
    noted = _noted(path)
    return noted.stat().st_size if noted.exists() and path.exists() else 0


def _noted(path: Path) -> Path:
    return path.with_suffix(".tiles")


def _make_room(path: Path, shape: tuple[int, int, int]) -> None:
    """A file of numpy's for that many bytes, which are taken from the disk now: a full one is no crash later.

    Raises AtelierError where they are not there.
    """
    _noted(path).unlink(missing_ok=True)
    try:
        np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise AtelierError(
            f"{path.parent} has no room for {_gib(math.prod(shape))} of pixels ({error.strerror}): free some, or make "
            "the canvas (generate.canvas) smaller"
        ) from None


def _gib(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB"
