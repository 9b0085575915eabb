"""The packed training set: images of one size in a memory-mapped array, split into training and held-out pictures.

`data/dataset` has images.npy (N, H, W, 3) uint8, index.parquet (row, id, crop box, split) and dataset.json (facts).
works.parquet has what the catalog says of each work, in the order of the index: `train.labels` is one of its columns.
With `augment.crops` above 1 it also has the whole training paintings: strips.npy and strips.parquet, see `Strips`.
Placements record on which side of the split each painting was. They are kept outside DVC's outputs, so that a painting
stays on its side when other scans of it come and go; without them its side follows from the hash of its id.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atelier.data.catalog import read_table, schema_of, write_rows
from atelier.data.duplicates import Picture
from atelier.errors import AtelierError
from atelier.pictures import SQUARE, Pixels, picture_size

Crop = Literal["center", "random"]
IntArray = npt.NDArray[np.int64]
TRAIN, HELD_OUT = "train", "held-out"  # the two sides of the split
STRIP_SCALE = 1.5  # the shorter side of a strip, in sides of a training image


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row of index.parquet: the work in row `row` of images.npy, and the box that was cut from its picture.

    The box has the shape of the images, see `atelier.pictures.largest_box`; a square by default.
    """

    row: int
    id: str
    left: int  # of the box, in px of the picture
    top: int
    side: int  # the shorter one
    split: str  # TRAIN or HELD_OUT


@dataclass(frozen=True, slots=True)
class WorkRow:
    """A row of works.parquet: what the catalog says of a work in index.parquet. Unknown texts are empty."""

    id: str
    genre: str
    style: str
    artist: str
    source: str


@dataclass(frozen=True, slots=True)
class StripRow:
    """A row of strips.parquet: the lines of one painting in strips.npy. They lie across its longer side."""

    id: str
    start: int  # the painting's first line
    length: int  # how many lines it has, at least as many as a line has pixels
    landscape: bool  # the lines are its columns, from left to right; otherwise its rows, from the top
    min_side: int  # the shorter one of a window, px of the strip, so that none is enlarged more than the painting's box


@dataclass(frozen=True, slots=True)
class Placement:
    """A painting, its perceptual hash in hexadecimal, and its side of the split, TRAIN or HELD_OUT."""

    id: str
    phash: str
    split: str


INDEX_SCHEMA = schema_of(IndexRow, **dict.fromkeys(("row", "left", "top", "side"), pa.int32()))
STRIPS_SCHEMA = schema_of(StripRow, start=pa.int64(), length=pa.int32(), landscape=pa.bool_(), min_side=pa.int32())
PLACEMENTS_SCHEMA = schema_of(Placement)
WORKS_SCHEMA = schema_of(WorkRow)


@dataclass(frozen=True)
class View:
    """One side of the split: `images` (n, H, W, 3) uint8, a slice of the memory map. Mirroring happens on access.

    `works` is None in a data set that was packed without a catalog.
    """

    images: Pixels
    ids: list[str]
    mirror: bool
    works: Sequence[WorkRow] | None = None

    def __len__(self) -> int:
        return len(self.ids) * (2 if self.mirror else 1)

    def __getitem__(self, item: int) -> Pixels:
        """Return pixels (H, W, 3). With `mirror`, item 2i is picture i, 2i + 1 its mirror image; else item i is i."""
        if not 0 <= item < len(self):
            raise IndexError(item)
        picture, mirrored = divmod(item, 2) if self.mirror else (item, 0)
        pixels: Pixels = self.images[picture, :, ::-1] if mirrored else self.images[picture]
        return pixels

    def values(self, kind: str) -> list[str]:
        """The genre, style, artist or source of each image's work, empty where unknown.

        Raises AtelierError where the data set has none.
        """
        if self.works is None:
            raise AtelierError(
                f"train.labels holds {kind}, and data/dataset has no works.parquet, which says the {kind} of each "
                "painting: `dvc repro augment` makes it"
            )
        return [getattr(work, kind) for work in self.works]


@dataclass(frozen=True)
class Strips:
    """The whole training paintings, from which a training cuts windows: `pixels` (lines, S, 3) uint8, memory-mapped.

    A painting is `length` lines of S pixels, one after the other along its longer side, so that paintings of any shape
    lie in one array without a gap. S is STRIP_SCALE times the images' shorter side. The arrays have one
    entry per row of `PackedDataset.train.images`, see `StripRow`. `crops` is the number of windows of each painting in
    an epoch.
    """

    pixels: Pixels
    start: IntArray
    length: IntArray
    landscape: npt.NDArray[np.bool_]
    min_side: IntArray
    crops: int


