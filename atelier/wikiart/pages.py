"""Answers of the site kept on disk, so that a scrape that was killed asks for none twice."""

import hashlib
from pathlib import Path

from atelier.files import write_bytes

HEADERS = {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json, text/html;q=0.5"}
MAX_BYTES = 8_000_000  # a real page of sixty records has 25 kB


class PageStore:
    """A folder of answers by name; `directory` None keeps nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory

    @classmethod
    def under(cls, state: Path, *question: str) -> "PageStore":
        """The store of one question: another question, or the same on another snapshot, has another store."""
        return cls(state / hashlib.sha256("\n".join(question).encode()).hexdigest()[:16])

    def get(self, name: str) -> bytes | None:
        """The answer kept under `name`, or None."""
        if self._directory is None:
            return None
        try:
            return self._path(self._directory, name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Keep an answer, atomically."""
        if self._directory is not None:
            write_bytes(self._path(self._directory, name), content)

    def _path(self, directory: Path, name: str) -> Path:
        # names hold slugs that the site chose: they never become file names as they are
        return directory / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
