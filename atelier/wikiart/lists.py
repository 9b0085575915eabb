"""WikiArt's lists, page by page, as works of the catalog: what came, what was left out and why.

One list of a genre or style shows at most PAGES × PAGE_SIZE works, the earliest ones; `is_cut` says when that, or a
page that cannot be read, cut it short. harvest.py gets the rest.

Where a cut list ends in time: what is dated well before was shown by the list, or is not of it.

Work for many threads whose results come in the order in which it was given. Knows nothing of what it is.
"""

import statistics
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, replace
from itertools import islice
from typing import Literal, TypeVar
from urllib.parse import quote

from atelier.data.catalog import Work
from atelier.data.coverage import SourceWorks
from atelier.errors import TransientError
from atelier.progress import CountCallback, ignore_progress
from atelier.web.rate_limit import BudgetSpent
from atelier.wikiart.asking import Asker, Gone, Unreadable
from atelier.wikiart.asking import Kind as Asked
from atelier.wikiart.formats import Page, is_dated, parse_page
from atelier.wikiart.slugs import union

Kind = Literal["genre", "style", "artist"]

PAGES, PAGE_SIZE = 60, 60  # the site's own cap: 3,600 works a list

ARTIST_PAGES = 2000  # an artist's list has no cap; one that does not end has

TWICE = "listed twice"

CHECK = "check the slug (`atelier genres`, `atelier styles`) and scrape.wikiart.base_url"


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

    def __str__(self) -> str:
        return f"{self.kind} {self.slug!r}"


class UnreadableList(Gone, TransientError):
    """The first page of a list comes as something else, which may pass or may mean that the address is wrong."""


