"""The pictures that have arrived, and what became of the other works: what a killed download need not ask for again.

They lie outside DVC's outputs, in one SQLite file for each `download.size_px`. Any number of threads and processes may
use it at once.

How much of the arrived pictures no recent catalog names, and their removal.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atelier.data.catalog import DownloadRecord, Status
from atelier.data.database import Database
from atelier.images.kinds import missing_decoder
from atelier.images.verify import ImageLimits

LAYOUT = 1  # of the tables: another number is another file

CREATE = (
    "CREATE TABLE IF NOT EXISTS arrivals (key TEXT PRIMARY KEY, facts TEXT NOT NULL, content BLOB NOT NULL)",
    # apart from the arrivals: SQLite would write a picture again to update its day
    "CREATE TABLE IF NOT EXISTS named (key TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID",
)

JUDGE = (
    2  # raise it where `images.verify` no longer refuses what it refused: refusals by another are asked again
)

EARLIER_SUFFIX = ".arrivals"  # of the files that earlier versions kept

EARLIER_BATCH = 64  # pictures of such a file in memory at once


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of a picture, and the shorter side to which larger ones are reduced (None: kept as they came)."""

    image: ImageLimits
    max_bytes: int
    size_px: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a work gave: its status, and where that is ok the kept bytes and their measures.

    `came_px` and `came_bytes` are of the answer before it was made smaller; `original_px` is of the site's original,
    of which a smaller variant may have come.
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

    def entry(self, id: str) -> DownloadRecord:
        """The account's row: measures only where there is a picture, whose reason is a note on its colours or pages."""
        if self.status != "ok":
            return DownloadRecord(id=id, status=self.status, reason=self.reason)
        return DownloadRecord(
            id=id,
            status="ok",
            reason=self.reason,
            sha256=self.sha256,
            phash=self.phash,
            width=self.width,
            height=self.height,
            bytes=len(self.content),
        )


class Arrivals:
    """What is kept in `directory`, as `limits` judge it."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.path = directory / f"{limits.size_px or 'original'}.v{LAYOUT}.sqlite"
        self.limits = limits
        self._database = Database(self.path, CREATE, "the kept pictures")
        self._take_over(directory / f"{limits.size_px or 'original'}{EARLIER_SUFFIX}")

    def __len__(self) -> int:
        row = self._database.row("SELECT count(*) FROM arrivals")
        return int(row[0]) if row else 0

    def load(self, key: str) -> Arrival | None:
        """What is kept under `key`; None where that is nothing, damaged, or was judged by other limits that matter."""
        row = self._database.row("SELECT facts, content FROM arrivals WHERE key = ?", (_digest(key),))
        facts = row and _parsed(row[0])
        if row is None or facts is None:
            return None
        judged_by, arrival = facts
        if arrival.status == "ok":
            arrival = replace(arrival, content=row[1])
            whole = hashlib.sha256(arrival.content).hexdigest() == arrival.sha256
            return arrival if whole and self._allow(arrival) else None
        return arrival if judged_by == self._judges() else None

    def save(self, key: str, arrival: Arrival) -> None:
        """Keep `arrival` under `key`, in place of what was there. Raises AtelierError where the disk is full."""
        facts = {name: value for name, value in asdict(arrival).items() if name != "content"}
        self._database.rows(
            "INSERT OR REPLACE INTO arrivals (key, facts, content) VALUES (?, ?, ?)",
            (_digest(key), json.dumps({"judged_by": self._judges(), "arrival": facts}), arrival.content),
        )

    def name(self, keys: Iterable[str]) -> None:
        """Note that today's catalog has the works of these keys, for `atelier clean`."""
        self._name(_digest(key) for key in keys)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, digests: Iterable[str]) -> None:
        today = datetime.now(UTC).date().isoformat()
        self._database.write_all(
            "INSERT INTO named VALUES (?1, ?2) ON CONFLICT DO UPDATE SET day = ?2 WHERE day <> ?2",
            [(digest, today) for digest in digests],
        )

    def _judges(self) -> list[int]:
        heif = int(not missing_decoder("HEIF"))  # what was refused for want of pillow-heif is asked for again
        return [
            JUDGE,
            heif,
            self.limits.image.min_side_px,
            self.limits.image.max_pixels,
            self.limits.max_bytes,
        ]

    def _allow(self, arrival: Arrival) -> bool:
        width, height = arrival.came_px
        return (
            min(arrival.original_px) >= self.limits.image.min_side_px
            and width * height <= self.limits.image.max_pixels
            and arrival.came_bytes <= self.limits.max_bytes
        )

    def _take_over(self, earlier: Path) -> None:
        """Read the file of an earlier version into this one, then delete it; a kill in between loses nothing."""
        if not earlier.is_file():
            return
        print(f"{earlier} is read into {self.path.name}, which takes its place", flush=True)
        records = _earlier_records(earlier)
        while batch := list(islice(records, EARLIER_BATCH)):
            self._database.write_all("INSERT OR IGNORE INTO arrivals VALUES (?, ?, ?)", batch)
            self._name(key for key, _, _ in batch)
        earlier.unlink(missing_ok=True)


_FACTS = {field.name for field in fields(Arrival)} - {"content"}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _parsed(text: str) -> tuple[list[int], Arrival] | None:
    """The limits that judged an arrival, and the arrival without its content; None where the text is damaged."""
    try:
        facts = json.loads(text)
        arrival = facts["arrival"]
        sizes = {name: (int(arrival[name][0]), int(arrival[name][1])) for name in ("original_px", "came_px")}
        return list(facts["judged_by"]), Arrival(**{**arrival, **sizes})
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _earlier_records(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Key, facts and content of each last record of a key in an earlier version's file, up to one that was cut short.

    A record was a line of JSON with the key, the content's length and the facts; then the content.
    """
    places: dict[str, tuple[int, int, dict[str, Any]]] = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            try:
                facts = json.loads(line)
                key, length, arrival = str(facts["key"]), int(facts["length"]), dict(facts["arrival"])
                arrival.setdefault("original_px", arrival["came_px"])  # before variants were asked for
                told = {"judged_by": list(facts["judged_by"]), "arrival": arrival}
            except (ValueError, TypeError, KeyError):
                break
            if not 0 <= length <= size - file.tell() or arrival.keys() != _FACTS:
                break
            places[key] = (file.tell(), length, told)
            file.seek(length, 1)
        for key, (start, length, told) in places.items():
            file.seek(start)
            yield key, json.dumps(told), file.read(length)


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
