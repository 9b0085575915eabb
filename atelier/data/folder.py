"""A folder of one's own pictures as a source: subfolders are genres, or a CSV says what is what. Decodes no picture.

A work's id is made of its file's bytes, not of its name: a file that is moved or renamed stays the same work, a file
that is changed becomes another work (so that the stages after see the change), and copies of a file are one work.

Every file that is not taken is counted by reason, and the first few are named with what to do about them.
"""

import csv
import io
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from atelier.data.catalog import Work, parse_year
from atelier.data.coverage import SourceWorks
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.images.kinds import kind_of_name, unreadable
from atelier.pictures.untrusted import shown
from atelier.progress import CountCallback, ignore_progress
from atelier.text import clean, slug, unescape_csv_cell

COLUMNS = ("file", "title", "artist", "year", "genre", "style")
NAMED = 5  # files that a note names; all are counted
MOST_KINDS = 12  # of files that are no pictures, in the note about them

OUTSIDE = "outside the folder"
COPY = "copy of another file"
NAMELESS = "file name is not UTF-8"
ABSENT = "in the CSV, but no such image"
UNLISTED = "not in the CSV"
TWICE = "twice in the CSV"
UNREADABLE = "not readable"
BROKEN = "behind a link that leads nowhere"
IRREGULAR = "a pipe, socket or device"

ADVICE = {
    OUTSIDE: "move what it is to have into the folder",
    NAMELESS: "rename them",
    ABSENT: "the column file names an image relative to scrape.folder.path",
    UNLISTED: "rows for them would add them",
    TWICE: "the first row counts",
    UNREADABLE: "`chmod -R a+rX FOLDER` makes them readable, unless the disk fails",
    BROKEN: "put back what they led to, or delete the links",
}
SAVE_AS = "save them as JPEG, PNG or TIFF, for example with ImageMagick, XnConvert or darktable"
# ends of file names of pictures that no stage reads: documents and layers; bitmaps; cameras' raw files
_UNREAD = """
.psd .psb .xcf .kra .ora .clip .sai .procreate .afphoto .ai .eps .svg .svgz .pdf .djvu .cdr
.jxl .jp2 .j2k .j2c .jpf .jpx .jpm .jxr .wdp .hdp .bpg .flif .qoi .tga .pcx .pict .pct .ppm .pgm .pbm .pnm .pfm
.exr .hdr .dds .ico .icns .cur .dpx .cin .sgi .rgb .ras .xbm .xpm .fits .fit .apng .mpo .jps .wmf .emf
.raw .dng .3fr .arw .bay .cr2 .cr3 .crw .dcr .dcs .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf
.ori .pef .ptx .raf .rw2 .rwl .rwz .sr2 .srf .srw .x3f
"""
UNREAD = frozenset(_UNREAD.split())


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one file."""

    title: str
    artist: str
    year: str
    genre: str
    style: str


@dataclass
class _Left:
    """The files that are not taken, by reason, and those of other kinds than pictures."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    advice: dict[str, str] = field(default_factory=lambda: dict(ADVICE))
    others: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # kind → files

    def out(self, reason: str, name: str) -> None:
        self.names[reason].append(name)

    def of_unread_kind(self, suffix: str, name: str, advice: str) -> None:
        reason = f"{suffix} (not read here)"
        self.advice[reason] = advice
        self.names[reason].append(name)

    def counts(self) -> dict[str, int]:
        return {reason: len(names) for reason, names in sorted(self.names.items())}

    def notes(self) -> Iterator[str]:
        """A sentence for each reason, with the first names and what to do."""
        for reason, names in sorted(self.names.items()):
            named = ", ".join(shown(name) for name in sorted(names)[:NAMED])
            more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            advice = f"; {self.advice[reason]}" if reason in self.advice else ""
            yield f"left out, {reason}: {named}{more}{advice}"
        if self.others:
            kinds = sorted(self.others.items(), key=lambda kind: (-kind[1], kind[0]))
            words = [f"{count:,} {shown(kind)}" for kind, count in kinds[:MOST_KINDS]]
            rest = sum(count for _, count in kinds[MOST_KINDS:])
            words += [f"{rest:,} of other kinds"] if rest else []
            yield f"passed over, since the names promise no picture: {', '.join(words)}"


