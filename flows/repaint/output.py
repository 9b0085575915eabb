"""The folder into which repainted pictures, sheets and tables are written, without replacing any other file."""

import contextlib
import filecmp
import itertools
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from atelier.canvas.murals import is_mural
from atelier.errors import AtelierError
from atelier.images.jpeg import DECODER_ERRORS
from atelier.pictures import Samples
from atelier.pictures.sheets import Panel, fitted, write_panels
from atelier.pictures.untrusted import open_regular
from atelier.provenance import facts
from atelier.provenance.facts import Provenance

PANEL_SIDE_PX = 256  # longer side of a picture on a sheet
SHEET_COLUMNS = 4


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
        with self._temporary_folder(name) as folder:
            pixels: Samples = np.load(array, mmap_mode="r", allow_pickle=False)
            if is_mural(*pixels.shape[:2]):
                path = folder / f"{name}.tif"
                facts.write_tiff(path, array, provenance, lambda _: None)
            else:
                path = folder / f"{name}.png"
                dpi = _dpi(like) if provenance.print and like else None
                facts.write_png(path, pixels, provenance, dpi)
            return self._move(path, name)

    def write_sheet(self, name: str, heading: str, pictures: Sequence[tuple[str, Samples]]) -> Path:
        """Write captioned pictures side by side as one PNG. Raises AtelierError if it cannot be written."""
        with self._temporary_folder(name) as folder:
            path = folder / f"{name}.png"
            panels = [
                Panel(caption, (), fitted(_to_8_bits(samples), PANEL_SIDE_PX))
                for caption, samples in pictures
            ]
            write_panels(path, heading, panels, SHEET_COLUMNS)
            return self._move(path, name)

    def write_csv(self, name: str, table: str) -> Path:
        """Write a table. Raises AtelierError if it cannot be written."""
        with self._temporary_folder(name) as folder:
            path = folder / f"{name}.csv"
            path.write_text(table, encoding="utf-8", newline="")
            return self._move(path, name)

    @contextlib.contextmanager
    def _temporary_folder(self, name: str) -> Iterator[Path]:
        """A temporary folder on the same disk. Makes the output folder; turns an OSError into an AtelierError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as folder:
                yield Path(folder)
        except OSError as error:
            raise AtelierError(
                f"{self.folder / name} cannot be written: {error.strerror or error}"
            ) from error

    def _move(self, temporary: Path, name: str) -> Path:
        """Move a finished file to the first free name; an older file with the same bytes counts as free."""
        for number in itertools.count(1):
            suffix = f"-{number}" if number > 1 else ""
            path = self.folder / f"{name}{suffix}{temporary.suffix}"
            if path.resolve() in self._taken:
                continue
            if path.exists() and not filecmp.cmp(path, temporary, shallow=False):
                continue
            self._taken.add(path.resolve())
            temporary.replace(path)
            return path
        raise AssertionError("itertools.count does not end")


def _to_8_bits(samples: Samples) -> npt.NDArray[np.uint8]:
    return (samples // 257 if samples.dtype == np.uint16 else samples).astype(np.uint8)


def _dpi(path: Path) -> float | None:
    """The resolution that a PNG states; None if it states none or cannot be read."""
    try:
        with open_regular(path, "") as file, Image.open(file, formats=("PNG",)) as image:
            return float(image.info["dpi"][0]) or None
    except (AtelierError, *DECODER_ERRORS):
        return None
