"""Which side of the split each painting was on, remembered from one data set to the next.

The file lies outside DVC's outputs. Without it a painting's side follows from the hash of its id alone, which is the
same in most cases: it matters where other scans of a painting come and go.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atelier.data.catalog import read_table, write_table
from atelier.data.duplicates import Picture
from atelier.errors import AtelierError

TRAIN, HELD_OUT = "train", "held-out"
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "phash", "split")])


@dataclass(frozen=True, slots=True)
class Placement:
    """A painting, its perceptual hash, and its side: "train" or "held-out"."""

    id: str
    phash: str
    split: str


def read_placements(path: Path) -> list[Placement]:
    """What is remembered; nothing where the file is missing or damaged, which prints a sentence."""
    if not path.exists():
        return []
    try:
        return [Placement(**row) for row in read_table(path, SCHEMA).to_pylist()]
    except AtelierError:
        print(f"{path} is damaged and is made anew: paintings may change their side of the split")
        return []


def write_placements(
    path: Path, known: Sequence[Placement], pictures: Iterable[Picture], sides: Iterable[tuple[str, str]]
) -> None:
    """Remember `sides`, pairs of an id of `pictures` and a side, beside what is `known` of other pictures."""
    hashes = {picture.id: picture.phash for picture in pictures}
    placed = {(placement.id, placement.phash): placement.split for placement in known}
    placed |= {(id, hashes[id]): split for id, split in sides}
    rows = [{"id": id, "phash": phash, "split": split} for (id, phash), split in sorted(placed.items())]
    write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
