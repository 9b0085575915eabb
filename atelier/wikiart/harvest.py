"""Finding all works of a genre or style, also beyond the 3,600 that its list shows.

A cut list has shown its earliest works. The others are looked for in the oeuvre of each artist and matched with the
list by the path of the image. Where the list cannot tell whether a work is of the genre or style, its details are
requested, one request a work. Requests are made in threads but their results are used in a fixed order, so the catalog
depends neither on timing nor on interruptions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from atelier.data.catalog import Work
from atelier.data.coverage import SourceWorks, count_and_first, year_span
from atelier.errors import AtelierError
from atelier.progress import ignore_progress
from atelier.web.response import FetchError
from atelier.wikiart import formats
from atelier.wikiart.cached_client import FAILURES, CachedClient, Failure, FailureLog, NotFound, UnexpectedResponse
from atelier.wikiart.formats import Artist, Details, OeuvreWork, details_path, image_key, oeuvre_path, parse_details
from atelier.wikiart.lists import LISTED_TWICE, Listing, Query, cutoff_year, describe_cost, map_in_order
from atelier.wikiart.pages import RightsOf, titles_to_slugs

S = TypeVar("S")
T = TypeVar("T")

THREADS = 4  # enough for ten requests a second, which the client's rate limits
NOT_FREE = "not known to be free"


def harvest(
    client: CachedClient,
    query: Query,
    *,
    free_only: bool = False,
    limit: int | None = None,
    tell: Callable[[str], None] = print,
    on_progress: Callable[[int, int, str], None] = ignore_progress,
) -> SourceWorks:
    """Return the works of `query`, at most `limit`; with `free_only` those known to be in the public domain.

    `tell` is called with a sentence on the cost before the artists' oeuvres are requested, `on_progress` with the
    numbers of works kept and expected, and a note on what was read. Raises AtelierError if the list does not exist, or
    if the site fails before the list has ended or any work is kept. If it fails later, the works so far are returned
    with the reason in `incomplete`. Responses are cached in any case, and a second call goes on from there.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        run = _Harvest(client, query, threads, free_only, limit, on_progress)
        try:
            run.read_list()
            if run.listing.is_cut and not run.is_full and query.kind != "artist":
                run.read_oeuvres(tell)
        except AtelierError as error:
            if error is not run.failures.stopped_by or not run.kept:
                raise
    return run.result()


