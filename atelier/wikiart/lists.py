"""Reading WikiArt's lists of a genre, style or artist, page by page, as works of the catalog.

A list of a genre or style shows at most MAX_PAGES × PAGE_SIZE works, the earliest ones. `Listing.is_cut` tells that a
list has more; harvest.py finds the rest through the artists.
"""

import statistics
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from typing import Literal, TypeVar
from urllib.parse import quote

from atelier.data.catalog import Work
from atelier.data.coverage import SourceWorks
from atelier.errors import TransientError
from atelier.progress import CountCallback, ignore_progress
from atelier.web.limits import BudgetSpent
from atelier.wikiart.cached_client import FAILURES, CachedClient, Failure, NotFound, RequestKind, UnexpectedResponse
from atelier.wikiart.formats import ListPage, is_dated, parse_list_page
from atelier.wikiart.pages import join_slugs

S = TypeVar("S")
T = TypeVar("T")

MAX_PAGES, PAGE_SIZE = 60, 60  # the site's own cap: 3,600 works a list
MAX_ARTIST_PAGES = 2000  # an artist's list has no cap; this one ends a list that does not end
LISTED_TWICE = "listed twice"
CHECK_SLUG = "check the slug (`atelier genres`, `atelier styles`) and scrape.wikiart.base_url"
NEIGHBOURS = 30  # works on either side whose median year is the year that a place in the list stands for
MIN_MARGIN_YEARS = 20  # of 512 works of a real list the latest stood 10 years behind its place
WORKS_PER_OUTLIER = 1000  # one of so many may stand further behind: a typing error must not cost 100,000 requests
LOOK_AHEAD = 8  # results computed before the first of them is used
WORKS_PER_ARTIST = 39  # 223,095 works of 5,755 artists


@dataclass(frozen=True, slots=True)
class Query:
    """One list of the site."""

    kind: Literal["genre", "style", "artist"]
    slug: str

    def path(self, page: int) -> str:
        """The path of one page, from 1."""
        slug = quote(self.slug, safe="")
        if self.kind == "artist":
            return f"/en/{slug}/mode/all-paintings?json=2&layout=new&page={page}&resultType=masonry"
        return f"/en/paintings-by-{self.kind}/{slug}?json=2&page={page}"

    def __str__(self) -> str:
        return f"{self.kind} {self.slug!r}"


class UnreadableList(NotFound, TransientError):
    """The first page of a list has unexpected content: a temporary failure, or a wrong slug."""


