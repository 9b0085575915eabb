"""The ledger: which pictures were ever made, by which model, and which commits and tags name that.

A cache in `.atelier/ledger.sqlite` of what git's history and DVC's objects say, never in a stage's outs: it may be
deleted at any time. Commits are asked of git anew each time; what a dvc.lock or a picture holds is read once.
"""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.progress import Progress
from atelier.provenance import facts as provenance
from atelier.provenance.facts import Provenance
from flows.records import history
from flows.records.history import Commit, Held, Lock, Reign
from flows.repo import storage
from flows.repo import storage as objects

PLACE = Path(".atelier/ledger.sqlite")
VERSION = 1  # of the tables; another one is built anew
WAIT_S = 60.0  # for another process that writes to the file
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
GENERATOR = "data/model/generator.safetensors"
FOLDERS = {"data/artworks": "artworks", "data/prints": "prints"}
TABLES = """
CREATE TABLE locks (id TEXT PRIMARY KEY, model TEXT);
CREATE TABLE folders (md5 TEXT, lock TEXT, place TEXT, PRIMARY KEY (md5, lock, place));
CREATE TABLE lists (md5 TEXT PRIMARY KEY, lacking INTEGER);
CREATE TABLE names (folder TEXT, name TEXT, file TEXT, PRIMARY KEY (folder, name));
CREATE TABLE pictures (file TEXT PRIMARY KEY, pixels TEXT, model TEXT, told TEXT);
CREATE TABLE models (md5 TEXT PRIMARY KEY, sha256 TEXT);
CREATE INDEX by_file ON names (file);
CREATE INDEX by_folder ON folders (md5);
CREATE INDEX by_pixels ON pictures (pixels);
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was made: its place in the tree, what it says of itself, and who names the folder it was in."""

    path: str
    file_md5: str
    provenance: Provenance
    commits: tuple[Commit, ...]
    in_work_tree: bool


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was made, all who name it, newest first, and how many pictures of its own are known.

    `lacking` counts folders of its pictures that neither the cache nor the remote has any more.
    """

    md5: str
    sha256: str | None
    commits: tuple[Commit, ...]
    in_work_tree: bool
    versions: tuple[str, ...]
    artworks: int
    prints: int
    lacking: int


def find(pixels_sha256: str, say: Say, root: Path = Path()) -> Provenance | None:
    """What made the picture with these pixels, as its newest commit tells it; None where none is known."""
    with opened(say, root) as ledger:
        pictures = ledger.of_pixels(pixels_sha256)
    return pictures[0].provenance if pictures else None


@contextmanager
def opened(say: Say, root: Path = Path(), *, again: bool = False) -> Iterator["Ledger"]:
    """The ledger of the studio at `root`, brought up to date; `again` asks the remote for what it once lacked.

    Where the file may not be written (a tree of another user, a read-only disk), what is new is kept in memory only.
    Raises AtelierError where another process holds the file for longer than WAIT_S, and where it is damaged.
    """
    path = root / PLACE
    with _in_words(path), closing(_connect(path, say)) as connection:
        ledger = Ledger(connection, root)
        ledger.update(say, again)
        yield ledger


class Ledger:
    """What is known, as of the last `update`."""

    def __init__(self, connection: sqlite3.Connection, root: Path) -> None:
        self._sql, self._root = connection, root
        self._held: dict[str, Held] = {}
        self._reigns: list[Reign] = []

    def update(self, say: Say, again: bool) -> None:
        """Read what is new: locks, the lists of the folders that they name, and the pictures in them."""
        known = {id for (id,) in self._sql.execute("SELECT id FROM locks")}
        found = history.held(self._root)
        self._held = {lock.id: lock for lock in found}
        self._reigns = history.reigns(self._root)
        for lock in history.read(self._root, [lock for lock in found if lock.id not in known]):
            self._note_lock(lock)
        self._read_lists(say, again)
        self._read_pictures()
        self._read_models()

    def of_pixels(self, sha256: str) -> list[Picture]:
        """The pictures with these pixels, by whoever named them last first."""
        return self._pictures("pixels = ?", sha256)

    def of_file(self, md5: str) -> list[Picture]:
        """The pictures that were this file."""
        return self._pictures("pictures.file = ?", md5)

    def models(self) -> list[Model]:
        """Every model that a commit or the work tree names, newest first."""
        locks: dict[str, list[Held]] = {}
        for id, model in self._sql.execute("SELECT id, model FROM locks WHERE model IS NOT NULL"):
            if lock := self._held.get(id):
                locks.setdefault(model, []).append(lock)
        models = [self._model(md5, holding) for md5, holding in locks.items()]
        return sorted(models, key=lambda model: (not model.in_work_tree, _age(model.commits), model.md5))

    def lacking(self) -> int:
        """How many folders of pictures could be had neither from the cache nor from the remote."""
        return int(self._sql.execute("SELECT count(*) FROM lists WHERE lacking").fetchone()[0])

    def _note_lock(self, lock: Lock) -> None:
        model = lock.md5_of(GENERATOR)
        with _transaction(self._sql):
            self._sql.execute("INSERT OR REPLACE INTO locks VALUES (?, ?)", (lock.id, model))
            for place, stage in ((place, stage) for place in FOLDERS for stage in lock.stages.values()):
                if (md5 := stage.outs.get(place)) and md5.endswith(".dir"):
                    self._sql.execute("INSERT OR IGNORE INTO folders VALUES (?, ?, ?)", (md5, lock.id, place))

    def _read_lists(self, say: Say, again: bool) -> None:
        """The lists of folders that are new, or that the cache has by now; only trusted commits may cost a download."""
        cache = storage.cache(self._root)
        rows = self._sql.execute(
            "SELECT DISTINCT folders.md5, lock, lacking FROM folders LEFT JOIN lists USING (md5)"
        )
        wanted: dict[str, bool] = {}  # whether the remote may be asked
        for md5, lock, lacking in rows.fetchall():
            if lacking != 0 and (held := self._held.get(lock)):
                trusted = held.in_work_tree or any(commit.trusted for commit in held.commits)
                wanted[md5] = wanted.get(md5, False) or (trusted and (lacking is None or again))
        asked = [md5 for md5, far in wanted.items() if far or objects.place(cache, md5).is_file()]
        there = objects.fetch_objects(asked, say, self._root) if asked else {}
        lists = {md5: objects.listed(there[md5]) if md5 in there else None for md5 in wanted}
        needed = {file for md5, far in wanted.items() if far for _, file in lists[md5] or ()}
        if absent := sorted(file for file in needed if not objects.place(cache, file).is_file()):
            objects.fetch_objects(absent, say, self._root)
        with _transaction(self._sql):
            for md5, listed in lists.items():
                whole = listed is not None and all(objects.place(cache, file).is_file() for _, file in listed)
                self._sql.execute("INSERT OR REPLACE INTO lists VALUES (?, ?)", (md5, not whole))
                entries = [(md5, name, file) for name, file in listed or ()]
                self._sql.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", entries)

    def _read_pictures(self) -> None:
        """Whatever a list names and is not yet read; what carries no provenance is known by its file alone."""
        rows = self._sql.execute(
            "SELECT DISTINCT file FROM names WHERE file NOT IN (SELECT file FROM pictures)"
        )
        cache = storage.cache(self._root)
        new = sorted(file for (file,) in rows.fetchall() if objects.place(cache, file).is_file())
        if not new:
            return
        with Progress("ledger", len(new), "pictures") as progress:
            for file in new:
                row = _read_picture(objects.place(cache, file), file)
                with _transaction(self._sql):
                    self._sql.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", (file, *row))
                progress.advance()

    def _read_models(self) -> None:
        """SHA-256s of models in the cache: champions are named by it."""
        cache = storage.cache(self._root)
        rows = self._sql.execute(
            "SELECT DISTINCT model FROM locks WHERE model IS NOT NULL AND model NOT IN (SELECT md5 FROM models)"
        )
        with _transaction(self._sql):
            for (md5,) in rows.fetchall():
                told = self._sql.execute(
                    "SELECT told FROM pictures WHERE model = ? AND told IS NOT NULL", (md5,)
                )
                path = objects.place(cache, md5)
                if row := told.fetchone():
                    sha256 = Provenance.model_validate_json(row[0]).model.sha256
                elif path.is_file() and digest(path, "md5") == md5:
                    sha256 = digest(path)
                else:
                    continue
                self._sql.execute("INSERT INTO models VALUES (?, ?)", (md5, sha256))

    def _pictures(self, where: str, value: str) -> list[Picture]:
        rows = self._sql.execute(
            f"SELECT place, name, file, told, lock FROM pictures JOIN names USING (file) "
            f"JOIN folders ON folders.md5 = names.folder WHERE told IS NOT NULL AND {where}",
            (value,),
        )
        found: dict[tuple[str, str, str], list[Held]] = {}
        for place, name, file, told, lock in rows:
            if held := self._held.get(lock):
                found.setdefault((f"{place}/{name}", file, told), []).append(held)
        pictures = []
        for (path, file, told), holding in found.items():
            commits, in_work_tree = _all(holding)
            made = Provenance.model_validate_json(told)
            pictures.append(Picture(path, file, made, commits, in_work_tree))
        return sorted(pictures, key=lambda picture: (not picture.in_work_tree, _age(picture.commits)))

    def _model(self, md5: str, holding: list[Held]) -> Model:
        row = self._sql.execute("SELECT sha256 FROM models WHERE md5 = ?", (md5,)).fetchone()
        sha256 = row[0] if row else None
        reigns = [reign for reign in self._reigns if reign.generator_sha256 == sha256]
        commits, in_work_tree = _all(holding)
        ids = [lock.id for lock in holding]
        return Model(
            md5, sha256, commits, in_work_tree,
            tuple(dict.fromkeys(reign.version for reign in reigns)),
            self._count(ids, md5, "data/artworks"), self._count(ids, md5, "data/prints"), self._lacking(ids),
        )  # fmt: skip

    def _count(self, locks: Iterable[str], model: str, place: str) -> int:
        files: set[str] = set()
        for lock in locks:
            rows = self._sql.execute(
                "SELECT file FROM folders JOIN names ON names.folder = folders.md5 JOIN pictures USING (file) "
                "WHERE lock = ? AND place = ? AND model = ?", (lock, place, model),
            )  # fmt: skip
            files |= {file for (file,) in rows}
        return len(files)

    def _lacking(self, locks: Iterable[str]) -> int:
        folders: set[str] = set()
        for lock in locks:
            rows = self._sql.execute(
                "SELECT md5 FROM folders JOIN lists USING (md5) WHERE lock = ? AND lacking", (lock,)
            )
            folders |= {md5 for (md5,) in rows}
        return len(folders)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into sentences. No file is deleted: a busy, full or read-only one is not damaged."""
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                mend = "another process is writing to it: run again when that has ended"
            case sqlite3.SQLITE_FULL:
                mend = "the disk is full: free some space, then run again"
            case code if code in DAMAGE:
                mend = "delete it: the next run reads git's history and DVC's cache again"
            case _:
                mend = "see to the disk, then run again"
        raise AtelierError(f"{path}: {error}; {mend}") from None


