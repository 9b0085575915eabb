"""What a source was asked for, what it gave, and what became of the difference. Content only: no clock, no path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.catalog import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Works of one source. `listed` records were looked at: `len(works)` kept, the others counted in `skipped`."""

    works: Sequence[Work]
    listed: int
    claimed: int | None = None  # how many the source says it has
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason → count
    cut_at_cap: bool = False  # the source stopped at its own limit, whatever it holds beyond
    notes: Sequence[str] = ()


def coverage(source: str, asked: str, found: Found) -> dict[str, Any]:
    """The coverage report as it stands in data/catalog.json."""
    years = [work.year for work in found.works if work.year is not None]
    return {
        "source": source,
        "asked": asked,
        "claimed": found.claimed,
        "listed": found.listed,
        "found": len(found.works),
        "skipped": dict(sorted(found.skipped.items())),
        "cut_at_cap": found.cut_at_cap,
        "notes": list(found.notes),
        "years": {
            "from": min(years, default=None),
            "to": max(years, default=None),
            "undated": len(found.works) - len(years),
        },
    }