@dataclass(eq=False)
class Listing:
    """Reads the list of one genre, style or artist. The attributes describe the pages read so far."""

    client: CachedClient
    query: Query
    works: dict[str, Work] = field(default_factory=dict)  # by id, in the list's order
    skipped: Counter[str] = field(default_factory=Counter)  # records by reason
    notes: list[str] = field(default_factory=list)
    unreadable_page: str = ""  # a note on a page with unexpected content, if works are missing after it
    claimed: int | None = None
    listed: int = 0  # records read
    is_cut: bool = False
    budget_spent: BudgetSpent | None = None
    pages_not_requested: int = 0  # because the budget was spent

    def pages(self) -> Iterator[Sequence[Work]]:
        """Read one page after the other and yield its works, without those of earlier pages.

        Raises NotFound if there is no such list, FetchError if the site fails.
        """
        last = MAX_ARTIST_PAGES if self.query.kind == "artist" else MAX_PAGES
        size = 0
        for number in range(1, last + 1):
            page = self._page(number)
            if page is None or not page.records:
                break
            size = len(page.records)
            self.claimed = page.claimed or self.claimed
            self.listed += size
            new = self._new_works(page)
            if not new and any(isinstance(record, Work) for record in page.records):
                self.notes.append(f"{self.query}: page {number} only repeats earlier works; stopped there")
                break
            yield new
            self.is_cut = number == last and (size >= PAGE_SIZE or self._has_more)
            # a claim below what is already listed is wrong: go on as long as pages are full
            if self.claimed is not None and (
                self.listed == self.claimed or (self.listed > self.claimed and size < PAGE_SIZE)
            ):
                break
        claims = f"claims {self.claimed:,}" if self.claimed else "does not say how many it has"
        if self.is_cut:
            self.notes.append(f"{self.query}: cut at the site's cap of {self.listed:,} works; it {claims}")
        elif self._has_more and not self.budget_spent:
            self.notes.append(f"{self.query}: the site {claims} works and listed {self.listed:,}")
            # a list that ends in a full page was cut; otherwise it has ended and its claim is wrong
            self.is_cut = size >= PAGE_SIZE

    @property
    def _has_more(self) -> bool:
        return self.claimed is not None and self.listed < self.claimed

    def _page(self, number: int) -> ListPage | None:
        """Read one page; None if the list ends there."""
        client, path = self.client, self.query.path(number)
        kind: RequestKind = "artist lists" if self.query.kind == "artist" else "lists"
        try:
            return client.fetch(kind, path, lambda content: parse_list_page(content, client.base_url))
        except NotFound as error:
            if number == 1:
                raise NotFound(f"{self.query}: {error}; {CHECK_SLUG}") from None
            self.notes.append(f"{self.query}: page {number}: {error}; stopped there")
        except UnexpectedResponse as error:
            # an artist's list is read for the ids of works, which must not differ from day to day
            if self.query.kind == "artist" and (number == 1 or self._has_more):
                raise
            if number == 1:
                raise UnreadableList(f"{self.query}: {error.reason}; try again later, or {CHECK_SLUG}") from None
            # some lists end in a page of HTML
            self.notes.append(f"{self.query}: page {number}: {error.reason}; stopped there")
            self.unreadable_page = self.notes[-1] if self._has_more else ""
        except BudgetSpent as error:
            claimed_pages = min(-(-(self.claimed or 0) // PAGE_SIZE), MAX_PAGES)
            self.budget_spent, self.pages_not_requested = error, max(claimed_pages - number, 0) + 1
        return None

    def _new_works(self, page: ListPage) -> list[Work]:
        new: dict[str, Work] = {}
        for record in page.records:
            if isinstance(record, str):
                self.skipped[record] += 1
                continue
            if self.query.kind == "genre":
                record = replace(record, genre=self.query.slug)
            elif self.query.kind == "style":
                record = replace(record, style=self.query.slug)
            if record.id in new:
                new[record.id] = merge_works(new[record.id], record)
            if record.id in new or record.id in self.works:
                self.skipped[LISTED_TWICE] += 1
            else:
                new[record.id] = record
        self.works |= new
        return list(new.values())


def collect(
    client: CachedClient, queries: Sequence[Query], on_progress: CountCallback = ignore_progress
) -> SourceWorks:
    """Read several lists, without going beyond their cap, and merge their works by id."""
    works: dict[str, Work] = {}
    skipped: Counter[str] = Counter()
    notes: list[str] = []
    incomplete: list[str] = []
    claimed, is_cut = 0, False
    for query in queries:
        listing = Listing(client, query)
        for new in listing.pages():
            for work in new:
                works[work.id] = merge_works(works[work.id], work) if work.id in works else work
            claimed = max(claimed, listing.claimed or 0)
            on_progress(len(works), max(claimed, len(works)))
        skipped += listing.skipped
        notes += listing.notes
        incomplete += [listing.unreadable_page] if listing.unreadable_page else []
        is_cut |= listing.is_cut
    return SourceWorks(
        works=list(works.values()),
        listed=len(works) + skipped.total(),
        claimed=claimed or None,
        skipped=dict(skipped),
        cut_at_cap=is_cut,
        notes=notes,
        incomplete=incomplete,
    )


def merge_works(first: Work, second: Work) -> Work:
    """Merge two works of the same id: the one with more fields set, with the genres and styles of both."""
    base = max(first, second, key=lambda work: sum(value not in ("", None) for value in astuple(work)))
    return replace(base, genre=join_slugs(first.genre, second.genre), style=join_slugs(first.style, second.style))


def cutoff_year(works: Sequence[Work]) -> int | None:
    """The year before which a cut list has no further dated works: it ascends by year, and `works` are its first ones.

    A few works come later in a list than their year. So the year is that at the end of `works`, less a margin: by how
    many years works in this list are late. None if fewer than 4 × NEIGHBOURS works are dated.
    """
    years = [work.year for work in works if is_dated(work) and work.year is not None]
    if len(years) < 4 * NEIGHBOURS:
        return None
    medians = (statistics.median(years[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]) for at in range(len(years)))
    delays = sorted((median - year for median, year in zip(medians, years, strict=True)), reverse=True)
    margin = max(delays[len(years) // WORKS_PER_OUTLIER], MIN_MARGIN_YEARS)
    return int(statistics.median(years[-2 * NEIGHBOURS :]) - margin)


def map_in_order(
    threads: ThreadPoolExecutor, request: Callable[[S], T], items: Iterable[S]
) -> Generator[T | Failure, None, None]:
    """Yield `request` of each item, or its failure, in order, computed in threads at most LOOK_AHEAD items ahead.

    Requests that were started are finished even if the generator is closed, so that timing decides nothing.
    """

    def attempt(item: S) -> T | Failure:
        try:
            return request(item)
        except FAILURES as failure:
            return failure

    remaining = iter(items)
    started = deque(threads.submit(attempt, item) for item in islice(remaining, LOOK_AHEAD))
    try:
        while started:
            value = started.popleft().result()
            started.extend(threads.submit(attempt, item) for item in islice(remaining, 1))
            yield value
    finally:
        wait(started)


def describe_cost(listing: Listing, cutoff_year: int | None, artists: int, rate_per_s: float, free_only: bool) -> str:
    """A sentence on how a list was cut, what completing it through `artists` artists takes, and how to shorten that.

    The number of requests is estimated from WikiArt's averages; the size of an oeuvre is known after it is requested.
    """
    beyond = max((listing.claimed or 0) - listing.listed, 0)
    requests = artists + max(artists * WORKS_PER_ARTIST, beyond) + (beyond if free_only else 0)
    of = f" of {listing.claimed:,}" if listing.claimed else ""
    which = f" that is undated or from {cutoff_year} on" if cutoff_year is not None else ""
    return (
        f"{listing.query}: its list ends after {listing.listed:,}{of} works, the earliest; the others are looked for "
        f"among the works of {artists:,} artists, each{which} asked for by itself. At WikiArt's {WORKS_PER_ARTIST} "
        f"works an artist that is up to {requests:,} requests, {requests / rate_per_s / 3600:,.1f} hours at the set "
        "rate. What arrives is kept, so it may be stopped and goes on; scrape.wikiart.limit and "
        "scrape.wikiart.max_requests make it shorter"
    )
