"""Where reproduced pictures are put: never over a picture that was given, nor over anything else."""

import filecmp
import itertools
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from PIL import Image

from atelier import provenance
from atelier.likeness import Pixels, hung
from atelier.provenance import Provenance


class Shelf:
    """A folder; `wanted` says that also what is identical is to be put there."""

    def __init__(self, folder: Path, wanted: bool, given: Collection[Path]) -> None:
        self.folder, self.wanted = folder, wanted
        self._taken = {path.resolve() for path in given}

    def write(self, name: str, pixels: Pixels, made: Provenance, like: Path | None = None) -> Path:
        """The picture with its provenance, at its name or, where that is taken, at the next number's.

        `like` is the file whose resolution on paper it takes on.
        """
        with tempfile.TemporaryDirectory(dir=self._made(), prefix=".") as place:
            temporary = Path(place) / f"{name}.png"
            provenance.write_png(temporary, pixels, made)
            return self._put(temporary, name)

    def hang(self, name: str, pictures: Sequence[tuple[str, Pixels]]) -> Path:
        """Several on a sheet."""
        with tempfile.TemporaryDirectory(dir=self._made(), prefix=".") as place:
            temporary = Path(place) / f"{name}.png"
            Image.fromarray(hung(pictures)).save(temporary)
            return self._put(temporary, name)

    def _made(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

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
