"""All works of a genre or style, beyond the 3,600 that a list shows: the rest artist by artist.

A list that was cut has shown its earliest works. What lies beyond is looked for in the oeuvre of each artist, joined
with what the list showed by the image's path; where the list cannot tell whether a work is of the genre or style,
its details are asked for, a request a work. The order is fixed and results are taken in it, so that neither threads
nor kills change the catalog.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from atelier.data.catalog import Work
from atelier.data.coverage import Reach, SourceWorks, YearSpan
from atelier.errors import AtelierError
from atelier.progress import ignore_progress
from atelier.web.response import FetchError
from atelier.wikiart.asking import Asker, Gone, Unreadable
from atelier.wikiart.formats import (
    ALPHABET,
    MAX_ALPHABET_BYTES,
    Artist,
    Details,
    Piece,
    details_path,
    image_key,
    is_dated,
    oeuvre_path,
    parse_alphabet,
    parse_details,
    parse_oeuvre,
)
from atelier.wikiart.lists import TWICE, Listing, Query, edge_of, in_order
from atelier.wikiart.misses import MISSES, Miss, Misses, announcement, attempt, given_up
from atelier.wikiart.rights import ByPage, Judge, by_death
from atelier.wikiart.slugs import is_among, slugs

THREADS = 4  # enough to keep ten requests a second under way; the client's pace is what limits
NOT_FREE = "not known to be free"


def harvest(
    asker: Asker,
    query: Query,
    *,
    free_only: bool = False,
    limit: int | None = None,
    tell: Callable[[str], None] = print,
    report: Callable[[int, int, str], None] = ignore_progress,
) -> SourceWorks:
    """The works of `query`, at most `limit`, with `free_only` those known to be public domain.

    `tell` gets a sentence before a long way begins. Raises AtelierError where the list does not exist, or where the
    site fails before the list has ended or any work is kept. Where it fails later, the works so far are returned, with
    the reason in `incomplete`. What arrived is stored in any case, and a second call goes on from there.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        run = _Harvest(asker, query, threads, free_only, limit, report)
        try:
            run.walk_the_list()
            if run.listing.is_cut and not run.is_full and query.kind != "artist":
                run.walk_the_artists(tell)
        except AtelierError as error:
            if error is not run.misses.gave_up or not run.kept:
                raise
    return run.found()


