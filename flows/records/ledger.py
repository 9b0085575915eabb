"""The ledger: every picture that was made, the model that made it, and the commits and tags that name the model.

`.atelier/ledger.sqlite` caches what git's history and DVC's objects say, and may be deleted at any time. Commits are
read from git each time; a dvc.lock, a list of a folder's files, or a picture is read once.
"""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from atelier import paths
from atelier.data.database import explained, is_damage
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.progress import Progress
from atelier.provenance import facts
from atelier.provenance.facts import Provenance
from flows.records import history
from flows.records.history import Champion, Commit, LockVersion
from flows.repo import storage
from flows.runtime.process import Log

SCHEMA_VERSION = 2  # a file with another one is built again
WAIT_S = 60.0  # for another process that writes to the file
# as dvc.lock has them
GENERATOR, *PLACES = (path.as_posix() for path in (paths.GENERATOR, paths.ARTWORKS, paths.PRINTS))
TABLES = """
CREATE TABLE locks (id TEXT PRIMARY KEY, model TEXT);
CREATE TABLE folders (md5 TEXT, lock TEXT, place TEXT, PRIMARY KEY (md5, lock, place));
CREATE TABLE lists (md5 TEXT PRIMARY KEY, lacking INTEGER);
CREATE TABLE names (folder TEXT, name TEXT, file TEXT, PRIMARY KEY (folder, name));
CREATE TABLE pictures (file TEXT PRIMARY KEY, pixels TEXT, model TEXT, provenance TEXT);
CREATE TABLE models (md5 TEXT PRIMARY KEY, sha256 TEXT);
CREATE INDEX by_file ON names (file);
CREATE INDEX by_folder ON folders (md5);
CREATE INDEX by_pixels ON pictures (pixels);
"""
COUNT_FILES = (
    "SELECT file FROM folders JOIN names ON names.folder = folders.md5 JOIN pictures USING (file) "
    "WHERE lock = ? AND place = ? AND model = ?"
)
COUNT_LACKING = "SELECT md5 FROM folders JOIN lists USING (md5) WHERE lock = ? AND lacking"


