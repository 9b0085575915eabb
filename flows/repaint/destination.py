"""Where reproduced pictures are put: never over a picture that was given, nor over anything else."""

import contextlib
import filecmp
import itertools
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.canvas.murals import is_mural
from atelier.errors import AtelierError
from atelier.images.jpeg import DECODER_ERRORS
from atelier.pictures import Pixels, Samples
from atelier.pictures.sheets import Panel, fitted, write_panels
from atelier.pictures.untrusted import open_regular
from atelier.provenance import facts
from atelier.provenance.facts import Provenance

SHOWN_PX, COLUMNS = 256, 4  # of a picture on a sheet, and how many a row


class Shelf:
    """A folder; `wanted` says that also what is identical is to be put there."""

    def __init__(self, folder: Path, wanted: bool, given: Collection[Path]) -> None:
        self.folder, self.wanted = folder, wanted
        self._taken = {path.resolve() for path in given}

    def write(self, name: str, painted: Path, made: Provenance, like: Path | None = None) -> Path:
        """Write a painted picture (numpy's file) with its provenance under `name`, numbered where the name is taken.

        `like` is the print whose resolution on paper it takes on. Raises AtelierError where it cannot be written.
        """
        with self._place(name) as place:
            pixels: Samples = np.load(painted, mmap_mode="r", allow_pickle=False)
            if is_mural(*pixels.shape[:2]):
                temporary = Path(place) / f"{name}.tif"
                facts.write_tiff(temporary, painted, made, lambda _: None)
            else:
                temporary = Path(place) / f"{name}.png"
                facts.write_png(temporary, pixels, made, _dpi(like) if made.print and like else None)
            return self._put(temporary, name)

    def hang(self, name: str, heading: str, pictures: Sequence[tuple[str, Samples]]) -> Path:
        """Write several pictures as one sheet, each under its words. Raises AtelierError where that is not possible."""
        with self._place(name) as place:
            temporary = Path(place) / f"{name}.png"
            panels = [Panel(words, (), fitted(_levels(samples), SHOWN_PX)) for words, samples in pictures]
            write_panels(temporary, heading, panels, COLUMNS)
            return self._put(temporary, name)

    def list(self, name: str, table: str) -> Path:
        """A CSV."""
        with self._place(name) as place:
            temporary = Path(place) / f"{name}.csv"
            temporary.write_text(table, encoding="utf-8", newline="")
            return self._put(temporary, name)

    @contextlib.contextmanager
    def _place(self, name: str) -> Iterator[str]:
        """A temporary folder inside the shelf's own, which is made first. An OSError becomes a sentence."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as place:
                yield place
        except OSError as error:
            raise AtelierError(
                f"{self.folder / name} cannot be written: {error.strerror or error}"
            ) from error

    def _put(self, temporary: Path, name: str) -> Path:
        """Into its place; the very same bytes, from an earlier time, are left where they are."""
        for number in itertools.count(1):
            end = f"-{number}" if number > 1 else ""
            path = self.folder / f"{name}{end}{temporary.suffix}"
            if path.resolve() in self._taken:
                continue
            if path.exists() and not filecmp.cmp(path, temporary, shallow=False):
                continue
            self._taken.add(path.resolve())
            temporary.replace(path)
            return path
        raise AssertionError("numbers have no end")


def _levels(samples: Samples) -> Pixels:
    """A picture as a sheet shows it, in 8 bits."""
    return (samples // 257 if samples.dtype == np.uint16 else samples).astype(np.uint8)


def _dpi(path: Path) -> float | None:
    """What a print's file says of its resolution; a stranger's file, so whatever is wrong with it means nothing."""
    try:
        with open_regular(path, "") as file, Image.open(file, formats=("PNG",)) as image:
            return float(image.info["dpi"][0]) or None
    except (AtelierError, *DECODER_ERRORS):
        return None
