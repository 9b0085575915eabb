"""Answers of one site, kept in one file from run to run. Knows neither HTTP nor what an answer means.

Not requests-cache or CacheControl: they keep what requests has already read and unpacked, and here a body must be
bounded before that; and they ask the clock what is still fresh, where here the snapshot of params.yaml decides, so
that the same params give the same catalog.
"""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atelier.data.database import Database
from atelier.text import slug

LAYOUT = 1  # of the table: another number is another file
CREATE = """
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, body BLOB, etag TEXT, last_modified TEXT, snapshot TEXT, record TEXT, gone TEXT
) WITHOUT ROWID"""


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
        self._database = Database(path, (CREATE,), "the kept answers", tell)

    @classmethod
    def of_site(cls, folder: Path, base_url: str, tell: Callable[[str], None] = print) -> "Store":
        """The file of one site below `folder`."""
        name = f"{slug(base_url)[:60]}-{hashlib.sha256(base_url.encode()).hexdigest()[:8]}"
        return cls(folder / f"{name}.v{LAYOUT}.sqlite", tell)

    def get(self, path: str) -> Kept | None:
        """The answer kept for `path`, or None."""
        row = self._database.row(
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
        self._database.rows(
            "INSERT OR REPLACE INTO answers (path, body, snapshot, etag, last_modified, record, gone) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                path, zlib.compress(answer.body, 6), answer.snapshot, answer.etag, answer.last_modified,
                answer.record, answer.gone,
            ),
        )  # fmt: skip

    def close(self) -> None:
        self._database.close()
