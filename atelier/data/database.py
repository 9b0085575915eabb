"""A SQLite file that many threads and processes write to, and that replaces itself where it is damaged."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError

DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY = "another process is writing to it: run again when that has ended"
SENTENCES = {  # by SQLite's primary result code
    sqlite3.SQLITE_FULL: "the disk is full; what it has is kept: free some space, then run again",
    sqlite3.SQLITE_READONLY: "you may not write to it: see who owns it and its folder, then run again",
    sqlite3.SQLITE_BUSY: f"database is locked; {BUSY}",
    sqlite3.SQLITE_LOCKED: f"a table is locked; {BUSY}",
    **dict.fromkeys(DAMAGE_CODES, "it is damaged: delete it, the next run makes it again"),
}
SHRINK_PAGES = 10_000  # of 4 KiB
BUSY_TIMEOUT_S = 30.0  # for a statement to wait for another process

Row = tuple[Any, ...]


class Database:
    """Tables in the file at `path`, or in memory where it is None.

    `create` are the statements that create the tables where they are missing. Each statement is a transaction: what
    it wrote survives a kill at once, and a power cut after a moment. A damaged file is renamed to `<name>.damaged` and
    replaced by a new one with all rows that can still be read; `say` is called with a sentence about it, in which
    `what` names the content, for example "the cached responses".
    """

    def __init__(self, path: Path | None, create: Sequence[str], what: str, say: Callable[[str], None] = print) -> None:
        self.path, self._create, self._what, self._say = path, create, what, say
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection
        self._open()

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Return a statement's rows. Raises AtelierError where the disk is full or the file cannot be used."""
        return self._run(lambda: self._connection.execute(statement, values).fetchall())

    def row(self, statement: str, values: Sequence[object] = ()) -> Row | None:
        """Return the first row of a statement, or None."""
        return next(iter(self.rows(statement, values)), None)

    def write_all(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of `rows`, in one transaction."""
        rows = list(rows)

        def write() -> list[Row]:
            with self._connection:  # commits, or rolls back
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(statement, rows)
            return []

        self._run(write)

    def shrink(self) -> None:
        """Return the space of deleted rows to the disk, in steps that need little space themselves."""
        [(free,)] = self.rows("PRAGMA freelist_count")
        before = free + 1
        while 0 < free < before:  # no fewer: created without auto_vacuum, or read by another process
            self.rows(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
            self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            before, [(free,)] = free, self.rows("PRAGMA freelist_count")

    def close(self) -> None:
        """Close the file. Any call after this one raises AtelierError."""
        with self._lock:
            self._connection.close()

    def _run(self, work: Callable[[], list[Row]]) -> list[Row]:
        """Run `work`; where the file is damaged, replace it and run `work` again."""
        with self._lock:
            # another process may have replaced the file already: then it only has to be opened again
            for repair in (lambda _: self._open(), self._replace_damaged):
                try:
                    return work()
                except sqlite3.Error as error:
                    self._raise_unless_damage(error)
                    self._connection.close()
                    repair(error)
            return work()

    def _open(self) -> None:
        try:
            self._connection = self._connect()
        except sqlite3.Error as error:
            self._replace_damaged(error)

    def _connect(self) -> sqlite3.Connection:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        # isolation_level None: every statement is a transaction; self._lock keeps the threads apart
        connection = sqlite3.connect(
            self.path or ":memory:", isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
        )
        try:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if not pages:  # auto_vacuum, which `shrink` needs, can only be set on a new file
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            for statement in self._create:
                connection.execute(statement)
            for name in _table_names(connection):  # finds most damage before anything is written
                connection.execute(f'SELECT count(*) FROM (SELECT 1 FROM "{name}" LIMIT 1)')
        except BaseException:
            connection.close()
            raise
        return connection

    def _replace_damaged(self, error: sqlite3.Error) -> None:
        """Rename a damaged file, create a new one and copy what can be read. Raises AtelierError for other errors."""
        self._raise_unless_damage(error)
        assert self.path
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self._connection = self._connect()
        rescued = sum(self._rescue(aside, table) for table in _table_names(self._connection))
        self._say(
            f"{self._what} in {self.path} are damaged ({error}); set aside as {aside.name}, {rescued:,} entries of it "
            "could be copied, the others are fetched again"
        )

    def _rescue(self, aside: Path, table: str) -> int:
        """Copy a table's rows from a damaged file, from both ends up to the damage, and return how many were copied."""
        rescued = 0
        with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?immutable=1", uri=True)) as damaged:
            for order in ("ASC", "DESC"):
                try:
                    for row in damaged.execute(f'SELECT * FROM "{table}" ORDER BY 1 {order}'):
                        places = ", ".join("?" * len(row))
                        statement = f'INSERT OR IGNORE INTO "{table}" VALUES ({places})'
                        rescued += self._connection.execute(statement, row).rowcount
                    break
                except sqlite3.DatabaseError as error:
                    self._raise_unless_damage(error)
        return rescued

    def _raise_unless_damage(self, error: sqlite3.Error) -> None:
        if self.path is None or not is_damage(error):
            raise explained(error, self.path) from None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file is damaged, rather than busy, full or not to be written."""
    return _code(error) in DAMAGE_CODES


def explained(error: sqlite3.Error, path: Path | None) -> AtelierError:
    """The error for people about the database at `path`: what is wrong with it, and what to do."""
    sentence = SENTENCES.get(_code(error), f"{error}: see to the disk, then run again")
    return AtelierError(f"{path or 'memory'}: {sentence}")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the Python module's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _table_names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging: a commit is an append without a sync. A kill loses nothing, a power cut little.

    Tries again for BUSY_TIMEOUT_S: SQLite does not wait where two processes open a new file at the same moment.
    """
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
