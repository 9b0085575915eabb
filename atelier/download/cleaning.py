"""How much of the arrived pictures no recent catalog names, and their removal."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from atelier.data.database import Database
from atelier.download.arrivals import CREATE, EARLIER_SUFFIX, LAYOUT

UNNAMED = "FROM arrivals LEFT JOIN named USING (key) WHERE coalesce(day, '') < ?"
RECENT_DAYS = 30  # a catalog is recent that a download used within so many days
DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Kept:
    """A file of arrived pictures: what it holds in all, and what no catalog has named since the day asked about.

    A file that this version does not read, of an earlier version or damaged, is one of no pictures, and its day is
    that of its last change.
    """

    path: Path
    works: int
    bytes: int
    unnamed_works: int
    unnamed_bytes: int


def since(directory: Path, days: int) -> date:
    """The day from which on a catalog is recent: `days` ago, or the day of the last download where that is longer ago.

    So the works of the last download are never dropped, however long ago it was.
    """
    named = (date.fromisoformat(day) for path in _databases(directory) for day in _days(path))
    return min(datetime.now(UTC).date() - timedelta(days), max(named, default=date.max))


def survey(directory: Path, since: date) -> list[Kept]:
    """What is kept in `directory`, file by file; changes nothing. Raises sqlite3.Error where a file cannot be read."""
    found = []
    for path in _databases(directory):
        with closing(_read_only(path)) as connection:
            works, size = connection.execute(
                "SELECT count(*), coalesce(sum(length(content)), 0) FROM arrivals"
            ).fetchone()
            unnamed = connection.execute(
                f"SELECT count(*), coalesce(sum(length(content)), 0) {UNNAMED}", (since.isoformat(),)
            ).fetchone()
        found.append(Kept(path, works, size, *unnamed))
    for path in _others(directory):
        size, changed = path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        found.append(Kept(path, 0, size, 0, size if changed < since else 0))
    return found


def drop(directory: Path, since: date) -> None:
    """Delete what `survey` counts as unnamed, and give its space back to the disk."""
    for kept in survey(directory, since):
        if kept.path in _others(directory):
            if kept.unnamed_bytes:
                kept.path.unlink()
        elif kept.unnamed_works:
            database = Database(kept.path, CREATE, "the kept pictures")
            with closing(database):
                day = since.isoformat()
                database.rows(f"DELETE FROM arrivals WHERE key IN (SELECT key {UNNAMED})", (day,))
                database.rows("DELETE FROM named WHERE day < ?", (day,))
                database.shrink()


def _databases(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*.v{LAYOUT}.sqlite"))


def _others(directory: Path) -> list[Path]:
    """Files that only earlier versions wrote, and damaged ones that were set aside."""
    return sorted(path for path in directory.glob("*") if path.suffix in (EARLIER_SUFFIX, DAMAGED_SUFFIX))


def _days(path: Path) -> Iterator[str]:
    with closing(_read_only(path)) as connection:
        yield from (day for (day,) in connection.execute("SELECT max(day) FROM named") if day)


def _read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves no files behind: without a log beside the file, nobody is writing to it."""
    logged = path.with_name(f"{path.name}-wal").exists()
    return sqlite3.connect(f"{path.absolute().as_uri()}?{'mode=ro' if logged else 'immutable=1'}", uri=True)