def _connect(path: Path, say: Say) -> sqlite3.Connection:
    """Open the ledger and make its tables; a damaged file and one of another version are replaced by an empty one."""
    if not _is_writable(path):
        say(f"{path} cannot be written, so what is read now is read again the next time")
        return _copied(path)
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # it can be made again
        _make_tables(connection)
    except sqlite3.Error as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGE:
            raise
        path.unlink(missing_ok=True)
        return _connect(path, say)
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Create the tables unless this version's are there; those of another version are dropped."""
    if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
        return
    with _transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
            return  # another process made them while this one waited
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        for (name,) in names:
            connection.execute(f'DROP TABLE "{name}"')
        for statement in filter(str.strip, TABLES.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the file from the first statement on, so that what is read before a write is still true at the write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _is_writable(path: Path) -> bool:
    """Whether SQLite can write the file and its journal beside it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        return not path.exists() or os.access(path, os.W_OK)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise


def _copied(path: Path) -> sqlite3.Connection:
    """A copy of the ledger in memory; an empty one where it cannot be read."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as kept,
    ):
        kept.backup(connection)
    _make_tables(connection)
    return connection


def _read_picture(path: Path, md5: str) -> tuple[str | None, str | None, str | None]:
    """The digest of its pixels, its model's and its provenance; nothing where it is no picture of ours, or damaged."""
    try:
        facts = provenance.read_provenance(path) if digest(path, "md5") == md5 else None
    except (AtelierError, OSError):
        facts = None
    if facts is None or facts.pixels is None:
        return None, None, None
    return facts.pixels.sha256, facts.model.md5, provenance.canonical_json(facts)


def _all(locks: Iterable[Held]) -> tuple[tuple[Commit, ...], bool]:
    """Every commit that holds one of the locks, newest first, and whether the work tree does."""
    locks = list(locks)
    commits = {commit.id: commit for lock in locks for commit in lock.commits}
    newest = sorted(commits.values(), key=lambda commit: commit.age)
    return tuple(newest), any(lock.in_work_tree for lock in locks)


def _age(commits: tuple[Commit, ...]) -> int:
    return commits[0].age if commits else -1
