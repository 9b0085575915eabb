"""A folder of the user's own pictures as a source: subfolders are genres, or a CSV describes each file.

A work's id is a hash of its file's bytes: a file that is moved or renamed stays the same work, a changed file becomes
another, which the later stages notice, and copies of a file are one work. Files that are left out are counted by
reason, and the first few are named with what to do about them.
"""

import csv
import io
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from atelier.data.catalog import Work, catalog_frame, parse_year
from atelier.data.coverage import SourceWorks
from atelier.errors import AtelierError
from atelier.files import digest, write_bytes
from atelier.images import kind_of_name, missing_decoder
from atelier.progress import CountCallback, ignore_progress
from atelier.text import clean, escape_csv_cell, escaped, slug, unescape_csv_cell

CSV_COLUMNS = ("file", "title", "artist", "year", "genre", "style")
MAX_NAMED_FILES = 5  # in a note; all are counted
MAX_NAMED_KINDS = 12  # of other files, in the note about them
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
# suffixes of pictures that no stage reads: documents and layers; bitmaps; raw files of cameras
_UNREAD_SUFFIXES = """
.psd .psb .xcf .kra .ora .clip .sai .procreate .afphoto .ai .eps .svg .svgz .pdf .djvu .cdr
.jxl .jp2 .j2k .j2c .jpf .jpx .jpm .jxr .wdp .hdp .bpg .flif .qoi .tga .pcx .pict .pct .ppm .pgm .pbm .pnm .pfm
.exr .hdr .dds .ico .icns .cur .dpx .cin .sgi .rgb .ras .xbm .xpm .fits .fit .apng .mpo .jps .wmf .emf
.raw .dng .3fr .arw .bay .cr2 .cr3 .crw .dcr .dcs .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf
.ori .pef .ptx .raf .rw2 .rwl .rwz .sr2 .srf .srw .x3f
"""
UNREAD_SUFFIXES = frozenset(_UNREAD_SUFFIXES.split())


@dataclass(frozen=True, slots=True)
class Label:
    """The description of one file. Unknown texts are empty."""

    title: str
    artist: str = ""
    year: str = ""
    genre: str = ""
    style: str = ""


def read_folder(
    folder: Path, catalog: Path | None = None, report: CountCallback = ignore_progress, studio: Path | None = None
) -> SourceWorks:
    """Return the images below `folder` as works; with a CSV `catalog`, only those that it names.

    A work's `image_url` is its path relative to the folder. Links that lead out of the folder are not followed; hidden
    folders and `studio` are not entered. Raises AtelierError where the folder or the CSV is missing, or, naming the
    line, where the CSV cannot be understood.
    """
    if not folder.is_dir():
        raise AtelierError(f"scrape.folder.path holds {str(folder)!r}: there is no such folder")
    left_out = _LeftOut()
    excluded = [path.resolve() for path in (studio, catalog) if path]
    images = dict(_find_images(folder.resolve(), excluded, left_out))
    labels = {name: _label_of_path(name) for name in images}
    if catalog is not None:
        labels = _match_rows(_read_csv(catalog), images, left_out)
    works: dict[str, Work] = {}
    for number, name in enumerate(sorted(labels), 1):
        try:
            id = digest(images[name])[:24]
        except OSError:
            left_out.add(UNREADABLE, name)
        else:
            if id in works:
                left_out.add(COPY, name)
            else:
                works[id] = _work(id, name, labels[name])
        report(number, len(labels))
    skipped = {reason: len(names) for reason, names in sorted(left_out.names.items())}
    return SourceWorks(
        works=list(works.values()),
        listed=len(works) + sum(skipped.values()),
        skipped=skipped,
        notes=list(left_out.notes()),
    )


def write_csv(folder: Path, files: Mapping[str, Path], works: Mapping[str, Work]) -> Path:
    """Describe `files`, by the ids of their works, in `folder`/catalog.csv, which `read_folder` accepts.

    Formulas are escaped, see `text.escape_csv_cell`.
    """
    frame = catalog_frame(works[id] for id in files).drop(columns="year").rename(columns={"year_text": "year"})
    frame["file"] = [path.name for path in files.values()]
    table = frame[[*CSV_COLUMNS, "id", "page_url", "rights"]].map(escape_csv_cell)
    path = folder / "catalog.csv"
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())
    return path


@dataclass
class _LeftOut:
    """The pictures that are left out, by reason, and the number of other files, by kind."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    advice: dict[str, str] = field(default_factory=lambda: dict(ADVICE))
    others: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, reason: str, name: str, advice: str = "") -> None:
        self.names[reason].append(name)
        if advice:
            self.advice[reason] = advice

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each reason, with the first names and what to do."""
        for reason, names in sorted(self.names.items()):
            named = ", ".join(escaped(name) for name in sorted(names)[:MAX_NAMED_FILES])
            more = f" and {len(names) - MAX_NAMED_FILES:,} more" if len(names) > MAX_NAMED_FILES else ""
            advice = f"; {self.advice[reason]}" if reason in self.advice else ""
            yield f"left out, {reason}: {named}{more}{advice}"
        if self.others:
            kinds = sorted(self.others.items(), key=lambda kind: (-kind[1], kind[0]))
            words = [f"{count:,} {escaped(kind)}" for kind, count in kinds[:MAX_NAMED_KINDS]]
            rest = sum(count for _, count in kinds[MAX_NAMED_KINDS:])
            words += [f"{rest:,} of other kinds"] if rest else []
            yield f"passed over, since the names promise no picture: {', '.join(words)}"


