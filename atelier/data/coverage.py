"""The works that a source gave, and data/catalog.json, which counts them and explains those that are missing.

The report depends on content alone: it contains no date and no path.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.data.catalog import Work

MAX_NAMED_FAILURES = 20  # in the report; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How the works of a site were found beyond its lists, which end at a cap, and what could not be fetched."""

    plain_lists: Mapping[str, int | None]  # how many works the lists alone give, and their `year_span`
    by_route: Mapping[str, int]  # "lists" or "artists" → number of works
    requests: Mapping[str, int]  # kind → number of addresses used, stored or fetched
    failed_for_good: Sequence[str] = ()  # "address: reason"; not fetched again at this snapshot
    failed: Sequence[str] = ()  # "address: reason"; the next run fetches them again
    not_asked: Mapping[str, int] = field(default_factory=dict)  # kind → number left out by the budget
    dated_before: int | None = None  # works with an earlier year were not fetched: the list has them all
    dated_before_works: int = 0


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
    reach: Reach | None = None  # for a site that was searched beyond its lists


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
    if reach := found.reach:
        report |= {
            "plain_lists": dict(reach.plain_lists),
            "by_route": dict(reach.by_route),
            "requests": {**reach.requests, "all": sum(reach.requests.values())},
            "failed_for_good": _count_and_first(reach.failed_for_good),
            "failed": _count_and_first(reach.failed),
            "not_asked": dict(reach.not_asked),
            "not_asked_because_dated": {"before": reach.dated_before, "works": reach.dated_before_works},
        }
    return report


def year_span(works: Iterable[Work]) -> dict[str, int | None]:
    """Return the years that works cover, None where none has a year, and the number of those without one."""
    years = [work.year for work in works]
    dated = [year for year in years if year is not None]
    return {"from": min(dated, default=None), "to": max(dated, default=None), "undated": len(years) - len(dated)}


def _count_and_first(failures: Sequence[str]) -> dict[str, Any]:
    return {"count": len(failures), "first": list(failures[:MAX_NAMED_FAILURES])}