@dataclass(frozen=True, slots=True)
class RecordedPicture:
    """A picture that was made: its path in the studio, and the commits whose dvc.lock names its folder."""

    path: str
    provenance: Provenance
    commits: tuple[Commit, ...]
    in_work_tree: bool


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A model that was made, the commits that name it, newest first, and the number of its known pictures.

    `versions` are its versions as champion; `lacking` counts folders of its pictures of which files are missing.
    """

    md5: str
    sha256: str | None
    commits: tuple[Commit, ...]
    in_work_tree: bool
    versions: tuple[str, ...]
    artworks: int
    prints: int
    lacking: int


@contextmanager
def opened(log: Log, root: Path = Path(), *, again: bool = False) -> Iterator["Ledger"]:
    """Open the ledger of the studio at `root` and bring it up to date.

    `again` asks the remote once more for what it lacked. New entries are kept in memory if the file cannot be written.
    Raises AtelierError if another process holds the file for longer than WAIT_S, or the file is damaged.
    """
    path = root / paths.LEDGER
    try:
        with closing(_connect(path, log)) as connection:
            ledger = Ledger(connection, root)
            ledger.update(log, again)
            yield ledger
    except sqlite3.Error as error:
        raise explained(error, path) from None


class Ledger:
    """The entries of an open ledger, as of the last `update`."""

    def __init__(self, connection: sqlite3.Connection, root: Path) -> None:
        self._sql, self._root = connection, root
        self._cache = storage.cache(root)
        self._versions: dict[str, LockVersion] = {}
        self._champions: list[Champion] = []

    def update(self, log: Log, again: bool) -> None:
        """Read new versions of dvc.lock, lists of the folders they name, and the pictures in those; see `opened`."""
        known = {id for (id,) in self._sql.execute("SELECT id FROM locks")}
        versions = history.lock_versions(self._root)
        self._versions = {version.id: version for version in versions}
        self._champions = history.champions(self._root)
        for lock in history.read_locks(self._root, [each for each in versions if each.id not in known]):
            outs = [(stage.outs.get(place, ""), place) for stage in lock.stages.values() for place in PLACES]
            folders = [(md5, lock.id, place) for md5, place in outs if md5.endswith(".dir")]
            with _transaction(self._sql):
                self._sql.execute("INSERT OR REPLACE INTO locks VALUES (?, ?)", (lock.id, lock.md5_of(GENERATOR)))
                self._sql.executemany("INSERT OR IGNORE INTO folders VALUES (?, ?, ?)", folders)
        self._read_lists(log, again)
        self._read_pictures()
        self._read_models()

    def of_pixels(self, sha256: str) -> list[RecordedPicture]:
        """The pictures whose pixels have this SHA-256, those of the latest commits first."""
        return self._pictures("pixels = ?", sha256)

    def of_file(self, md5: str) -> list[RecordedPicture]:
        """The pictures whose file had this MD5, those of the latest commits first."""
        return self._pictures("pictures.file = ?", md5)

    def models(self) -> list[RecordedModel]:
        """Every model that a commit or the work tree names, newest first."""
        by_model: dict[str, list[LockVersion]] = {}
        for id, model in self._sql.execute("SELECT id, model FROM locks WHERE model IS NOT NULL"):
            if version := self._versions.get(id):
                by_model.setdefault(model, []).append(version)
        models = [self._model(md5, versions) for md5, versions in by_model.items()]
        return sorted(models, key=lambda model: (not model.in_work_tree, _age(model.commits), model.md5))

    def lacking(self) -> int:
        """The number of folders of pictures that are neither complete in the cache nor at the remote."""
        return int(self._sql.execute("SELECT count(*) FROM lists WHERE lacking").fetchone()[0])

    def _read_lists(self, log: Log, again: bool) -> None:
        """Read the lists of new folders, and of folders that were lacking. Only trusted commits cause a download."""
        folders = "SELECT DISTINCT folders.md5, lock, lacking FROM folders LEFT JOIN lists USING (md5)"
        may_download: dict[str, bool] = {}
        for md5, lock, lacking in self._sql.execute(folders).fetchall():
            if lacking != 0 and (version := self._versions.get(lock)):
                may = version.trusted and (lacking is None or again)
                may_download[md5] = may_download.get(md5, False) or may
        wanted = [md5 for md5, may in may_download.items() if may or self._in_cache(md5)]
        fetched = storage.fetch_objects(wanted, log, self._root) if wanted else {}
        lists = {md5: storage.listed(fetched[md5]) if md5 in fetched else None for md5 in may_download}
        files = {file for md5, may in may_download.items() if may for _, file in lists[md5] or ()}
        if absent := sorted(file for file in files if not self._in_cache(file)):
            storage.fetch_objects(absent, log, self._root)
        with _transaction(self._sql):
            for md5, listed in lists.items():
                complete = listed is not None and all(self._in_cache(file) for _, file in listed)
                self._sql.execute("INSERT OR REPLACE INTO lists VALUES (?, ?)", (md5, not complete))
                entries = [(md5, name, file) for name, file in listed or ()]
                self._sql.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", entries)

    def _read_pictures(self) -> None:
        """Read the pictures that a list names and that are new in the cache."""
        unread = "SELECT DISTINCT file FROM names WHERE file NOT IN (SELECT file FROM pictures)"
        new = sorted(file for (file,) in self._sql.execute(unread).fetchall() if self._in_cache(file))
        if not new:
            return
        with Progress("ledger", len(new), "pictures") as progress:
            for file in new:
                row = _read_picture(storage.object_path(self._cache, file), file)
                with _transaction(self._sql):
                    self._sql.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", (file, *row))
                progress.advance()

    def _read_models(self) -> None:
        """Find the SHA-256 of new models, by which champion.json names them: in a picture's provenance or the file."""
        new = "SELECT DISTINCT model FROM locks WHERE model IS NOT NULL AND model NOT IN (SELECT md5 FROM models)"
        provenance = "SELECT provenance FROM pictures WHERE model = ? AND provenance IS NOT NULL"
        with _transaction(self._sql):
            for (md5,) in self._sql.execute(new).fetchall():
                path = storage.object_path(self._cache, md5)
                if row := self._sql.execute(provenance, (md5,)).fetchone():
                    sha256 = Provenance.model_validate_json(row[0]).model.sha256
                elif path.is_file() and digest(path, "md5") == md5:
                    sha256 = digest(path)
                else:
                    continue
                self._sql.execute("INSERT INTO models VALUES (?, ?)", (md5, sha256))

    def _in_cache(self, md5: str) -> bool:
        return storage.object_path(self._cache, md5).is_file()

    def _pictures(self, where: str, value: str) -> list[RecordedPicture]:
        statement = (
            "SELECT place, name, file, provenance, lock FROM pictures JOIN names USING (file) "
            f"JOIN folders ON folders.md5 = names.folder WHERE provenance IS NOT NULL AND {where}"
        )
        found: dict[tuple[str, str, str], list[LockVersion]] = {}
        for place, name, file, provenance, lock in self._sql.execute(statement, (value,)):
            if version := self._versions.get(lock):
                found.setdefault((f"{place}/{name}", file, provenance), []).append(version)
        pictures = [
            RecordedPicture(path, Provenance.model_validate_json(provenance), *_commits(versions))
            for (path, _, provenance), versions in found.items()
        ]
        return sorted(pictures, key=lambda picture: (not picture.in_work_tree, _age(picture.commits)))

    def _model(self, md5: str, versions: list[LockVersion]) -> RecordedModel:
        (sha256,) = self._sql.execute("SELECT sha256 FROM models WHERE md5 = ?", (md5,)).fetchone() or (None,)
        titles = dict.fromkeys(each.version for each in self._champions if each.generator_sha256 == sha256)

        def count(statement: str, *values: str) -> int:  # distinct rows that it gives for any of the versions
            return len({row for each in versions for row in self._sql.execute(statement, (each.id, *values))})

        artworks, prints = (count(COUNT_FILES, place, md5) for place in PLACES)
        return RecordedModel(md5, sha256, *_commits(versions), tuple(titles), artworks, prints, count(COUNT_LACKING))