@dataclass(eq=False)
class _Harvest:
    """The works found so far. One thread changes it; only requests are made in `threads`."""

    client: CachedClient
    query: Query
    threads: ThreadPoolExecutor
    free_only: bool
    limit: int | None
    on_progress: Callable[[int, int, str], None]
    artists: dict[str, Artist] = field(default_factory=dict)
    artists_error: FetchError | None = None  # why the site's list of artists could not be read
    kept: dict[str, Work] = field(default_factory=dict)  # by id
    found_images: set[str] = field(default_factory=set)  # image keys of works of the genre or style, kept or not
    by_route: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failures: FailureLog = field(default_factory=FailureLog)
    notes: list[str] = field(default_factory=list)
    cutoff_year: int | None = None
    before_cutoff: int = 0  # works

    def __post_init__(self) -> None:
        self.listing = Listing(self.client, self.query)
        self.plain_lists: dict[str, int | None] = {}  # what the lists alone give
        self.rights_of = RightsOf({}, 0)  # until the artists are read

    @property
    def is_full(self) -> bool:
        return self.limit is not None and len(self.kept) >= self.limit

    def read_list(self) -> None:
        """Read the list as far as the site shows it."""
        try:
            for number, works in enumerate(self.listing.pages(), 1):
                if number == 1:
                    self._read_artists()
                self.found_images.update(image_key(work.image_url) for work in works)
                self._keep(works, "lists")
                self._report_progress(f"page {number} of the list")
                if self.is_full:
                    break
        except FetchError as error:
            raise self.failures.stop_error(error, str(error)) from None
        finally:
            self.plain_lists = {"works": len(self.kept), **year_span(self.kept.values())}
        if self.listing.budget_spent:
            pages = self.listing.pages_not_requested
            self.failures.add(self.listing.budget_spent, "", "pages of the list", pages)

    def read_oeuvres(self, tell: Callable[[str], None]) -> None:
        """Read the oeuvre of every artist and keep the works that the list did not show."""
        if self.artists_error:
            self.failures.stopped_by = self.failures.stop_error(self.artists_error, self.failures.temporary[0])
            raise self.failures.stopped_by
        listed = Counter(work.artist_slug for work in self.listing.works.values() if work.artist_slug)
        first = sorted(listed, key=lambda slug: (-listed[slug], slug))
        others = sorted(self.artists.keys() - listed.keys())
        artists = [self.artists.get(slug, Artist(slug, "", None)) for slug in [*first, *others]]
        self.cutoff_year = cutoff_year(list(self.listing.works.values()))
        if not self.artists:
            self.notes.append(f"{self.query}: completed only from the {len(first):,} artists whom its list shows")
        rate_per_s = self.client.client.rate_per_s("/")
        tell(describe_cost(self.listing, self.cutoff_year, len(artists), rate_per_s, self.free_only))
        claimed = self.listing.claimed or 0
        oeuvres = map_in_order(self.threads, self._oeuvre, artists)
        for number, (artist, oeuvre) in enumerate(zip(artists, oeuvres, strict=False)):
            if number >= len(first) and self.listing.listed < claimed <= len(self.found_images):
                self.notes.append(
                    f"{self.query}: all {claimed:,} works that the site claims are found; "
                    f"{len(artists) - number:,} artists whom its list does not show were left out"
                )
                break
            if isinstance(oeuvre, FAILURES):
                self.failures.add(oeuvre, oeuvre_path(artist.slug), "artists")
            else:
                self.failures.add_success()
                self._keep_matching(artist, oeuvre)
            self._report_progress(f"artist {number + 1:,} of {len(artists):,}")
            if self.is_full:
                break
        oeuvres.close()

    def result(self) -> SourceWorks:
        skipped = self.skipped + self.listing.skipped  # drops zero counts
        self.failures.unconfirmed = self.client.confirm_redirects()
        unreadable = self.listing.unreadable_page
        return SourceWorks(
            works=list(self.kept.values()),
            listed=len(self.kept) + skipped.total(),
            claimed=self.listing.claimed,
            skipped=dict(skipped),
            cut_at_cap=self.listing.is_cut,
            notes=[*self.listing.notes, *self.notes, *self.failures.notes()],
            incomplete=[*([unreadable] if unreadable else []), *self.failures.incomplete_because()],
            reach={
                "plain_lists": self.plain_lists,
                "by_route": {"lists": 0, "artists": 0, **self.by_route},
                "requests": {**self.client.responses, "all": self.client.responses.total()},  # cached ones as well
                "failed_for_good": count_and_first(self.failures.permanent),  # not fetched again at this snapshot
                "failed": count_and_first(self.failures.temporary),  # fetched again by the next run
                "not_asked": dict(self.failures.not_requested),  # because of the budget
                "not_asked_because_dated": {"before": self.cutoff_year, "works": self.before_cutoff},
            },
        )

    def _read_artists(self) -> None:
        """Request the list of all artists, with their years of death, in one request."""
        try:
            self.artists = self.client.fetch(
                "artists", formats.ARTISTS_PATH, formats.parse_artists, max_bytes=formats.MAX_ARTISTS_BYTES
            )
        except FAILURES as failure:
            self.failures.add(failure, formats.ARTISTS_PATH, "lists of all artists")
            self.notes.append("the site's list of artists did not come: deaths are unknown")
            if isinstance(failure, FetchError) and not isinstance(failure, UnexpectedResponse):
                self.artists_error = failure if failure.kind == "error" else None
        year = int(self.client.snapshot[:4])  # not the clock, so that the same params give the same catalog
        self.rights_of = RightsOf(self.artists, year, self.client if self.free_only else None)

    def _oeuvre(self, artist: Artist) -> Sequence[OeuvreWork | str]:
        base_url = self.client.base_url
        return self.client.fetch(
            "oeuvres", oeuvre_path(artist.slug), lambda content: formats.parse_oeuvre(content, artist, base_url)
        )

    def _results(
        self, request: Callable[[S], T], items: Sequence[S], path: Callable[[S], str]
    ) -> Iterator[tuple[S, T]]:
        """Yield the items, which are works, with the result of `request`; record those for which it fails."""
        for item, result in zip(items, map_in_order(self.threads, request, items), strict=True):
            if isinstance(result, FAILURES):
                self.failures.add(result, path(item), "works")
            else:
                self.failures.add_success()
                yield item, result

    def _keep_matching(self, artist: Artist, oeuvre: Sequence[OeuvreWork | str]) -> None:
        """Keep the works of an oeuvre that are of the genre or style."""
        kind = self.query.kind
        assert kind != "artist"
        matching: dict[str, tuple[OeuvreWork, Details]] = {}
        undecided = list(self._undecided(oeuvre))
        for found, details in self._results(self._details, undecided, lambda found: details_path(found.work.id)):
            if self.query.slug in titles_to_slugs(kind, details.genre if kind == "genre" else details.style):
                matching[image_key(found.work.image_url)] = found, details
        if matching:
            self.found_images |= matching.keys()
            self._keep(self._with_list_ids(artist, matching), "artists")

    def _undecided(self, oeuvre: Iterable[OeuvreWork | str]) -> Iterable[OeuvreWork]:
        """Works that the list did not show, and would not have shown if they were of the genre or style."""
        here: set[str] = set()
        for found in oeuvre:
            if isinstance(found, str):
                self.skipped[found] += 1
                continue
            key, work = image_key(found.work.image_url), found.work
            if key in self.found_images:
                continue
            if key in here:
                self.skipped[LISTED_TWICE] += 1
            elif self.cutoff_year is not None and formats.is_dated(work) and (work.year or 0) < self.cutoff_year:
                self.before_cutoff += 1
            else:
                here.add(key)
                yield found

    def _details(self, found: OeuvreWork) -> Details:
        content_id, base_url = found.work.id, self.client.base_url
        return self.client.fetch(
            "details", details_path(content_id), lambda content: parse_details(content, content_id, base_url),
            fingerprint=found.fingerprint,
        )  # fmt: skip

    def _with_list_ids(self, artist: Artist, matching: dict[str, tuple[OeuvreWork, Details]]) -> list[Work]:
        """The matching works with the ids of the artist's list, or with their contentIds if the list lacks them."""
        listing = Listing(self.client, Query("artist", artist.slug))
        listed: dict[str, Work] = {}
        failure: Failure | None = None
        try:
            for works in listing.pages():
                by_key = {image_key(work.image_url): work for work in works}
                listed |= {key: work for key, work in by_key.items() if key in matching}
                if len(listed) == len(matching):
                    break
        except FAILURES as error:
            failure = error
        failure = failure or listing.budget_spent
        if failure:
            self.failures.add(failure, listing.query.path(1), "works", len(matching) - len(listed))
        # an id must depend neither on the budget nor on a temporary failure: such works are left to the next run
        return [
            self._merged(found, details, listed.get(key))
            for key, (found, details) in matching.items()
            if key in listed or failure is None or isinstance(failure, NotFound)
        ]

    def _merged(self, found: OeuvreWork, details: Details, listed: Work | None) -> Work:
        """The catalog's work: the list's fields where it has them, else those of the oeuvre and the details."""
        work = listed or replace(found.work, page_url=details.page_url)
        if work.year is None:
            work = replace(work, year_text=work.year_text or found.work.year_text, year=found.work.year)
        return replace(
            work,
            genre=", ".join(titles_to_slugs("genre", details.genre)),
            style=", ".join(titles_to_slugs("style", details.style)),
            page_url=work.page_url or details.page_url,
            width=work.width or found.work.width,
            height=work.height or found.work.height,
        )

    def _keep(self, works: Iterable[Work], route: str) -> None:
        """Keep works in order, up to the limit, finding the rights of no more works than may be kept."""
        works = list(works)
        waiting = [work for work in works if work.id not in self.kept]
        self.skipped[LISTED_TWICE] += len(works) - len(waiting)  # the same work with another image
        while waiting and not self.is_full:
            room = len(waiting) if self.limit is None else self.limit - len(self.kept)
            batch, waiting = waiting[:room], waiting[room:]
            for work, rights in self._results(self.rights_of, batch, lambda work: work.page_url):
                if self.free_only and rights != "public-domain":
                    self.skipped[NOT_FREE] += 1
                else:
                    self.kept[work.id] = replace(work, rights=rights)
                    self.by_route[route] += 1

    def _report_progress(self, note: str) -> None:
        known = [number for number in (self.limit, self.listing.claimed) if number]
        self.on_progress(len(self.kept), max(min(known, default=0), len(self.kept)), note)
