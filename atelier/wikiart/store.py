"""Answers of one site, kept in one file from run to run. Knows neither HTTP nor what an answer means.

Not requests-cache or CacheControl: they keep what requests has already read and unpacked, and here a body must be
bounded before that; and they ask the clock what is still fresh, where here the snapshot of params.yaml decides, so
that the same params give the same catalog.
"""

import hashlib
import sqlite3
import threading
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.text import slug

LAYOUT = 1  # of the table: another number is another file
CREATE = """
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, body BLOB, etag TEXT, last_modified TEXT, snapshot TEXT, record TEXT, gone TEXT
) WITHOUT ROWID"""
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a path was answered: a body, or `gone`, the reason why there will be none.

    `snapshot` is the one at which it was last confirmed; `record` stands for what a list said of the work whose
    details these are.
    """

    body: bytes
    snapshot: str
    etag: str = ""
    last_modified: str = ""
    record: str = ""
    gone: str = ""


class Store:
    """The kept answers by path, for any number of threads; `path` None keeps them in memory alone.

    What is put is safe from a kill at once (from a power cut, after a moment). A file that is damaged is set aside,
    `tell` gets a sentence, and an empty one takes its place.
    """

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda sentence: None) -> None:
        self._path, self._tell = path, tell
        self._lock = threading.Lock()
        self._connection = self._open()

    @classmethod
    def of_site(cls, folder: Path, base_url: str, tell: Callable[[str], None] = print) -> "Store":
        """The file of one site below `folder`."""
        name = f"{slug(base_url)[:60]}-{hashlib.sha256(base_url.encode()).hexdigest()[:8]}"
        return cls(folder / f"{name}.v{LAYOUT}.sqlite", tell)

    def get(self, path: str) -> Kept | None:
        """The answer kept for `path`, or None."""
        row = self._run(
            "SELECT body, snapshot, etag, last_modified, record, gone FROM answers WHERE path = ?", (path,)
        )
        if row is None:
            return None
        body, *others = row
        try:
            return Kept(zlib.decompress(body), *others)
        except (zlib.error, TypeError):
            return None

    def put(self, path: str, answer: Kept) -> None:
        """Keep an answer in the place of an earlier one."""
        self._run(
            "INSERT OR REPLACE INTO answers (path, body, snapshot, etag, last_modified, record, gone) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                path, zlib.compress(answer.body, 6), answer.snapshot, answer.etag, answer.last_modified,
                answer.record, answer.gone,
            ),
        )  # fmt: skip

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        """The first row of what a statement gives; once more, on an empty file, where this one is damaged."""
        with self._lock:
            try:
                return self._execute(statement, values)
            except sqlite3.DatabaseError as error:
                self._set_aside(error)
                return self._execute(statement, values)

    def _execute(self, statement: str, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        with closing(self._connection.execute(statement, values)) as cursor:
            row: tuple[Any, ...] | None = cursor.fetchone()
        return row

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return self._connection

    def _connected(self) -> sqlite3.Connection:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        # autocommit: every answer is a transaction; _lock keeps the threads apart
        connection = sqlite3.connect(
            self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=30
        )
        try:
            # with a log beside it a commit is an append without a sync: a kill loses nothing, a power cut little
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(CREATE)
            connection.execute("SELECT count(*) FROM (SELECT path FROM answers LIMIT 1)")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename a damaged file and begin an empty one. Raises AtelierError for trouble of another kind."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._path is None or code not in DAMAGE:
            raise AtelierError(
                f"{self._path or 'memory'}: {error}: see to the disk, then run again"
            ) from None
        if hasattr(self, "_connection"):
            self._connection.close()
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        for ending in ("-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        self._tell(
            f"the kept answers in {self._path} are damaged ({error}); set aside as {aside.name}, asking again"
        )
        self._connection = self._connected()
