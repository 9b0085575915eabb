"""What a source was asked for, what it gave, and what became of the difference. Content only: no clock, no path."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.data.catalog import Work

EXAMPLES = 20  # of what failed, by name; all are counted


@dataclass(frozen=True, slots=True)
class YearSpan:
    """How many works, and the years they cover."""

    works: int
    first: int | None
    last: int | None
    undated: int

    @classmethod
    def of(cls, works: Iterable[Work]) -> "YearSpan":
        years = [work.year for work in works]
        dated = [year for year in years if year is not None]
        return cls(len(years), min(dated, default=None), max(dated, default=None), len(years) - len(dated))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far beyond its plain lists a site was followed, and what that rests on."""

    plain_lists: YearSpan  # what the lists alone would have given
    by_route: Mapping[str, int]  # lists, artists → works
    requests: Mapping[str, int]  # kind → addresses that the catalog rests on, kept or asked
    failed_for_good: Sequence[str] = ()  # address: reason; not asked again at this snapshot
    failed: Sequence[str] = ()  # address: reason; the next run asks again
    not_asked: Mapping[str, int] = field(default_factory=dict)  # what the budget did not allow
    dated_before: int | None = None  # works dated before were taken for none of the list's, unasked
    dated_before_works: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWorks:
    """Works of one source. `listed` records were looked at: `len(works)` kept, the others counted in `skipped`."""

    works: Sequence[Work]
    listed: int
    claimed: int | None = None  # how many the source says it has
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason → count
    cut_at_cap: bool = False  # the source's list stopped before its end
    notes: Sequence[str] = ()
    incomplete: Sequence[
        str
    ] = ()  # why works may be missing: what failed or was not asked; none: all was asked
    reach: Reach | None = None  # of a source that has more than lists


def coverage_report(source: str, asked: str, found: SourceWorks) -> dict[str, Any]:
    """The coverage report as it stands in data/catalog.json."""
    report = {
        "source": source,
        "asked": asked,
        "claimed": found.claimed,
        "listed": found.listed,
        "found": len(found.works),
        "skipped": dict(sorted(found.skipped.items())),
        "cut_at_cap": found.cut_at_cap,
        "notes": list(found.notes),
        "years": _years(YearSpan.of(found.works)),
    }
    if found.reach or found.incomplete:
        report |= {"complete": not found.incomplete, "incomplete_because": list(found.incomplete)}
    return report | (_reach(found.reach) if found.reach else {})


def _reach(reach: Reach) -> dict[str, Any]:
    return {
        "plain_lists": {"works": reach.plain_lists.works, **_years(reach.plain_lists)},
        "by_route": dict(sorted(reach.by_route.items())),
        "requests": {**dict(sorted(reach.requests.items())), "all": sum(reach.requests.values())},
        "failed_for_good": _counted(reach.failed_for_good),
        "failed": _counted(reach.failed),
        "not_asked": dict(sorted(reach.not_asked.items())),
        "not_asked_because_dated": {"before": reach.dated_before, "works": reach.dated_before_works},
    }


def _years(span: YearSpan) -> dict[str, int | None]:
    return {"from": span.first, "to": span.last, "undated": span.undated}


def _counted(failures: Sequence[str]) -> dict[str, Any]:
    return {"count": len(failures), "first": list(failures[:EXAMPLES])}
