"""A work's rights, from the year in which its artist died or from WikiArt's mark on the work's page.

A work is in the public domain if its artist died more than 70 full calendar years before the snapshot's year, or if
its page carries WikiArt's mark for it. The lists say nothing about rights.
"""

import re
import threading
from collections.abc import Callable, Mapping

from bs4 import BeautifulSoup, SoupStrainer

from atelier.data.catalog import Rights, Work
from atelier.text import keep_only_tags
from atelier.wikiart.cached_client import CachedClient, NotFound
from atelier.wikiart.formats import Artist, UnexpectedContent, artist_path, parse_year_of_death

TERM_YEARS = 70  # of copyright after the year of death
MAX_PAGE_BYTES = 3_000_000  # a real page has some 150 kB
MARKS: tuple[Rights, ...] = ("public-domain", "fair-use", "unknown")
PAINTING_PAGE = re.compile(rb"copyright-wrapper|wiki-layout-art|wiki-layout-painting|schema\.org/Painting")
TAGS = ("div", "a", "i")
WRAPPER_CLASS = re.compile(r"(?:^|\s)copyright-wrapper(?:\s|$)")
FAIR_USE_CLASSES = ("copyright-author", "copyright-clear")

RightsOf = Callable[[Work], Rights]


def rights_by_death(artists: Mapping[str, Artist], year: int) -> RightsOf:
    """Return a function from a work to its rights in `year`, by the artist's death alone, without requests."""
    return lambda work: "public-domain" if _is_free(artists.get(work.artist_slug), year) else "unknown"


class RightsByPage:
    """A function from a work to its rights in `year`, by the artist's death, then by the work's page.

    Requests artists who are not among `artists`, and pages of works whose artist's death does not decide.
    """

    def __init__(self, client: CachedClient, artists: Mapping[str, Artist], year: int) -> None:
        self._client, self._artists, self._year = client, dict(artists), year
        self._lock = threading.Lock()

    def __call__(self, work: Work) -> Rights:
        """Return the rights of `work`. Raises FetchError if the site fails, BudgetSpent."""
        if work.artist_slug and _is_free(self._artist(work.artist_slug), self._year):
            return "public-domain"
        base_url = self._client.base_url.rstrip("/")
        if not work.page_url.startswith(base_url + "/"):
            return "unknown"
        try:
            return self._client.fetch(
                "painting pages", work.page_url.removeprefix(base_url), _parse_cached_mark,
                fingerprint=f"{work.artist_slug} {work.title}", max_bytes=MAX_PAGE_BYTES, extract=_extract_mark,
            )  # fmt: skip
        except NotFound:
            return "unknown"

    def _artist(self, slug: str) -> Artist | None:
        with self._lock:  # so that no two threads request the same artist
            if slug not in self._artists:
                try:
                    died = self._client.fetch("artists", artist_path(slug), parse_year_of_death)
                except NotFound:
                    died = None
                self._artists[slug] = Artist(slug, "", died)
            return self._artists[slug]


def parse_mark(page: bytes) -> Rights:
    """The rights that the mark under the picture on a work's page states; "unknown" without a mark."""
    only = SoupStrainer("div", class_=WRAPPER_CLASS)  # parsing the whole page takes much longer
    soup = BeautifulSoup(keep_only_tags(page, TAGS), "html.parser", parse_only=only)
    for link in soup.select("a.copyright"):
        if link.select_one("i.copyright-icon-public-domain"):
            return "public-domain"
        classes = " ".join(str(name) for tag in [link, *link.select("i")] for name in tag.get("class") or ())
        if any(word in classes for word in FAIR_USE_CLASSES) or "fair use" in link.get_text().casefold():
            return "fair-use"
    return "unknown"


def _is_free(artist: Artist | None, year: int) -> bool:
    return artist is not None and artist.died is not None and year - artist.died > TERM_YEARS


def _extract_mark(page: bytes) -> bytes:
    """Reduce a work's page to its mark. Raises UnexpectedContent for any other page."""
    if not PAINTING_PAGE.search(page):
        start = page[:40].decode("utf-8", "replace")
        raise UnexpectedContent(f"no page of a painting; it begins with {start!r}")
    return parse_mark(page).encode()


def _parse_cached_mark(cached: bytes) -> Rights:
    for mark in MARKS:
        if cached == mark.encode():
            return mark
    raise UnexpectedContent("no mark that is kept here")
