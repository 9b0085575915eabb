"""Read picture files: the provenance that a file carries, or that the ledger has for its pixels, and the pixels."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atelier.errors import AtelierError
from atelier.images.verify import read_rgb
from atelier.pictures import Samples
from atelier.pictures.compare import pixels_sha256
from atelier.pictures.untrusted import escaped
from atelier.provenance import facts
from atelier.provenance.facts import PixelFacts, Provenance
from flows.records import ledger

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file that is to be painted again.

    `name` is the path as the user typed it. `provenance` comes from the file or, with `from_ledger`, from the ledger's
    entry for its pixels. `pixels` are the size and digest of the file's own pixels; None if they cannot be decoded,
    and `damage` then says why.
    """

    name: str
    path: Path
    provenance: Provenance
    pixels: PixelFacts | None
    damage: str = ""
    from_ledger: bool = False

    @property
    def recorded_pixels(self) -> PixelFacts:
        """The size and digest that the provenance records."""
        assert self.provenance.pixels is not None  # facts.read raises where it is missing
        return self.provenance.pixels

    def bands(self) -> Iterator[Samples]:
        """The file's own pixels in horizontal bands (rows, W, 3), from the top."""
        if self.from_ledger:  # any file format
            yield np.asarray(read_rgb(self.path.read_bytes()))
        else:
            yield from facts.read_bands(self.path)


def read_pictures(files: Mapping[str, Path], log: Log) -> dict[str, Picture | str]:
    """Read each file, by its name; the value is a sentence instead of a Picture if it cannot be painted again.

    A file without provenance is looked up in the ledger by its pixels.
    """
    read: dict[str, Picture | str] = {}
    without_provenance: dict[str, str] = {}
    for name, path in files.items():
        try:
            read[name] = _read(name, path)
        except AtelierError as error:
            read[name] = _hint_for_film(name, path) or str(error)
            with contextlib.suppress(AtelierError):  # no picture at all: the sentence above stays
                without_provenance[name] = pixels_sha256(path)
    if without_provenance:
        with ledger.opened(log) as book:
            for name, sha256 in without_provenance.items():
                if found := book.of_pixels(sha256):
                    made = found[0].provenance
                    read[name] = Picture(name, files[name], made, made.pixels, from_ledger=True)
    return read


def _read(name: str, path: Path) -> Picture:
    provenance = facts.read_provenance(path)
    try:
        return Picture(name, path, provenance, PixelFacts.of_bands(facts.read_bands(path)))
    except AtelierError as error:
        return Picture(name, path, provenance, None, str(error).replace(escaped(path), "it", 1))


def _hint_for_film(name: str, path: Path) -> str | None:
    from atelier.film.encode import FORMATS  # imports PyAV, which pictures do not need

    if path.suffix.lower() not in FORMATS:
        return None
    return f"{escaped(name)} is a film: `atelier refilm` makes films again, or a frame of them"