class Listing:
    """One list as it is walked: `pages` gives works, the rest says what has been seen up to there."""

    def __init__(self, asker: Asker, query: Query) -> None:
        self.query = query
        self.works: dict[str, Work] = {}  # each once, in the list's order
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self.unread = ""  # which page could not be read, where the list owes works behind it
        self.claimed: int | None = None
        self.seen = 0  # records
        self.is_cut = False
        self.budget_spent: BudgetSpent | None = None
        self.pages_left = 0  # that the budget did not allow
        self._asker = asker

    def pages(self) -> Iterator[Sequence[Work]]:
        """The works of one page after the other, without those that came before.

        Raises Gone where there is no such list, FetchError where the site fails.
        """
        last = ARTIST_PAGES if self.query.kind == "artist" else PAGES
        size = 0
        for number in range(1, last + 1):
            page = self._page(number)
            if page is None or not page.records:
                break
            size = len(page.records)
            self.claimed = page.claimed or self.claimed
            self.seen += size
            new = self._new(page)
            if not new and any(isinstance(record, Work) for record in page.records):
                self.notes.append(f"{self.query}: page {number} only repeats earlier works; stopped there")
                break
            yield new
            self.is_cut = number == last and (size >= PAGE_SIZE or self._owes)
            # a claim below what was already shown is wrong: full pages go on
            if self.claimed is not None and (
                self.seen == self.claimed or (self.seen > self.claimed and size < PAGE_SIZE)
            ):
                break
        claims = f"claims {self.claimed:,}" if self.claimed else "does not say how many it has"
        if self.is_cut:
            self.notes.append(f"{self.query}: cut at the site's cap of {self.seen:,} works; it {claims}")
        elif self._owes and not self.budget_spent:
            self.notes.append(f"{self.query}: the site {claims} works and listed {self.seen:,}")
            # a list that ends in a full page was cut; one that ends in another has ended, and its count is off
            self.is_cut = size >= PAGE_SIZE

    @property
    def _owes(self) -> bool:
        return self.claimed is not None and self.seen < self.claimed

    def _page(self, number: int) -> Page | None:
        """One page; None where the list ends in something that is no page."""
        asker, path = self._asker, self.query.path(number)
        kind: Asked = "artist lists" if self.query.kind == "artist" else "lists"
        try:
            return asker.ask(kind, path, lambda content: parse_page(content, asker.base_url))
        except Gone as error:
            if number == 1:
                raise Gone(f"{self.query}: {error}; {CHECK}") from None
            self.notes.append(f"{self.query}: page {number}: {error}; stopped there")
        except Unreadable as error:
            # an artist's list is asked for the ids of works, which must not depend on the day
            if self.query.kind == "artist" and (number == 1 or self._owes):
                raise
            if number == 1:
                raise UnreadableList(f"{self.query}: {error.reason}; try again later, or {CHECK}") from None
            # a list may end in a page of HTML
            self.notes.append(f"{self.query}: page {number}: {error.reason}; stopped there")
            self.unread = self.notes[-1] if self._owes else ""
        except BudgetSpent as spent:
            claimed_pages = min(-(-(self.claimed or 0) // PAGE_SIZE), PAGES)
            self.budget_spent, self.pages_left = spent, max(claimed_pages - number, 0) + 1
        return None

    def _new(self, page: Page) -> list[Work]:
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
                new[record.id] = merge(new[record.id], record)
            if record.id in new or record.id in self.works:
                self.skipped[TWICE] += 1
            else:
                new[record.id] = record
        self.works |= new
        return list(new.values())


def collect(asker: Asker, queries: Sequence[Query], report: CountCallback = ignore_progress) -> SourceWorks:
    """The works of several lists as far as they show them, merged by id."""
    works: dict[str, Work] = {}
    skipped: Counter[str] = Counter()
    notes: list[str] = []
    unread: list[str] = []
    claimed, is_cut = 0, False
    for query in queries:
        listing = Listing(asker, query)
        for new in listing.pages():
            for work in new:
                works[work.id] = merge(works[work.id], work) if work.id in works else work
            claimed = max(claimed, listing.claimed or 0)
            report(len(works), max(claimed, len(works)))
        skipped += listing.skipped
        notes += listing.notes
        unread += [listing.unread] if listing.unread else []
        is_cut |= listing.is_cut
    return SourceWorks(
        works=list(works.values()),
        listed=len(works) + skipped.total(),
        claimed=claimed or None,
        skipped=dict(skipped),
        cut_at_cap=is_cut,
        notes=notes,
        incomplete=unread,
    )


def merge(first: Work, second: Work) -> Work:
    """One row of two with the same id: the more complete, the first where equal, with the genres and styles of both."""
    base = second if _completeness(second) > _completeness(first) else first
    return replace(base, genre=union(first.genre, second.genre), style=union(first.style, second.style))


def _completeness(work: Work) -> int:
    return sum(value not in ("", None) for value in astuple(work))


NEIGHBOURS = 30  # on either side, whose middle year says which year belongs at a place of the list

LEAST_MARGIN = 20  # years; of 512 works of a real list the latest stood 10 years behind its place

PASSED_OVER = (
    1000  # one work in so many may stand further behind: a slip of the pen should not cost 100,000 requests
)


def edge_of(works: Sequence[Work]) -> int | None:
    """The year before which a dated work would have been in `works`, a list's first ones in its order.

    Lists ascend by year but for a few works that stand later than their year; how much later in this list is the
    margin. None where too little is dated to tell.
    """
    years = [work.year for work in works if is_dated(work) and work.year is not None]
    if len(years) < 4 * NEIGHBOURS:
        return None
    behind = sorted(
        (
            statistics.median(years[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]) - year
            for place, year in enumerate(years)
        ),
        reverse=True,
    )
    margin = max(behind[len(years) // PASSED_OVER], LEAST_MARGIN)
    return int(statistics.median(years[-2 * NEIGHBOURS :]) - margin)


S = TypeVar("S")

T = TypeVar("T")

AHEAD = 8  # begun before the first of them is taken


def in_order(
    threads: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S]
) -> Generator[T, None, None]:
    """`work` of each item, at most AHEAD of them beyond the one that is taken; those are finished in any case."""
    coming = iter(items)
    begun: deque[Future[T]] = deque(threads.submit(work, item) for item in islice(coming, AHEAD))
    try:
        while begun:
            value = begun.popleft().result()
            begun.extend(threads.submit(work, item) for item in islice(coming, 1))
            yield value
    finally:
        wait(begun)  # a caller that has enough leaves: what was asked is the same every time
