"""What has been downloaded, kept in SQLite so that a killed or repeated download fetches nothing twice.

There is one file for each `download.size_px`, outside DVC's outputs, which any number of threads and processes may use
at once. At the end of the file: how much of it no recent catalog uses, and its removal (`atelier clean`).
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from atelier.data.catalog import DownloadRecord, Status
from atelier.data.database import Database
from atelier.images import missing_decoder
from atelier.images.verify import ImageLimits

LAYOUT_VERSION = 1  # of the tables, in the file's name
CREATE_TABLES = (
    "CREATE TABLE IF NOT EXISTS arrivals (key TEXT PRIMARY KEY, facts TEXT NOT NULL, content BLOB NOT NULL)",
    # when a catalog last named a key: in a table of its own, or SQLite would write the picture again with the day
    "CREATE TABLE IF NOT EXISTS named (key TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID",
)
VERIFIER_VERSION = 2  # raise it when `images.verify` accepts more: what earlier versions refused is fetched again
RECENT_DAYS = 30  # a catalog is recent if a download used it within so many days
DAMAGED_SUFFIX = ".damaged"
OLD_SUFFIX = ".arrivals"  # of the files of earlier versions, which are not read any more
UNUSED = "FROM arrivals LEFT JOIN named USING (key) WHERE coalesce(day, '') < ?"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a picture, and the shorter side to which larger ones are reduced (None: kept as they came)."""

    image: ImageLimits
    max_bytes: int
    size_px: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What fetching a work gave: a status, and for "ok" the picture's bytes and measures.

    `came_px` and `came_bytes` are those of the response before it was reduced. `original_px` is the size of the site's
    original, of which a smaller variant may have been fetched.
    """

    status: Status
    reason: str = ""
    extension: str = ""
    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
    original_px: tuple[int, int] = (0, 0)
    came_px: tuple[int, int] = (0, 0)
    came_bytes: int = 0
    content: bytes = b""

    def record(self, id: str) -> DownloadRecord:
        """The row of downloads.parquet. The reason of a status "ok" is a note on the picture's colours or pages."""
        record = DownloadRecord(id=id, status=self.status, reason=self.reason)
        if self.status != "ok":
            return record
        measures = {name: getattr(self, name) for name in ("sha256", "phash", "width", "height")}
        return replace(record, **measures, bytes=len(self.content))


class Arrivals(AbstractContextManager["Arrivals"]):
    """The arrivals kept in `directory` for one size, as far as they satisfy `limits`."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.path = directory / f"{limits.size_px or 'original'}.v{LAYOUT_VERSION}.sqlite"
        self.limits = limits
        self._database = Database(self.path, CREATE_TABLES, "the kept pictures")

    def __len__(self) -> int:
        [(count,)] = self._database.rows("SELECT count(*) FROM arrivals")
        return int(count)

    def load(self, key: str) -> Arrival | None:
        """Return the arrival of `key`; None if there is none, it is damaged, or it must be fetched for other limits."""
        row = self._database.row("SELECT facts, content FROM arrivals WHERE key = ?", (_digest(key),))
        parsed = row and _parse_facts(row[0])
        if not row or not parsed:
            return None
        judged_by, arrival = parsed
        if arrival.status != "ok":
            return arrival if judged_by == self._limits_key() else None
        image, (width, height) = self.limits.image, arrival.came_px
        is_large_enough = min(arrival.original_px) >= image.min_side_px
        is_small_enough = width * height <= image.max_pixels and arrival.came_bytes <= self.limits.max_bytes
        is_intact = hashlib.sha256(row[1]).hexdigest() == arrival.sha256
        return replace(arrival, content=row[1]) if is_large_enough and is_small_enough and is_intact else None

    def save(self, key: str, arrival: Arrival) -> None:
        """Keep `arrival` under `key`, replacing an earlier one. Raises AtelierError if the disk is full."""
        facts = {name: value for name, value in asdict(arrival).items() if name != "content"}
        self._database.rows(
            "INSERT OR REPLACE INTO arrivals (key, facts, content) VALUES (?, ?, ?)",
            (_digest(key), json.dumps({"judged_by": self._limits_key(), "arrival": facts}), arrival.content),
        )

    def mark_used(self, keys: Iterable[str]) -> None:
        """Record that today's catalog uses these keys, so that `atelier clean` keeps them."""
        today = datetime.now(UTC).date().isoformat()
        self._database.write_all(
            "INSERT INTO named VALUES (?1, ?2) ON CONFLICT DO UPDATE SET day = ?2 WHERE day <> ?2",
            [(_digest(key), today) for key in keys],
        )

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _limits_key(self) -> list[int]:
        """What a refusal depends on: refusals by other limits, or without pillow-heif, are fetched again."""
        can_read_heif = int(not missing_decoder("HEIF"))
        image = self.limits.image
        return [VERIFIER_VERSION, can_read_heif, image.min_side_px, image.max_pixels, self.limits.max_bytes]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _parse_facts(text: str) -> tuple[list[int], Arrival] | None:
    """Parse the limits key and the arrival without its content; None if the text is damaged."""
    try:
        facts = json.loads(text)
        arrival = facts["arrival"]
        sizes = {name: (int(arrival[name][0]), int(arrival[name][1])) for name in ("original_px", "came_px")}
        return list(facts["judged_by"]), Arrival(**{**arrival, **sizes})
    except (ValueError, TypeError, KeyError, IndexError):
        return None