def _connect(path: Path, log: Log) -> sqlite3.Connection:
    """Open the file and make its tables. A damaged file, but no busy or full one, is replaced by an empty one."""
    if not _is_writable(path):  # another user's studio, or a read-only disk
        log(f"{path} cannot be written, so what is read now is read again the next time")
        return _copy_to_memory(path)
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # it can be made again
        _make_tables(connection)
    except sqlite3.Error as error:
        connection.close()
        if not is_damage(error):
            raise
        path.unlink(missing_ok=True)
        return _connect(path, log)
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Create the tables, unless the file has this schema version; those of another version are dropped."""
    if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,):
        return
    with _transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,):
            return  # another process made them while this one waited
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        for (name,) in connection.execute(tables).fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        for statement in filter(str.strip, TABLES.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that locks the file at once, so that what is read in it stays true until it is committed."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        yield


def _is_writable(path: Path) -> bool:
    """Whether SQLite can write the file, and its journal beside it."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _copy_to_memory(path: Path) -> sqlite3.Connection:
    """A copy of the ledger in memory; an empty one if the file cannot be read."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as file:
        file.backup(connection)
    _make_tables(connection)
    return connection


def _read_picture(path: Path, md5: str) -> tuple[str | None, str | None, str | None]:
    """The SHA-256 of its pixels, the MD5 of its model and its provenance; all None if it has none, or is damaged."""
    try:
        made = facts.read_provenance(path) if digest(path, "md5") == md5 else None
    except (AtelierError, OSError):
        made = None
    if made is None or made.pixels is None:
        return None, None, None
    return made.pixels.sha256, made.model.md5, facts.canonical_json(made)


def _commits(versions: Collection[LockVersion]) -> tuple[tuple[Commit, ...], bool]:
    """All commits that contain one of the versions, newest first, and whether the work tree has one."""
    commits = {commit for version in versions for commit in version.commits}
    newest = tuple(sorted(commits, key=lambda commit: commit.age))
    return newest, any(version.in_work_tree for version in versions)


def _age(commits: tuple[Commit, ...]) -> int:
    return commits[0].age if commits else -1
