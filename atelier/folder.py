"""A folder of one's own images as a source: subfolders are genres, or a CSV says what is what. Decodes no image.

A work's id is made of its file's bytes, not of its name: moving or renaming a file keeps the work, changing a file
makes another work (so that the stages after see the change), and a copy of a file is the same work once.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atelier.catalog import Work
from atelier.coverage import Found
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.text import clean, slug
from atelier.wikiart.years import parse_year

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
COLUMNS = ("file", "title", "artist", "year", "genre", "style")

OUTSIDE = "outside the folder"
COPY = "copy of another file"
NAMELESS = "file name is not UTF-8"
ABSENT = "in the CSV, but no such image"
UNLISTED = "not in the CSV"
TWICE = "twice in the CSV"

Report = Callable[[int, int], None]  # files read so far, files to read


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one file."""

    title: str
    artist: str
    year: str
    genre: str
    style: str


def read_folder(
    folder: Path, catalog: Path | None = None, report: Report = lambda done, expected: None
) -> Found:
    """The images below `folder` as works, their addresses relative to it; with a `catalog`, those it names.

    Hidden files and other kinds of file are passed over; links that lead out of the folder are refused and counted.
    Raises AtelierError where the folder or the CSV is missing or the CSV cannot be understood, naming its line.
    """
    if not folder.is_dir():
        raise AtelierError(f"scrape.folder.path holds {str(folder)!r}: there is no such folder")
    skipped: Counter[str] = Counter()
    present = dict(_images(folder, skipped))
    labels = {name: _label_of_path(name) for name in present}
    if catalog is not None:
        labels = _chosen(_read_csv(catalog), present, skipped)
    works: dict[str, Work] = {}
    for number, name in enumerate(sorted(labels), 1):
        identity = digest(present[name])[:24]
        if identity in works:
            skipped[COPY] += 1
        else:
            works[identity] = _work(identity, name, labels[name])
        report(number, len(labels))
    return Found(works=list(works.values()), listed=len(works) + skipped.total(), skipped=dict(+skipped))


def _images(folder: Path, skipped: Counter[str]) -> Iterator[tuple[str, Path]]:
    """Relative POSIX path and true path of each image that lies inside."""
    root = folder.resolve()
    for directory, subfolders, names in os.walk(root, followlinks=False):
        for name in sorted(subfolders):
            path = Path(directory, name)
            if path.is_symlink():  # one inside shows works that we meet anyway
                skipped[OUTSIDE] += not path.resolve().is_relative_to(root)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(directory, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            relative = path.relative_to(root).as_posix()
            if not path.resolve().is_relative_to(root):
                skipped[OUTSIDE] += 1
            elif not _is_utf8(relative):
                skipped[NAMELESS] += 1
            elif path.is_file():
                yield relative, path


def _chosen(
    rows: Sequence[tuple[str, Label]], present: Mapping[str, Path], skipped: Counter[str]
) -> dict[str, Label]:
    """The labels of the CSV's rows that name an image of the folder; the other rows, and images, are counted."""
    chosen: dict[str, Label] = {}
    for name, label in rows:
        path = PurePosixPath(name.replace("\\", "/"))
        plain = path.as_posix()
        if path.is_absolute() or ".." in path.parts:
            skipped[OUTSIDE] += 1
        elif plain not in present:
            skipped[ABSENT] += 1
        elif plain in chosen:
            skipped[TWICE] += 1
        else:
            chosen[plain] = label
    skipped[UNLISTED] += len(present.keys() - chosen.keys())
    return chosen


def _read_csv(catalog: Path) -> list[tuple[str, Label]]:
    """File name and label, row by row."""
    try:
        text = catalog.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AtelierError(f"scrape.folder.catalog holds {str(catalog)!r}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise AtelierError(f"{catalog}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, Label]] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if "file" not in header:
            hint = (
                "; its columns are separated by semicolons, commas are needed"
                if ";" in "".join(header)
                else ""
            )
            raise AtelierError(
                f"{catalog}:1: no column named file; the columns are {','.join(COLUMNS)}, of which file is needed{hint}"
            )
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise AtelierError(
                    f"{catalog}:{line}: {len(cells)} cells under {len(header)} columns: quote cells that hold a comma"
                )
            row = dict(zip(header, cells, strict=False))
            if not row.get("file", "").strip():
                raise AtelierError(
                    f"{catalog}:{line}: file is empty; it names an image relative to scrape.folder.path"
                )
            title, artist, year, genre, style = (clean(row.get(column, "")) for column in COLUMNS[1:])
            rows.append((row["file"].strip(), Label(title, artist, year, genre, style)))
    except csv.Error as error:
        raise AtelierError(f"{catalog}:{reader.line_num}: not valid CSV: {error}") from None
    return rows


def _label_of_path(name: str) -> Label:
    path = PurePosixPath(name)
    title = clean(path.stem.replace("_", " ").replace("-", " "))
    return Label(title, "", "", path.parent.as_posix() if path.parent.name else "", "")


def _work(identity: str, name: str, label: Label) -> Work:
    return Work(
        id=identity,
        title=label.title or _label_of_path(name).title,
        artist=label.artist,
        artist_slug=slug(label.artist) if label.artist else "",
        year_text=label.year,
        year=parse_year(label.year),
        genre=label.genre,
        style=label.style,
        width=None,
        height=None,
        image_url=name,
        page_url="",
        rights="unknown",
        source="folder",
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
