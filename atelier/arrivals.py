"""What has arrived, kept item by item where DVC deletes nothing: a killed download asks again for nothing it has.

One file an item: a line of JSON, then the picture's bytes. Written beside and renamed, without fsync, which would
cost more than the download; instead the bytes carry their sha256, so that a file torn by a power cut is no arrival.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atelier.account import Entry, Status
from atelier.images import ImageLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of a picture, and the shorter side that larger ones are kept at (None: as they came)."""

    image: ImageLimits
    max_bytes: int
    size_px: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A work's lot: its status, and where that is ok the kept bytes and their measures.

    `came_px` and `came_bytes` are of the answer before it was made smaller.
    """

    status: Status
    reason: str = ""
    extension: str = ""
    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
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
    """The kept items under `directory`, as `limits` judge them. Safe from many threads, for different keys."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory / f"{limits.size_px or 'original'}"
        self.limits = limits
        self.directory.mkdir(parents=True, exist_ok=True)

    def load(self, key: str) -> Arrival | None:
        """What is kept under `key`; None where that is nothing, torn, or was judged by other limits that matter."""
        try:
            line, _, content = self._path(key).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            facts: dict[str, Any] = json.loads(line)
            judged_by = facts.pop("judged_by")
            arrival = Arrival(**{**facts, "came_px": tuple(facts["came_px"]), "content": content})
        except (ValueError, TypeError, KeyError):  # torn, or an older version's
            return None
        if arrival.status == "ok":
            whole = hashlib.sha256(content).hexdigest() == arrival.sha256
            return arrival if whole and self._allow(arrival) else None
        return arrival if judged_by == self._judges() else None

    def save(self, key: str, arrival: Arrival) -> None:
        """Keep `arrival` under `key`, in one rename."""
        facts = asdict(replace(arrival, content=b"")) | {"judged_by": self._judges()}
        del facts["content"]
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(json.dumps(facts).encode() + b"\n" + arrival.content)
        temporary.replace(path)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.directory / name[:2] / name[2:34]

    def _judges(self) -> list[int]:
        return [self.limits.image.min_side_px, self.limits.image.max_pixels, self.limits.max_bytes]

    def _allow(self, arrival: Arrival) -> bool:
        width, height = arrival.came_px
        return (
            min(width, height) >= self.limits.image.min_side_px
            and width * height <= self.limits.image.max_pixels
            and arrival.came_bytes <= self.limits.max_bytes
        )
