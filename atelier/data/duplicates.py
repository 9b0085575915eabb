"""Find pictures with the same bytes, and pictures that look alike by their 64-bit perceptual hashes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from atelier.data.catalog import DownloadRecord, Work

# Of 197 real paintings made smaller, brighter, paler or cut by 1 %, at least 97 % are at most 4 bits from the original.
# Different works of one shape are at least 10 bits apart among 1,374 real ones, 6 among 3,000 of the built-in gallery.
LOOK_ALIKE_BITS = 4
LOOK_ALIKE_ASPECT = 0.03  # largest difference of the logarithms of width : height
GROUP_BITS = 6  # pictures so close stay on one side of the split
PLACEHOLDER_ARTISTS = 3  # the same bytes for works of so many artists are a placeholder image of the site
LOOKS_LIKE_PREFIX = "looks like "  # begins the reason of a look-alike


@dataclass(frozen=True, slots=True)
class Picture:
    """The id, the size in pixels and the perceptual hash (hexadecimal) of a picture."""

    id: str
    width: int
    height: int
    phash: str


@dataclass(frozen=True, slots=True)
class LookAlike:
    """The picture that another one looks like, and the number of bits by which their hashes differ."""

    id: str
    bits: int


def downloaded_pictures(records: Sequence[DownloadRecord]) -> list[Picture]:
    """Return the pictures of the records whose status is ok."""
    return [
        Picture(record.id, record.width or 0, record.height or 0, record.phash or "0")
        for record in records
        if record.status == "ok"
    ]


def find_look_alikes(pictures: Sequence[Picture]) -> dict[str, LookAlike]:
    """Map the id of each look-alike to the best picture that it looks like: of the largest area, then the smallest id.

    A best picture is never a look-alike itself, and each look-alike is close to it directly, not by way of a third.
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
            if free[later] and abs(shapes[later] - shapes[first]) <= LOOK_ALIKE_ASPECT:
                free[later] = False
                found[ordered[later].id] = LookAlike(picture.id, int(bits[later - first - 1]))
    return found


def group_near_duplicates(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Group pictures that are linked by hashes at most GROUP_BITS apart; groups and members are sorted by id."""
    ordered = sorted(pictures, key=lambda picture: picture.id)
    hashes = _hashes(ordered)
    left, left_hashes = np.arange(len(ordered)), hashes  # the pictures without a group
    groups = []
    while len(left):
        group, left, left_hashes = [int(left[0])], left[1:], left_hashes[1:]
        for member in group:  # grows during the loop
            near = np.bitwise_count(left_hashes ^ hashes[member]) <= GROUP_BITS
            if near.any():
                group += left[near].tolist()
                left, left_hashes = left[~near], left_hashes[~near]
        groups.append([ordered[member] for member in sorted(group)])
    return groups


def mark_duplicates(records: Sequence[DownloadRecord], works: Sequence[Work]) -> list[DownloadRecord]:
    """Return the records of a whole download sorted by id, with duplicates marked.

    Works of PLACEHOLDER_ARTISTS or more artists with the same bytes become placeholders. Of other works with the same
    bytes the first id stays ok, the others become duplicates. A look-alike stays ok; its reason names the other one.
    """
    artists = {work.id: work.artist_slug or work.artist for work in works}
    marked = {record.id: record for record in sorted(records, key=lambda record: record.id)}
    same_bytes: defaultdict[str, list[str]] = defaultdict(list)
    for record in marked.values():
        if record.sha256:
            same_bytes[record.sha256].append(record.id)
    for ids in same_bytes.values():
        count = len({artists[id] for id in ids} - {""})
        if count >= PLACEHOLDER_ARTISTS:
            reason = f"the same bytes for {len(ids):,} works of {count:,} artists, the first {ids[0]}: a stand-in"
            marked |= {id: DownloadRecord(id=id, status="placeholder", reason=reason) for id in ids}
        else:
            reason = f"the same bytes as {ids[0]}"
            marked |= {id: replace(marked[id], status="duplicate", reason=reason) for id in ids[1:]}
    for id, other in find_look_alikes(downloaded_pictures([*marked.values()])).items():
        reason, note = f"{LOOKS_LIKE_PREFIX}{other.id}, {other.bits} bits apart", marked[id].reason
        marked[id] = replace(marked[id], reason=f"{reason}; {note}" if note else reason)
    return [*marked.values()]


def _hashes(pictures: Sequence[Picture]) -> npt.NDArray[np.uint64]:
    return np.array([int(picture.phash, 16) for picture in pictures], dtype=np.uint64)
