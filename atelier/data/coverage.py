"""The works that a source gave, and data/catalog.json, which counts them and explains those that are missing.

The report depends on content alone: it contains no date and no path.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.data.catalog import Work

MAX_NAMED_FAILURES = 20  # in the report; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWorks:
    """The works of one source. Of the `listed` records, `len(works)` were kept; `skipped` counts the others."""

    works: Sequence[Work]
    listed: int
    claimed: int | None = None  # number of works that the source says it has
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason → count
    cut_at_cap: bool = False  # whether the source's list stops before its end
    notes: Sequence[str] = ()
    incomplete: Sequence[str] = ()  # reasons why works may be missing; empty where none are
    reach: Mapping[str, Any] | None = None  # how a site was searched beyond its lists: keys of the report


def coverage_report(source: str, asked: str, found: SourceWorks) -> dict[str, Any]:
    """Return the content of data/catalog.json; `asked` describes the question, for example "genre landscape"."""
    report = {
        "source": source,
        "asked": asked,
        "claimed": found.claimed,
        "listed": found.listed,
        "found": len(found.works),
        "skipped": dict(found.skipped),
        "cut_at_cap": found.cut_at_cap,
        "notes": list(found.notes),
        "years": year_span(found.works),
    }
    if found.reach or found.incomplete:
        report |= {"complete": not found.incomplete, "incomplete_because": list(found.incomplete)}
        report |= found.reach or {}
    return report


def year_span(works: Iterable[Work]) -> dict[str, int | None]:
    """Return the years that works cover, None where none has a year, and the number of those without one."""
    years = [work.year for work in works]
    dated = [year for year in years if year is not None]
    return {"from": min(dated, default=None), "to": max(dated, default=None), "undated": len(years) - len(dated)}


def count_and_first(failures: Sequence[str]) -> dict[str, Any]:
    """Return the number of failures and the first of them."""
    return {"count": len(failures), "first": list(failures[:MAX_NAMED_FAILURES])}