@dataclass(frozen=True)
class FileUsage:
    """A file of arrivals: its works and bytes, and those that no recent catalog uses.

    A damaged file, or one of an earlier version, counts as unused if it was last changed before that time.
    """

    path: Path
    works: int
    bytes: int
    unused_works: int
    unused_bytes: int


def recent_since(directory: Path, days: int) -> date:
    """The first day of recent catalogs: `days` ago, or the day of the last download if that is earlier.

    So the works of the last download are never removed.
    """
    since = datetime.now(UTC).date() - timedelta(days)
    last_days = []
    for path in _databases(directory):
        with closing(_connect_read_only(path)) as connection:
            last_days += [day for (day,) in connection.execute("SELECT max(day) FROM named") if day]
    return min(since, date.fromisoformat(max(last_days))) if last_days else since


def usage(directory: Path, since: date) -> list[FileUsage]:
    """The usage of each file in `directory` by catalogs since that day. Raises sqlite3.Error for unreadable files."""
    files = []
    for path in _databases(directory):
        with closing(_connect_read_only(path)) as connection:
            works_and_bytes = "SELECT count(*), coalesce(sum(length(content)), 0)"
            [kept] = connection.execute(f"{works_and_bytes} FROM arrivals")
            [unused] = connection.execute(f"{works_and_bytes} {UNUSED}", (since.isoformat(),))
        files.append(FileUsage(path, *kept, *unused))
    for path in _other_files(directory):
        size, changed = path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        files.append(FileUsage(path, 0, size, 0, size if changed < since else 0))
    return files


def remove_unused(directory: Path, since: date) -> None:
    """Delete what `usage` counts as unused, and return its space to the disk."""
    for file in usage(directory, since):
        if file.path in _other_files(directory):
            if file.unused_bytes:
                file.path.unlink()
        elif file.unused_works:
            with closing(Database(file.path, CREATE_TABLES, "the kept pictures")) as database:
                day = since.isoformat()
                database.rows(f"DELETE FROM arrivals WHERE key IN (SELECT key {UNUSED})", (day,))
                database.rows("DELETE FROM named WHERE day < ?", (day,))
                database.shrink()


def _databases(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*.v{LAYOUT_VERSION}.sqlite"))


def _other_files(directory: Path) -> list[Path]:
    """Files of earlier versions, and damaged ones that were renamed."""
    return sorted(path for path in directory.glob("*") if path.suffix in (OLD_SUFFIX, DAMAGED_SUFFIX))


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Connect without creating files: without a write-ahead log beside the file, no process is writing to it."""
    has_log = path.with_name(f"{path.name}-wal").exists()
    return sqlite3.connect(f"{path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}", uri=True)
