"""Pictures that look like one another, by perceptual hashes. Knows accounts and hashes; opens no picture.

What can be said of a download once every work has its lot: which bytes came more than once, what looks alike.

Knows accounts; opens no picture.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from atelier.data.catalog import DownloadRecord, Work

# 197 real paintings, each against itself made smaller, brighter, paler or cut by 1 %: at least 97 of 100 stay within;
# of two works of one shape the closest are 10 bits apart among 1,374 real ones, 6 among 3,000 of the built-in gallery
LOOK_ALIKE_BITS = 4

LOOK_ALIKE_SHAPE = 0.03  # width : height may differ by this share

GROUP_BITS = 6  # what the split keeps together


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of a picture before it is read."""

    id: str
    width: int
    height: int
    phash: str


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Whom a picture looks like: a larger one (or an equal one of a smaller id), so many bits of its hash apart."""

    id: str
    bits: int


def downloaded_pictures(entries: Sequence[DownloadRecord]) -> list[Picture]:
    """The pictures that an account says are there."""
    return [
        Picture(entry.id, entry.width or 0, entry.height or 0, entry.phash or "0")
        for entry in entries
        if entry.status == "ok"
    ]


def find_look_alikes(pictures: Sequence[Picture]) -> dict[str, LookAlike]:
    """Whom each picture looks like that is not the best of its kind: the largest area, then the smallest id.

    Each is itself close to the one it names, which is no look-alike: nothing is linked by way of a third.
    """
    ordered = sorted(pictures, key=lambda picture: (-picture.width * picture.height, picture.id))
    hashes = _hashes(ordered)
    shapes = np.log([max(picture.width, 1) / max(picture.height, 1) for picture in ordered])
    free = np.ones(len(ordered), bool)
    found: dict[str, LookAlike] = {}
    for first, picture in enumerate(ordered):
        if not free[first]:
            continue
        bits = np.bitwise_count(hashes[first + 1 :] ^ hashes[first])
        for later in first + 1 + np.flatnonzero(bits <= LOOK_ALIKE_BITS):
            if free[later] and abs(shapes[later] - shapes[first]) <= LOOK_ALIKE_SHAPE:
                free[later] = False
                found[ordered[later].id] = LookAlike(picture.id, int(bits[later - first - 1]))
    return found


def group_near_duplicates(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Families of pictures linked by perceptual hashes at most FAMILY_BITS apart, each and all sorted by id."""
    ordered = sorted(pictures, key=lambda picture: picture.id)
    hashes = _hashes(ordered)
    left, left_hashes = np.arange(len(ordered)), hashes  # who has no family yet
    found = []
    while len(left):
        family, left, left_hashes = [int(left[0])], left[1:], left_hashes[1:]
        for member in family:  # which grows as it is gone through
            near = np.bitwise_count(left_hashes ^ hashes[member]) <= GROUP_BITS
            if near.any():
                family += left[near].tolist()
                left, left_hashes = left[~near], left_hashes[~near]
        found.append([ordered[member] for member in sorted(family)])
    return found


def _hashes(pictures: Sequence[Picture]) -> npt.NDArray[np.uint64]:
    return np.array([int(picture.phash, 16) for picture in pictures], dtype=np.uint64)


LOOKS_LIKE_PREFIX = "looks like "  # how the reason of a look-alike begins

STAND_IN = 3  # the same bytes under works of so many artists are a site's stand-in, and show none of them


def mark_duplicates(entries: Sequence[DownloadRecord], works: Sequence[Work]) -> list[DownloadRecord]:
    """The entries sorted by id, once all are known and can be compared.

    The same bytes under works of STAND_IN artists are placeholders; of other identical bytes the first id keeps its
    picture, the others are duplicates of it. What is left and looks like another stays ok, and its reason names that.
    """
    entries = _without_duplicates(sorted(entries, key=lambda entry: entry.id), works)
    alike = find_look_alikes(downloaded_pictures(entries))
    return [
        replace(entry, reason=_and(f"{LOOKS_LIKE_PREFIX}{other.id}, {other.bits} bits apart", entry.reason))
        if (other := alike.get(entry.id))
        else entry
        for entry in entries
    ]


def _and(reason: str, note: str) -> str:
    return f"{reason}; {note}" if note else reason


def _without_duplicates(entries: Sequence[DownloadRecord], works: Sequence[Work]) -> list[DownloadRecord]:
    artists = {work.id: work.artist_slug or work.artist for work in works}
    same: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if entry.sha256:
            same[entry.sha256].append(entry.id)
    hands = {sha256: len({artists[id] for id in ids} - {""}) for sha256, ids in same.items()}
    return [
        _beside(entry, same[entry.sha256], hands[entry.sha256]) if entry.sha256 else entry
        for entry in entries
    ]


def _beside(entry: DownloadRecord, same: Sequence[str], hands: int) -> DownloadRecord:
    """An entry in view of all that have the same bytes, itself among them: their ids and the number of artists."""
    if hands >= STAND_IN:
        reason = (
            f"the same bytes for {len(same):,} works of {hands:,} artists, the first {same[0]}: a stand-in"
        )
        return DownloadRecord(id=entry.id, status="placeholder", reason=reason)
    if entry.id != same[0]:
        return replace(entry, status="duplicate", reason=f"the same bytes as {same[0]}")
    return entry
