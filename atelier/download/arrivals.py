"""What has arrived, kept item by item where DVC deletes nothing: a killed download asks again for nothing it has.

One growing file: for each item a line of JSON, then the picture's bytes. A file an item, and an fsync an item, would
cost more than the download itself; instead a record that a kill cut short is overwritten by the next, and the bytes
carry their sha256, so that what a power cut tore is no arrival.
"""

import errno
import hashlib
import json
import os
import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atelier.download.account import Entry, Status
from atelier.files import replacing
from atelier.images import ImageLimits

WORTH_COMPACTING_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of a picture, and the shorter side that larger ones are kept at (None: as they came)."""

    image: ImageLimits
    max_bytes: int
    size_px: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A work's lot: its status, and where that is ok the kept bytes and their measures.

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

    def entry(self, id: str) -> Entry:
        """The account's row: measures only where there is a picture."""
        if self.status != "ok":
            return Entry(id=id, status=self.status, reason=self.reason)
        return Entry(
            id=id,
            status="ok",
            sha256=self.sha256,
            phash=self.phash,
            width=self.width,
            height=self.height,
            bytes=len(self.content),
        )


class Arrivals:
    """The kept items of `directory`, as `limits` judge them. Safe from many threads of one process."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.path = directory / f"{limits.size_px or 'original'}.arrivals"
        self.limits = limits
        directory.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self._end = 0
        self._places: dict[str, tuple[int, int]] = {}  # where a key's last record begins, and its length
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for line in file:
                facts = _parsed(line)
                if facts is None or file.tell() + facts["length"] > size:
                    break
                end = file.seek(facts["length"], os.SEEK_CUR)
                self._places[facts["key"]] = (self._end, end - self._end)
                self._end = end

    def __len__(self) -> int:
        return len(self._places)

    def load(self, key: str) -> Arrival | None:
        """What is kept under `key`; None where that is nothing, torn, or was judged by other limits that matter."""
        place = self._places.get(_digest(key))
        if place is None:
            return None
        with self._lock:
            record = os.pread(self._file, place[1], place[0])
        line, _, content = record.partition(b"\n")
        facts = _parsed(line)
        if facts is None:
            return None
        arrival = replace(facts["arrival"], content=content)
        if arrival.status == "ok":
            whole = hashlib.sha256(content).hexdigest() == arrival.sha256
            return arrival if whole and self._allow(arrival) else None
        return arrival if facts["judged_by"] == self._judges() else None

    def save(self, key: str, arrival: Arrival) -> None:
        """Keep `arrival` under `key`, in place of what was there."""
        digest = _digest(key)
        facts = {"key": digest, "length": len(arrival.content), "judged_by": self._judges()}
        facts["arrival"] = {name: getattr(arrival, name) for name in _FACTS}
        record = json.dumps(facts).encode() + b"\n" + arrival.content
        with self._lock:
            written = 0
            while written < len(record):  # a disk that fills up takes a part first
                written += os.pwrite(self._file, memoryview(record)[written:], self._end + written)
            self._places[digest] = (self._end, len(record))
            self._end += len(record)

    def compact(self) -> None:
        """Where most of the file is records that others have replaced, write it anew without them.

        For the stage that owns the directory, before it begins: another reader goes on with the file as it was.
        """
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # by a kill in the middle of this
            left.unlink()
        live = sum(length for _, length in self._places.values())
        if os.fstat(self._file).st_size - live <= max(live, WORTH_COMPACTING_BYTES):
            return
        places: dict[str, tuple[int, int]] = {}
        end = 0
        try:
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                for key, (start, length) in sorted(self._places.items(), key=lambda item: item[1]):
                    file.write(os.pread(self._file, length, start))
                    places[key] = (end, length)
                    end += length
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return  # no room for both: the old file serves
        with self._lock:
            os.close(self._file)
            self._file = os.open(self.path, os.O_RDWR)
            self._places, self._end = places, end

    def close(self) -> None:
        """A thread that comes late finds no file: never another one that was given the same number since."""
        with self._lock:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _judges(self) -> list[int]:
        return [self.limits.image.min_side_px, self.limits.image.max_pixels, self.limits.max_bytes]

    def _allow(self, arrival: Arrival) -> bool:
        width, height = arrival.came_px
        return (
            min(arrival.original_px) >= self.limits.image.min_side_px
            and width * height <= self.limits.image.max_pixels
            and arrival.came_bytes <= self.limits.max_bytes
        )


_FACTS = [field.name for field in fields(Arrival) if field.name != "content"]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A record's first line; None where it is no such line, or another version's."""
    try:
        facts = json.loads(line)
        arrival = facts["arrival"]
        came_px = tuple(arrival["came_px"])
        original_px = tuple(arrival.get("original_px", came_px))  # an earlier version knew no variants
        facts["arrival"] = Arrival(**{**arrival, "came_px": came_px, "original_px": original_px})
        if not (isinstance(facts["key"], str) and isinstance(facts["length"], int) and facts["length"] >= 0):
            return None
        return facts if "judged_by" in facts else None
    except (ValueError, TypeError, KeyError):
        return None
