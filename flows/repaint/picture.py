"""Read picture files: the provenance that a file carries, or that the ledger has for its pixels, and the pixels.

`OutputFolder` is the folder into which repainted pictures, sheets and tables are written, without replacing any file.
"""

import contextlib
import filecmp
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.canvas.murals import is_mural
from atelier.errors import AtelierError
from atelier.images.jpeg import DECODER_ERRORS
from atelier.pictures import Samples
from atelier.pictures.compare import pixels_sha256, read_samples
from atelier.pictures.sheets import Panel, fitted, write_panels
from atelier.progress import ignore_progress
from atelier.provenance import facts
from atelier.provenance.facts import PixelFacts, Provenance
from atelier.text import escaped, open_regular
from flows.records import ledger
from flows.runtime.process import Log

PANEL_SIDE_PX = 256  # longer side of a picture on a sheet
SHEET_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file that is to be painted again.

    `name` is the path as the user typed it. `provenance` comes from the file or, with `from_ledger`, from the ledger's
    entry for its pixels. `pixels` are the size and digest of the file's own; None if `damage` keeps them from decoding.
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
            yield from read_samples(self.path)
        else:
            yield from facts.read_bands(self.path)


def read_pictures(files: Mapping[str, Path], log: Log) -> dict[str, Picture | str]:
    """Read each file, or the ledger's entry for its pixels, by its name; a sentence if it cannot be painted again."""
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


class OutputFolder:
    """A folder for results. A number is added to a name that another file has; `inputs` are never replaced either.

    `keeps_all` is true if the user named the folder: then identical pictures are written to it as well.
    """

    def __init__(self, folder: Path, keeps_all: bool, inputs: Collection[Path]) -> None:
        self.folder, self.keeps_all = folder, keeps_all
        self._taken = {path.resolve() for path in inputs}

    def write_picture(self, name: str, array: Path, provenance: Provenance, like: Path | None = None) -> Path:
        """Write a painted .npy array with its provenance as a PNG, or as a TIFF if it is a mural.

        A print takes on the resolution (dots per inch) of the file `like`. Raises AtelierError if it cannot be written.
        """
        pixels = load_pixels(array)
        if is_mural(*pixels.shape[:2]):
            return self._write(name, ".tif", lambda path: facts.write_tiff(path, array, provenance, ignore_progress))
        dpi = _dpi(like) if provenance.print and like else None
        return self._write(name, ".png", lambda path: facts.write_png(path, pixels, provenance, dpi))

    def write_sheet(self, name: str, heading: str, pictures: Sequence[tuple[str, Samples]]) -> Path:
        """Write captioned pictures side by side as one PNG. Raises AtelierError if it cannot be written."""
        panels = [_panel(caption, samples) for caption, samples in pictures]
        return self._write(name, ".png", lambda path: write_panels(path, heading, panels, SHEET_COLUMNS))

    def write_csv(self, name: str, table: str) -> Path:
        """Write a table. Raises AtelierError if it cannot be written."""
        return self._write(name, ".csv", lambda path: path.write_text(table, encoding="utf-8", newline=""))

    def _write(self, name: str, suffix: str, write: Callable[[Path], object]) -> Path:
        """Have a file written on the same disk, then move it to a free name. Makes the output folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as folder:
                temporary = Path(folder) / f"{name}{suffix}"
                write(temporary)
                path = self._free_path(name, temporary)
                temporary.replace(path)
        except OSError as error:
            raise AtelierError(f"{self.folder / name} cannot be written: {error.strerror or error}") from error
        self._taken.add(path.resolve())
        return path

    def _free_path(self, name: str, temporary: Path) -> Path:
        """The first free name for a finished file; an older file with the same bytes counts as free."""
        for number in itertools.count(1):
            path = self.folder / f"{name}{f'-{number}' if number > 1 else ''}{temporary.suffix}"
            differs = path.exists() and not filecmp.cmp(path, temporary, shallow=False)
            if path.resolve() not in self._taken and not differs:
                return path
        raise AssertionError("itertools.count does not end")


def load_pixels(path: Path) -> Samples:
    """The pixels (H, W, 3) of a painted .npy file, memory-mapped."""
    pixels: Samples = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels


def _panel(caption: str, samples: Samples) -> Panel:
    eight_bits = samples // 257 if samples.dtype == np.uint16 else samples
    return Panel(caption, (), fitted(eight_bits.astype(np.uint8), PANEL_SIDE_PX))


def _dpi(path: Path) -> float | None:
    """The resolution that a PNG states; None if it states none or cannot be read."""
    try:
        with open_regular(path, "") as file, Image.open(file, formats=("PNG",)) as image:
            return float(image.info["dpi"][0]) or None
    except (AtelierError, *DECODER_ERRORS):
        return None