class _Harvest:
    """What has been found so far. One thread keeps it; only asking is handed to `threads`."""

    def __init__(
        self,
        asker: Asker,
        query: Query,
        threads: ThreadPoolExecutor,
        free_only: bool,
        limit: int | None,
        report: Callable[[int, int, str], None],
    ) -> None:
        self.asker, self.query, self.threads = asker, query, threads
        self.free_only, self.limit, self.report = free_only, limit, report
        self.listing = Listing(asker, query)
        self.artists: dict[str, Artist] = {}
        self.lacks_artists: FetchError | None = None  # why, where the site has a list of them
        self.judge: Judge = lambda work: "unknown"
        self.kept: dict[str, Work] = {}
        self.seen: set[str] = set()  # image paths of works of the genre or style, kept or not
        self.plain = YearSpan.of(())
        self.by_route: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.misses = Misses()
        self.notes: list[str] = []
        self.edge: int | None = None
        self.dated_before = 0

    @property
    def is_full(self) -> bool:
        return self.limit is not None and len(self.kept) >= self.limit

    def walk_the_list(self) -> None:
        """The plain list, as far as the site shows it."""
        try:
            for number, works in enumerate(self.listing.pages(), 1):
                if number == 1:
                    self._ask_for_the_artists()
                self.seen.update(image_key(work.image_url) for work in works)
                self._keep(works, "lists")
                self._progress(f"page {number} of the list")
                if self.is_full:
                    break
        except FetchError as error:
            raise given_up(error, str(error)) from None
        finally:
            self.plain = YearSpan.of(self.kept.values())
        if self.listing.budget_spent:
            self.misses.note(self.listing.budget_spent, "", "pages of the list", self.listing.pages_left)

    def walk_the_artists(self, tell: Callable[[str], None]) -> None:
        """Every artist's works that the list did not show."""
        if self.lacks_artists:
            self.misses.gave_up = given_up(self.lacks_artists, self.misses.this_time[0])
            raise self.misses.gave_up
        listed = Counter(work.artist_slug for work in self.listing.works.values() if work.artist_slug)
        first = sorted(listed, key=lambda slug: (-listed[slug], slug))
        others = sorted(self.artists.keys() - listed.keys())
        artists = [self.artists.get(slug, Artist(slug, "", None)) for slug in [*first, *others]]
        self.edge = edge_of(list(self.listing.works.values()))
        if not self.artists:
            self.notes.append(
                f"{self.query}: completed only from the {len(first):,} artists whom its list shows"
            )
        tell(
            announcement(
                str(self.query),
                shown=self.listing.seen,
                claimed=self.listing.claimed,
                edge=self.edge,
                artists=len(artists),
                rate_per_s=self.asker.client.rate_per_s("/"),
                free_only=self.free_only,
            )
        )
        oeuvres = in_order(self.threads, lambda artist: attempt(lambda: self._oeuvre(artist)), artists)
        for number, (artist, oeuvre) in enumerate(zip(artists, oeuvres, strict=False)):
            if number >= len(first) and self._has_what_is_claimed():
                self.notes.append(
                    f"{self.query}: all {self.listing.claimed:,} works that the site claims are found; "
                    f"{len(artists) - number:,} artists whom its list does not show were left out"
                )
                break
            if isinstance(oeuvre, MISSES):
                self.misses.note(oeuvre, oeuvre_path(artist.slug), "artists")
            else:
                self.misses.none()
                self._take(artist, oeuvre)
            self._progress(f"artist {number + 1:,} of {len(artists):,}")
            if self.is_full:
                break
        oeuvres.close()

    def found(self) -> SourceWorks:
        skipped = self.skipped + self.listing.skipped  # without what is nought
        self.misses.unconfirmed = self.asker.unconfirmed()
        return SourceWorks(
            works=list(self.kept.values()),
            listed=len(self.kept) + skipped.total(),
            claimed=self.listing.claimed,
            skipped=dict(skipped),
            cut_at_cap=self.listing.is_cut,
            notes=[*self.listing.notes, *self.notes, *self.misses.sentences()],
            incomplete=[*([self.listing.unread] if self.listing.unread else []), *self.misses.incomplete()],
            reach=Reach(
                plain_lists=self.plain,
                by_route={"lists": 0, "artists": 0} | self.by_route,
                requests=self.asker.answered,
                failed_for_good=self.misses.for_good,
                failed=self.misses.this_time,
                not_asked=self.misses.not_asked,
                dated_before=self.edge,
                dated_before_works=self.dated_before,
            ),
        )

    def _ask_for_the_artists(self) -> None:
        """All artists of the site in one request: who is dead for how long, and whose oeuvre there is to ask for."""
        asked = attempt(
            lambda: self.asker.ask("artists", ALPHABET, parse_alphabet, max_bytes=MAX_ALPHABET_BYTES)
        )
        if isinstance(asked, MISSES):
            self.misses.note(asked, ALPHABET, "lists of all artists")
            self.notes.append("the site's list of artists did not come: deaths are unknown")
            if isinstance(asked, FetchError) and asked.kind == "error" and not isinstance(asked, Unreadable):
                self.lacks_artists = asked
        else:
            self.artists = asked
        year = int(self.asker.snapshot[:4])  # not the clock: same params, same catalog
        by_page = ByPage(self.asker, self.artists, year)
        self.judge = by_page if self.free_only else by_death(self.artists, year)

    def _has_what_is_claimed(self) -> bool:
        claimed = self.listing.claimed or 0
        return self.listing.seen < claimed <= len(self.seen)

    def _oeuvre(self, artist: Artist) -> Sequence[Piece | str]:
        def read(content: bytes) -> Sequence[Piece | str]:
            return parse_oeuvre(content, artist, self.asker.base_url)

        return self.asker.ask("oeuvres", oeuvre_path(artist.slug), read)

    def _take(self, artist: Artist, oeuvre: Sequence[Piece | str]) -> None:
        """What of an oeuvre is of the genre or style."""
        pieces = list(self._in_question(oeuvre))
        asked = in_order(self.threads, lambda piece: attempt(lambda: self._details(piece)), pieces)
        hits: dict[str, tuple[Piece, Details]] = {}
        for piece, details in zip(pieces, asked, strict=True):
            if isinstance(details, MISSES):
                self.misses.note(details, details_path(piece.work.id), "works")
                continue
            self.misses.none()
            titles = details.genre if self.query.kind == "genre" else details.style
            if self.query.kind != "artist" and is_among(self.query.kind, self.query.slug, titles):
                hits[image_key(piece.work.image_url)] = piece, details
        if hits:
            self.seen |= hits.keys()
            self._keep(self._identified(artist, hits), "artists")

    def _in_question(self, oeuvre: Iterable[Piece | str]) -> Iterable[Piece]:
        """Those that the list neither showed nor would have shown."""
        here: set[str] = set()
        for piece in oeuvre:
            if isinstance(piece, str):
                self.skipped[piece] += 1
                continue
            key = image_key(piece.work.image_url)
            if key in self.seen:
                continue
            if key in here:
                self.skipped[TWICE] += 1
            elif self.edge is not None and is_dated(piece.work) and (piece.work.year or 0) < self.edge:
                self.dated_before += 1
            else:
                here.add(key)
                yield piece

    def _details(self, piece: Piece) -> Details:
        def read(content: bytes) -> Details:
            return parse_details(content, piece.work.id, self.asker.base_url)

        return self.asker.ask("details", details_path(piece.work.id), read, record=piece.record)

    def _identified(self, artist: Artist, hits: dict[str, tuple[Piece, Details]]) -> list[Work]:
        """The works of `hits`, each by the id that the artist's list has for its image, else by its contentId."""
        listing = Listing(self.asker, Query("artist", artist.slug))
        listed: dict[str, Work] = {}
        missed: Miss | None = None
        try:
            for works in listing.pages():
                keys = {image_key(work.image_url): work for work in works}
                listed |= {key: work for key, work in keys.items() if key in hits}
                if len(listed) == len(hits):
                    break
        except MISSES as miss:
            missed = miss
        missed = missed or listing.budget_spent
        if missed:
            left = len(hits) - len(listed)
            self.misses.note(missed, listing.query.path(1), "works", left)
        # an id must not depend on what was in the budget, or failed today
        return [
            self._work(piece, details, listed.get(key))
            for key, (piece, details) in hits.items()
            if key in listed or missed is None or isinstance(missed, Gone)
        ]

    def _work(self, piece: Piece, details: Details, listed: Work | None) -> Work:
        """The row of a work, its list's words before the oeuvre's."""
        work = listed or replace(piece.work, page_url=details.page_url)
        if work.year is None:
            work = replace(work, year_text=work.year_text or piece.work.year_text, year=piece.work.year)
        return replace(
            work,
            genre=", ".join(slugs("genre", details.genre)),
            style=", ".join(slugs("style", details.style)),
            page_url=work.page_url or details.page_url,
            width=work.width or piece.work.width,
            height=work.height or piece.work.height,
        )

    def _keep(self, works: Iterable[Work], route: str) -> None:
        """Keep what may be kept, in order, judging no more works than there is room for."""
        works = list(works)
        waiting = [work for work in works if work.id not in self.kept]
        self.skipped[TWICE] += len(works) - len(waiting)  # the same work under another image
        while waiting and not self.is_full:
            room = len(waiting) if self.limit is None else self.limit - len(self.kept)
            batch, waiting = waiting[:room], waiting[room:]
            judged = in_order(self.threads, lambda work: attempt(lambda: self.judge(work)), batch)
            for work, rights in zip(batch, judged, strict=True):
                if isinstance(rights, MISSES):
                    self.misses.note(rights, work.page_url, "works")
                    continue
                self.misses.none()
                if self.free_only and rights != "public-domain":
                    self.skipped[NOT_FREE] += 1
                else:
                    self.kept[work.id] = replace(work, rights=rights)
                    self.by_route[route] += 1

    def _progress(self, note: str) -> None:
        known = [number for number in (self.limit, self.listing.claimed) if number]
        self.report(len(self.kept), max(min(known, default=0), len(self.kept)), note)