def _find_images(root: Path, excluded: Sequence[Path], left_out: _LeftOut) -> Iterator[tuple[str, Path]]:
    """Yield the relative POSIX path and the path of each image below `root`; all other files go into `left_out`."""

    def on_error(error: OSError) -> None:
        left_out.add(UNREADABLE, Path(error.filename).relative_to(root).as_posix() + "/")

    for directory, subfolders, names in os.walk(root, onerror=on_error, followlinks=False):
        entered = []
        for name in sorted(subfolders):
            path = Path(directory, name)
            if path.is_symlink():  # one that stays inside leads to works that are found anyway
                if reason := _problem_of_link(path, root):
                    left_out.add(reason, path.relative_to(root).as_posix())
            elif name.startswith("."):
                left_out.others["hidden folders"] += 1
            elif path in excluded:
                left_out.others["folder of this studio"] += 1
            else:
                entered.append(name)
        subfolders[:] = entered
        for name in sorted(names):
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if name.startswith("."):
                left_out.others["hidden files"] += 1
            elif path in excluded or not _has_image_suffix(path, relative, left_out):
                continue
            elif reason := _problem_of_link(path, root):
                left_out.add(reason, relative)
            elif relative != relative.encode(errors="replace").decode():
                left_out.add(NAMELESS, relative)
            elif not path.is_file():
                left_out.add(IRREGULAR, relative)
            else:
                yield relative, path


def _has_image_suffix(path: Path, relative: str, left_out: _LeftOut) -> bool:
    """Whether a file's name has the suffix of an image that can be read; if not, add it to `left_out`."""
    suffix, kind = path.suffix.lower(), kind_of_name(path)
    if kind is None and suffix not in UNREAD_SUFFIXES:
        left_out.others[suffix or "without a suffix"] += 1
        return False
    if advice := missing_decoder(kind) if kind else SAVE_AS:
        left_out.add(f"{suffix} (not read here)", relative, advice)
    return not advice


def _problem_of_link(path: Path, root: Path) -> str | None:
    """The reason why a link cannot be used; None for a link that can, and for all that is no link."""
    if not path.is_symlink():
        return None
    try:
        target = path.resolve(strict=True)
    except PermissionError:
        return UNREADABLE
    except (OSError, RuntimeError):  # it leads nowhere; RuntimeError: a loop, in Python before 3.13
        with suppress(OSError, RuntimeError):
            if not path.resolve().is_relative_to(root):
                return OUTSIDE
        return BROKEN
    return None if target.is_relative_to(root) else OUTSIDE


def _match_rows(rows: Sequence[tuple[str, Label]], images: Mapping[str, Path], left_out: _LeftOut) -> dict[str, Label]:
    """The label of each image that a row of the CSV names; rows and images without a match are left out.

    A name that no file has exactly matches the one file that differs in Unicode's normal form (macOS writes é as two
    characters) or in capitals alone.
    """
    composed, folded = _unique(_composed, images), _unique(_folded, images)
    counted = {PurePosixPath(name) for names in left_out.names.values() for name in names}
    labels: dict[str, Label] = {}
    for name, label in rows:
        path = PurePosixPath(name.replace("\\", "/"))
        plain = path.as_posix()
        if path.is_absolute() or ".." in path.parts:
            left_out.add(OUTSIDE, name)
            continue
        found = plain if plain in images else composed.get(_composed(plain)) or folded.get(_folded(plain))
        if found is None:
            if path not in counted:  # a file that exists and cannot be used is counted already
                left_out.add(ABSENT, name)
        elif found in labels:
            left_out.add(TWICE, name)
        else:
            labels[found] = label
    for name in images.keys() - labels.keys():
        left_out.add(UNLISTED, name)
    return labels


def _unique(form: Callable[[str], str], names: Iterable[str]) -> dict[str, str]:
    """Map the form of each name that no other name has to that name."""
    counts = Counter(map(form, names))
    return {form(name): name for name in names if counts[form(name)] == 1}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(unicodedata.normalize("NFD", name).casefold())


def _read_csv(catalog: Path) -> list[tuple[str, Label]]:
    """The file name and the label of each row."""
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
            hint = "; its columns are separated by semicolons, commas are needed" if ";" in "".join(header) else ""
            columns = f"the columns are {','.join(CSV_COLUMNS)}, of which file is needed{hint}"
            raise AtelierError(f"{catalog}:1: no column named file; {columns}")
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
                raise AtelierError(f"{catalog}:{line}: file is empty; it names an image relative to scrape.folder.path")
            rows.append((row["file"].strip(), Label(*(clean(row.get(column, "")) for column in CSV_COLUMNS[1:]))))
    except csv.Error as error:
        raise AtelierError(f"{catalog}:{reader.line_num}: not valid CSV: {error}") from None
    return rows


def _label_of_path(name: str) -> Label:
    path = PurePosixPath(name)
    title = clean(path.stem.replace("_", " ").replace("-", " "))
    return Label(title, genre=clean(path.parent.as_posix()) if path.parent.name else "")


def _work(id: str, name: str, label: Label) -> Work:
    return Work(
        id=id,
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