@dataclass(frozen=True)
class PackedDataset:
    """An opened training set, see `open_dataset`. `strips` is None with `augment.crops: 1`.

    `aspect` is the shape of the images, a key of `atelier.pictures.CELLS`.
    """

    resolution: int
    crop: Crop
    mirror: bool
    train: View
    held_out: View
    strips: Strips | None = None
    aspect: str = SQUARE

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the images."""
        return picture_size(self.resolution, self.aspect)


def open_dataset(path: Path) -> PackedDataset:
    """Open a directory that `atelier.data.pack.write_dataset` wrote. Raises AtelierError if missing or damaged."""
    try:
        facts = json.loads((path / "dataset.json").read_bytes())
        crops = facts.get("crops", 1)
        images, *lines = (np.load(path / name, mmap_mode="r") for name in ("images.npy", "strips.npy")[: min(crops, 2)])
    except FileNotFoundError as error:
        raise AtelierError(f"{error.filename} is missing: `dvc repro augment` makes it") from None
    except ValueError as error:
        raise AtelierError(f"{path} is damaged ({error}): `dvc repro augment` makes it again") from None
    index = read_table(path / "index.parquet", INDEX_SCHEMA)
    ids, train = index["id"].to_pylist(), index["split"].to_pylist().count(TRAIN)
    resolution, mirror, aspect = facts["resolution"], facts["mirror"], facts.get("aspect", SQUARE)
    size = picture_size(resolution, aspect)
    if images.dtype != np.uint8 or images.shape != (len(ids), *size, 3):
        raise AtelierError(f"{path}/images.npy does not fit its index.parquet: `dvc repro augment` makes it again")
    works = _works(path / "works.parquet", ids)
    sides = slice(train), slice(train, None)
    train_view, held_out = (View(images[side], ids[side], mirror, works and works[side]) for side in sides)
    strips = _strips(path, lines[0], min(size), ids[:train], crops) if lines else None
    return PackedDataset(resolution, facts["crop"], mirror, train_view, held_out, strips, aspect)


def _strips(path: Path, pixels: Pixels, side_px: int, ids: list[str], crops: int) -> Strips:
    table = read_table(path / "strips.parquet", STRIPS_SCHEMA)
    names = ("start", "length", "landscape", "min_side")
    start, length, landscape, min_side = (table[name].to_numpy() for name in names)
    shape = (int(length.sum()), strip_side(side_px), 3)
    if pixels.dtype != np.uint8 or pixels.shape != shape or table["id"].to_pylist() != ids:
        raise AtelierError(f"{path}/strips.npy does not fit its strips.parquet: `dvc repro augment` makes it again")
    return Strips(pixels, start, length.astype(np.int64), landscape, min_side.astype(np.int64), crops)


def _works(path: Path, ids: list[str]) -> list[WorkRow] | None:
    """The rows of works.parquet; None if there is no such file."""
    if not path.exists():
        return None
    works = [WorkRow(**row) for row in read_table(path, WORKS_SCHEMA).to_pylist()]
    if [work.id for work in works] != ids:
        raise AtelierError(f"{path} does not fit its index.parquet: `dvc repro augment` makes it again")
    return works


def strip_side(side_px: int) -> int:
    """The shorter side in px of the paintings in strips.npy, for images with a shorter side of `side_px`."""
    return round(STRIP_SCALE * side_px)


def read_placements(path: Path) -> list[Placement]:
    """Read the placements; an empty list where the file is missing, or damaged, which prints a warning."""
    if not path.exists():
        return []
    try:
        return [Placement(**row) for row in read_table(path, PLACEMENTS_SCHEMA).to_pylist()]
    except AtelierError:
        print(f"{path} is damaged and is made anew: paintings may change their side of the split")
        return []


def write_placements(
    path: Path, known: Sequence[Placement], pictures: Iterable[Picture], sides: Iterable[tuple[str, str]]
) -> None:
    """Write `known` placements together with `sides`, pairs of the id of one of `pictures` and its side."""
    hashes = {picture.id: picture.phash for picture in pictures}
    placed = {(placement.id, placement.phash): placement.split for placement in known}
    placed |= {(id, hashes[id]): split for id, split in sides}
    write_rows([Placement(*key, split) for key, split in sorted(placed.items())], PLACEMENTS_SCHEMA, path)
