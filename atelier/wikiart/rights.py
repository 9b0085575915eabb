"""What is known of a work's rights: from its artist's death, or from the mark on its page.

The lists carry no rights. A work is public domain where its artist died more than YEARS full calendar years before
the snapshot's year, or where its own page carries WikiArt's mark of it.
"""

import re
import threading
from collections.abc import Callable, Mapping

from bs4 import BeautifulSoup, SoupStrainer

from atelier.data.catalog import Rights, Work
from atelier.text import keep_only_tags
from atelier.wikiart.asking import Asker, Gone
from atelier.wikiart.formats import Artist, NotAPage, artist_path, parse_death

YEARS = 70  # life + 70, counted from the end of the year of death
MAX_PAGE_BYTES = 3_000_000  # a real page has some 150 kB
MARKS: tuple[Rights, ...] = ("public-domain", "fair-use", "unknown")
PAINTING_PAGE = re.compile(rb"copyright-wrapper|wiki-layout-art|wiki-layout-painting|schema\.org/Painting")
TAGS = ("div", "a", "i")
WRAPPER = re.compile(r"(?:^|\s)copyright-wrapper(?:\s|$)")
FAIR_USE = ("copyright-author", "copyright-clear")

Judge = Callable[[Work], Rights]


def by_death(artists: Mapping[str, Artist], year: int) -> Judge:
    """Public domain where the artist is known to be long dead, else unknown; asks nobody. `year` is the present."""
    return lambda work: "public-domain" if _is_free(artists.get(work.artist_slug), year) else "unknown"


class ByPage:
    """Judges by death, asking for the artist where `artists` lacks one; then by the work's page."""

    def __init__(self, asker: Asker, artists: Mapping[str, Artist], year: int) -> None:
        self._asker, self._artists, self._year = asker, dict(artists), year
        self._lock = threading.Lock()

    def __call__(self, work: Work) -> Rights:
        """Raises FetchError where the site fails: a hiccup must not drop a work; BudgetSpent."""
        if work.artist_slug and _is_free(self._artist(work.artist_slug), self._year):
            return "public-domain"
        if not work.page_url.startswith(self._asker.base_url.rstrip("/") + "/"):
            return "unknown"
        path = work.page_url.removeprefix(self._asker.base_url.rstrip("/"))
        try:
            return self._asker.ask(
                "painting pages", path, _mark, record=f"{work.artist_slug} {work.title}",
                max_bytes=MAX_PAGE_BYTES, distil=_distilled,
            )  # fmt: skip
        except Gone:
            return "unknown"

    def _artist(self, slug: str) -> Artist | None:
        with self._lock:  # so that no two threads ask for the same one
            if slug not in self._artists:
                try:
                    died = self._asker.ask("artists", artist_path(slug), parse_death)
                except Gone:
                    died = None
                self._artists[slug] = Artist(slug, "", died)
            return self._artists[slug]


def parse_mark(page: bytes) -> Rights:
    """What a painting's page says under the picture."""
    only = SoupStrainer("div", class_=WRAPPER)  # the rest of a page is not worth a tree
    soup = BeautifulSoup(keep_only_tags(page, TAGS), "html.parser", parse_only=only)
    for link in soup.select("a.copyright"):
        if link.select_one("i.copyright-icon-public-domain"):
            return "public-domain"
        classes = " ".join(str(name) for tag in [link, *link.select("i")] for name in tag.get("class") or ())
        if any(word in classes for word in FAIR_USE) or "fair use" in link.get_text().casefold():
            return "fair-use"
    return "unknown"


def _is_free(artist: Artist | None, year: int) -> bool:
    return artist is not None and artist.died is not None and year - artist.died > YEARS


def _distilled(page: bytes) -> bytes:
    """The mark of a painting's page. Raises NotAPage for any other page, which says nothing about rights."""
    if not PAINTING_PAGE.search(page):
        raise NotAPage(f"no page of a painting; it begins with {page[:40].decode('utf-8', 'replace')!r}")
    return parse_mark(page).encode()


def _mark(kept: bytes) -> Rights:
    for mark in MARKS:
        if kept == mark.encode():
            return mark
    raise NotAPage("no mark that is kept here")
