"""A picture as somebody gave it: what it says of itself, and whether its pixels are those that it names."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atelier.errors import AtelierError
from atelier.images.verify import read_rgb
from atelier.pictures.pixels import pixels_sha256
from atelier.pictures.untrusted import shown
from atelier.pictures.vips import Samples
from atelier.provenance import facts
from atelier.provenance.facts import PixelFacts, Provenance
from flows.records import ledger

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Given:
    """`name` is what a person called it; `pixels` are its own, None where they cannot be read: `trouble` says why.

    `made` is what the file carries or, where it carries nothing and `from_ledger`, what the ledger knows of its pixels.
    """

    name: str
    path: Path
    made: Provenance
    pixels: PixelFacts | None
    trouble: str = ""
    from_ledger: bool = False

    @property
    def named(self) -> PixelFacts:
        assert self.made.pixels is not None  # provenance.read refuses it
        return self.made.pixels

    def bands(self) -> Iterator[Samples]:
        """The file's own pixels."""
        if self.from_ledger:  # of whatever format
            yield np.asarray(read_rgb(self.path.read_bytes()))
        else:
            yield from facts.read_bands(self.path)


def look(files: Mapping[str, Path], say: Say) -> dict[str, Given | str]:
    """Each file by its name: a picture that says what made it, or that the ledger knows; else a sentence why not."""
    looked: dict[str, Given | str] = {}
    bare: dict[str, str] = {}
    for name, path in files.items():
        try:
            looked[name] = _look(name, path)
        except AtelierError as error:
            looked[name] = _film(name, path) or str(error)
            with contextlib.suppress(AtelierError):  # no picture at all: then that is the sentence
                bare[name] = pixels_sha256(path)
    if bare:
        with ledger.opened(say) as book:
            for name, sha256 in bare.items():
                if known := book.of_pixels(sha256):
                    made = known[0].provenance
                    looked[name] = Given(name, files[name], made, made.pixels, from_ledger=True)
    return looked


def _film(name: str, path: Path) -> str | None:
    from atelier.film.encode import KINDS  # and with it PyAV, which no picture needs

    named_so = path.suffix.lower() in KINDS
    return (
        f"{shown(name)} is a film: `atelier refilm` makes films again, or a frame of them"
        if named_so
        else None
    )


def _look(name: str, path: Path) -> Given:
    made = facts.read(path)
    try:
        return Given(name, path, made, PixelFacts.of_bands(facts.read_bands(path)))
    except AtelierError as error:
        return Given(name, path, made, None, str(error).replace(shown(path), "it", 1))