def read_folder(
    folder: Path,
    catalog: Path | None = None,
    report: CountCallback = ignore_progress,
    studio: Path | None = None,
) -> SourceWorks:
    """The images below `folder` as works, their addresses relative to it; with a `catalog`, those that it names.

    Links that lead out of the folder are not followed, hidden folders are not entered, and neither is `studio`. All
    that is left out is counted. Raises AtelierError where the folder or the CSV is missing or the CSV cannot be
    understood, naming its line.
    """
    if not folder.is_dir():
        raise AtelierError(f"scrape.folder.path holds {str(folder)!r}: there is no such folder")
    left = _Left()
    passed_over = [path.resolve() for path in (studio, catalog) if path]
    present = dict(_images(folder, left, passed_over))
    labels = {name: _label_of_path(name) for name in present}
    if catalog is not None:
        labels = _chosen(_read_csv(catalog), present, left)
    works: dict[str, Work] = {}
    for number, name in enumerate(sorted(labels), 1):
        try:
            identity = digest(present[name])[:24]
        except OSError:
            left.out(UNREADABLE, name)
        else:
            if identity in works:
                left.out(COPY, name)
            else:
                works[identity] = _work(identity, name, labels[name])
        report(number, len(labels))
    skipped = left.counts()
    return SourceWorks(
        works=list(works.values()),
        listed=len(works) + sum(skipped.values()),
        skipped=skipped,
        notes=list(left.notes()),
    )


def _images(folder: Path, left: _Left, passed_over: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Relative POSIX path and true path of each image that lies inside."""
    root = folder.resolve()

    def unread(error: OSError) -> None:
        left.out(UNREADABLE, Path(error.filename).relative_to(root).as_posix() + "/")

    for directory, subfolders, names in os.walk(root, onerror=unread, followlinks=False):
        entered = []
        for name in sorted(subfolders):
            path = Path(directory, name)
            if path.is_symlink():
                if (
                    reason := _amiss(path, root)
                ) is not None:  # a link that stays inside shows works we meet anyway
                    left.out(reason, path.relative_to(root).as_posix())
            elif name.startswith("."):
                left.others["hidden folders"] += 1
            elif path in passed_over:
                left.others["folder of this studio"] += 1
            else:
                entered.append(name)
        subfolders[:] = entered
        for name in sorted(names):
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if name.startswith("."):
                left.others["hidden files"] += 1
            elif path in passed_over or not _is_taken(path, relative, left):
                continue
            elif (reason := _amiss(path, root)) is not None:
                left.out(reason, relative)
            elif not _is_utf8(relative):
                left.out(NAMELESS, relative)
            elif not path.is_file():
                left.out(IRREGULAR, relative)
            else:
                yield relative, path


def _is_taken(path: Path, relative: str, left: _Left) -> bool:
    """Whether a file's name promises a picture of a kind that is read here; it is counted where not."""
    suffix = path.suffix.lower()
    if (kind := kind_of_name(path)) is not None:
        if advice := unreadable(kind):
            left.of_unread_kind(suffix, relative, advice)
        return not advice
    if suffix in UNREAD:
        left.of_unread_kind(suffix, relative, SAVE_AS)
    else:
        left.others[suffix or "without a suffix"] += 1
    return False


def _amiss(path: Path, root: Path) -> str | None:
    """Why a path cannot be taken where it is a link; None where it can."""
    if not path.is_symlink():
        return None
    try:
        target = path.resolve(strict=True)
    except PermissionError:
        return UNREADABLE
    except (OSError, RuntimeError):  # RuntimeError: a loop, in Python before 3.13
        return OUTSIDE if _leads_outside(path, root) else BROKEN
    return None if target.is_relative_to(root) else OUTSIDE


def _leads_outside(path: Path, root: Path) -> bool:
    """Whether a link that leads nowhere would lead out of the folder."""
    try:
        return not path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _chosen(rows: Sequence[tuple[str, Label]], present: Mapping[str, Path], left: _Left) -> dict[str, Label]:
    """The labels of the CSV's rows that name an image of the folder; the other rows, and images, are counted.

    A name that no file has exactly finds the one file that differs in Unicode's normal form (a Mac writes é as two
    characters) or in capitals alone.
    """
    alike = [_only(map(form, present), present) for form in (_composed, _folded)]
    counted = {PurePosixPath(name) for names in left.names.values() for name in names}
    chosen: dict[str, Label] = {}
    for name, label in rows:
        path = PurePosixPath(name.replace("\\", "/"))
        plain = path.as_posix()
        if path.is_absolute() or ".." in path.parts:
            left.out(OUTSIDE, name)
            continue
        found = plain if plain in present else None
        found = found or alike[0].get(_composed(plain)) or alike[1].get(_folded(plain))
        if found is None:
            if path not in counted:  # what is there and cannot be taken is counted already
                left.out(ABSENT, name)
        elif found in chosen:
            left.out(TWICE, name)
        else:
            chosen[found] = label
    for name in present.keys() - chosen.keys():
        left.out(UNLISTED, name)
    return chosen


def _only(keys: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The name of each key that has one name only."""
    found: dict[str, str | None] = {}
    for key, name in zip(keys, names, strict=True):
        found[key] = None if key in found else name
    return {key: name for key, name in found.items() if name is not None}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


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
            row = dict(zip(header, map(unescape_csv_cell, cells), strict=False))
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
    return Label(title, "", "", clean(path.parent.as_posix()) if path.parent.name else "", "")


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
