"""What can be said of a download once every work has its lot: which bytes came more than once, what looks alike.

Knows accounts; opens no picture.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from atelier.data.account import Entry
from atelier.data.catalog import Work
from atelier.data.duplicates import kept_pictures, look_alikes

LOOKS_LIKE = "looks like "  # how the reason of a look-alike begins
STAND_IN = 3  # the same bytes under works of so many artists are a site's stand-in, and show none of them


def settled(entries: Sequence[Entry], works: Sequence[Work]) -> list[Entry]:
    """The entries sorted by id, once all are known and can be compared.

    The same bytes under works of STAND_IN artists are placeholders; of other identical bytes the first id keeps its
    picture, the others are duplicates of it. What is left and looks like another stays ok, and its reason names that.
    """
    entries = _without_duplicates(sorted(entries, key=lambda entry: entry.id), works)
    alike = look_alikes(kept_pictures(entries))
    return [
        replace(entry, reason=_and(f"{LOOKS_LIKE}{other.id}, {other.bits} bits apart", entry.reason))
        if (other := alike.get(entry.id))
        else entry
        for entry in entries
    ]


def _and(reason: str, note: str) -> str:
    return f"{reason}; {note}" if note else reason


def _without_duplicates(entries: Sequence[Entry], works: Sequence[Work]) -> list[Entry]:
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


def _beside(entry: Entry, same: Sequence[str], hands: int) -> Entry:
    """An entry in view of all that have the same bytes, itself among them: their ids and the number of artists."""
    if hands >= STAND_IN:
        reason = (
            f"the same bytes for {len(same):,} works of {hands:,} artists, the first {same[0]}: a stand-in"
        )
        return Entry(id=entry.id, status="placeholder", reason=reason)
    if entry.id != same[0]:
        return replace(entry, status="duplicate", reason=f"the same bytes as {same[0]}")
    return entry
