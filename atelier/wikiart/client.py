"""WikiArt's lists, page by page, as works of the catalog: what was asked, what came, what was left out and why.

One list shows at most PAGES × PAGE_SIZE works, the earliest ones; the report says when that cut a list short.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal
from urllib.parse import quote

from atelier.catalog import Rights, Work
from atelier.coverage import Found
from atelier.errors import AtelierError
from atelier.polite import FetchError, PoliteClient
from atelier.wikiart.pages import HEADERS, MAX_BYTES, PageStore
from atelier.wikiart.records import NotAPage, Page, parse_page

Kind = Literal["genre", "style", "artist"]
Judge = Callable[[Work], Rights]
Report = Callable[[int, int], None]  # works so far, works expected

PAGES, PAGE_SIZE = 60, 60  # the site's own cap: 3,600 works a list
TRIES = 2  # a page that comes as HTML is asked for once more

TWICE = "listed twice"
NOT_FREE = "not known to be free"


@dataclass(frozen=True, slots=True)
class Query:
    """One list of the site."""

    kind: Kind
    slug: str

    def path(self, page: int) -> str:
        """The address of one page of it, relative to the site."""
        slug = quote(self.slug, safe="")
        if self.kind == "artist":
            return f"/en/{slug}/mode/all-paintings?json=2&layout=new&page={page}&resultType=masonry"
        return f"/en/paintings-by-{self.kind}/{slug}?json=2&page={page}"


def collect(
    client: PoliteClient,
    queries: Sequence[Query],
    *,
    store: PageStore,
    limit: int | None = None,
    judge: Judge | None = None,
    report: Report = lambda done, expected: None,
) -> Found:
    """The works of several lists, merged by id; at most `limit`.

    With a `judge` only works that it calls public domain are kept. Raises AtelierError where a list does not exist
    or the site fails; pages that have arrived are in `store`, and a second call goes on from there.
    """
    gathered = _Gathered(limit, judge)
    for query in queries:
        _walk(client, query, store, gathered, report)
    return Found(
        works=list(gathered.works.values()),
        listed=gathered.listed,
        claimed=gathered.claimed,
        skipped=dict(gathered.skipped),
        cut_at_cap=gathered.cut_at_cap,
        notes=gathered.notes,
    )


def merge(first: Work, second: Work) -> Work:
    """One row of two with the same id: the more complete, the first where equal, with the genres and styles of both."""
    base = second if _completeness(second) > _completeness(first) else first
    return replace(base, genre=_union(first.genre, second.genre), style=_union(first.style, second.style))


class _Gathered:
    """What several lists have given so far."""

    def __init__(self, limit: int | None, judge: Judge | None) -> None:
        self.limit, self.judge = limit, judge
        self.works: dict[str, Work] = {}
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self.claimed: int | None = None
        self.listed = 0
        self.cut_at_cap = False

    @property
    def is_full(self) -> bool:
        return self.limit is not None and len(self.works) >= self.limit

    def add(self, record: Work | str, query: Query, here: set[str]) -> None:
        """Count one record of a list; `here` are the ids that this list has shown."""
        if isinstance(record, str):
            self.listed += 1
            self.skipped[record] += 1
            return
        if query.kind == "genre":
            record = replace(record, genre=query.slug)
        elif query.kind == "style":
            record = replace(record, style=query.slug)
        known, repeated = self.works.get(record.id), record.id in here
        here.add(record.id)
        if known:
            self.works[record.id] = merge(known, replace(record, rights=known.rights))
        if repeated:
            self.listed += 1
            self.skipped[TWICE] += 1
        elif not known:
            self.listed += 1
            self._keep(record)

    def _keep(self, work: Work) -> None:
        rights = self.judge(work) if self.judge else work.rights
        if self.judge and rights != "public-domain":
            self.skipped[NOT_FREE] += 1
        else:
            self.works[work.id] = replace(work, rights=rights)

    def expected(self) -> int:
        known = [number for number in (self.limit, self.claimed) if number]
        return max(min(known, default=0), len(self.works))


def _walk(client: PoliteClient, query: Query, store: PageStore, gathered: _Gathered, report: Report) -> None:
    """All pages of one list."""
    here: set[str] = set()
    seen, claimed = 0, None
    for number in range(1, PAGES + 1):
        page = _page(client, query, number, store, gathered)
        if page is None or not page.records:
            break
        if page.claimed:
            claimed = page.claimed
            gathered.claimed = max(gathered.claimed or 0, claimed)
        seen, known = seen + len(page.records), len(here)
        for record in page.records:
            if not gathered.is_full:
                gathered.add(record, query, here)
        report(len(gathered.works), gathered.expected())
        if gathered.is_full:
            return
        if len(here) == known and any(isinstance(record, Work) for record in page.records):
            gathered.notes.append(f"{_named(query)}: page {number} only repeats earlier works; stopped there")
            break
        if number == PAGES and len(page.records) >= PAGE_SIZE:
            gathered.cut_at_cap = True
        # a claim below what was already shown is wrong: full pages go on
        if claimed is not None and (seen == claimed or (seen > claimed and len(page.records) < PAGE_SIZE)):
            break
    if gathered.cut_at_cap:
        claims = f"claims {claimed:,}" if claimed else "does not say how many it has"
        gathered.notes.append(f"{_named(query)}: cut at the site's cap of {seen:,} works; it {claims}")
    elif claimed is not None and seen < claimed:
        gathered.notes.append(f"{_named(query)}: the site claims {claimed:,} works and listed {seen:,}")


def _page(
    client: PoliteClient, query: Query, number: int, store: PageStore, gathered: _Gathered
) -> Page | None:
    """One page, from the store where it is there; None where the list ends in something that is no page."""
    name = f"{query.kind}-{query.slug}-{number}"
    if (kept := store.get(name)) is not None:
        try:
            return parse_page(kept, client.base_url)
        except NotAPage:
            pass  # damaged on disk: ask again
    trouble = ""
    for _ in range(TRIES):
        try:
            content = client.fetch(query.path(number), max_bytes=MAX_BYTES, headers=HEADERS).content
            page = parse_page(content, client.base_url)
        except NotAPage as error:
            trouble = f"the site answers with {error}"
            continue
        except FetchError as error:
            if error.kind != "missing":
                raise AtelierError(f"{error}; the pages that arrived are kept: run again to go on") from None
            trouble = f"the site has none ({error.reason})"
            break
        store.put(name, content)
        return page
    if number == 1:
        raise AtelierError(
            f"{_named(query)}: {trouble}; check the slug (`atelier genres`, `atelier styles`) "
            "and scrape.wikiart.base_url"
        )
    gathered.notes.append(f"{_named(query)}: page {number}: {trouble}; stopped there")
    return None


def _named(query: Query) -> str:
    return f"{query.kind} {query.slug!r}"


def _completeness(work: Work) -> int:
    return sum(value not in ("", None) for value in astuple(work))


def _union(first: str, second: str) -> str:
    return ", ".join(sorted({*first.split(", "), *second.split(", ")} - {""}))
