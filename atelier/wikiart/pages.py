"""WikiArt's HTML pages: the index of genres or styles, and the mark on a work's page that states its rights.

Slugs cannot be computed from titles ("Naïve Art (Primitivism)" is `na-ve-art-primitivism`), so slugs.json lists them,
with the counts of 2019 (genres, where 3,600 means "at least") and 2020 (styles).

A work is in the public domain if its artist died more than 70 full calendar years before the snapshot's year, or if
its page carries WikiArt's mark for it. The lists say nothing about rights.
"""

import difflib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, SoupStrainer

from atelier.data.catalog import Rights, Work
from atelier.errors import AtelierError
from atelier.text import clean, keep_only_tags, slug
from atelier.web.client import PoliteClient
from atelier.wikiart.cached_client import CachedClient, NotFound
from atelier.wikiart.formats import Artist, UnexpectedContent, artist_path, parse_year_of_death

Kind = Literal["genre", "style"]

MAX_INDEX_BYTES = 2_000_000  # a real index has 26 kB
INDEX_TAGS = ("ul", "li", "a", "sup")
SLUG = re.compile(r"[a-z0-9-]{1,100}")
# what the site does not always write in the same way
VARIABLE_CHARACTERS = str.maketrans({"'": "", "’": "", "œ": "oe", "Œ": "Oe"})

MAX_PAGE_BYTES = 3_000_000  # a real page of a work has some 150 kB
MARK_TAGS = ("div", "a", "i")
MARKS: tuple[Rights, ...] = ("public-domain", "fair-use", "unknown")
PAINTING_PAGE = re.compile(rb"copyright-wrapper|wiki-layout-art|wiki-layout-painting|schema\.org/Painting")
WRAPPER_CLASS = re.compile(r"(?:^|\s)copyright-wrapper(?:\s|$)")
FAIR_USE_CLASSES = ("copyright-author", "copyright-clear")
TERM_YEARS = 70  # of copyright after the year of death


@dataclass(frozen=True, slots=True)
class Slug:
    """A genre or style: its slug, as in params.yaml, its title, and WikiArt's number of works."""

    slug: str
    title: str
    count: int | None


def read_slugs(
    kind: Kind, live: bool = False, *, base_url: str = "https://www.wikiart.org", contact: str = ""
) -> list[Slug]:
    """Genres or styles, sorted by slug, from the shipped table or, with `live`, from the site."""
    if live:
        # may_train: nothing is trained on the index page
        with PoliteClient(
            base_url, contact=contact, rate_per_s=1.0, retries=2, timeout_s=30.0, may_train=True
        ) as client:
            return fetch_slugs(kind, client)
    rows = json.loads((files("atelier.wikiart") / "slugs.json").read_text(encoding="utf-8"))[kind]
    return [Slug(**row) for row in rows]


def fetch_slugs(kind: Kind, client: PoliteClient) -> list[Slug]:
    """Fetch the site's genres or styles, sorted by slug. Raises FetchError; AtelierError if the page lists none."""
    fetched = client.fetch(f"/en/paintings-by-{kind}", max_bytes=MAX_INDEX_BYTES)
    slugs = parse_index(fetched.content, kind)
    if not slugs:
        raise AtelierError(f"{fetched.url} lists no {kind}s: the page has changed; leave out --live")
    return slugs


def parse_index(page: bytes, kind: Kind) -> list[Slug]:
    """Parse an index page; links that are no entries are skipped."""
    found = {}
    soup = BeautifulSoup(keep_only_tags(page, INDEX_TAGS), "html.parser")
    for link in soup.select("ul.dictionaries-list a[href], li.dottedItem a[href]"):
        prefix, _, slug = _path(str(link["href"])).rpartition("/")
        if not prefix.endswith(f"/paintings-by-{kind}") or not SLUG.fullmatch(slug):
            continue
        superscript = link.find("sup")
        digits = re.sub(r"\D", "", superscript.get_text()) if superscript else ""
        if superscript:
            superscript.extract()
        found[slug] = Slug(slug, clean(link.get_text()), int(digits[:9]) if digits.isascii() and digits else None)
    return sorted(found.values(), key=lambda entry: entry.slug)


def unknown_slug(kind: Kind, slug: str) -> str | None:
    """A warning with the closest slugs if `slug` is not in the shipped table, else None."""
    known = [entry.slug for entry in read_slugs(kind)]
    if slug in known:
        return None
    close = difflib.get_close_matches(slug, known, 3)
    hint = f"close to it: {', '.join(close)}" if close else f"`atelier {kind}s` lists them"
    return f"scrape.wikiart.{kind} holds {slug!r}, which is not among the {len(known)} {kind}s known here; {hint}"


def titles_to_slugs(kind: Kind, titles: str) -> list[str]:
    """The slugs of titles joined by commas, "Realism, Trompe-l'œil"; of an unknown title the likeliest slug."""
    likeliest = (slug(title.translate(VARIABLE_CHARACTERS)) for title in titles.split(",") if title.strip())
    return sorted({_slugs_by_likeliest(kind).get(name, name) for name in likeliest})


def join_slugs(*fields: str) -> str:
    """Merge fields of the catalog such as "marina" and "marina, sketch" into one, sorted and without repetition."""
    return ", ".join(sorted({name for field in fields for name in field.split(", ")} - {""}))


@cache
def _slugs_by_likeliest(kind: Kind) -> dict[str, str]:
    """The site's slugs by the slugs that their titles suggest, and by themselves."""
    entries = read_slugs(kind)
    suggested = {slug(entry.title.translate(VARIABLE_CHARACTERS)): entry.slug for entry in entries if entry.title}
    return suggested | {entry.slug: entry.slug for entry in entries}


def _path(href: str) -> str:
    try:
        return urlsplit(href).path.rstrip("/")
    except ValueError:
        return ""


class RightsOf:
    """A function from a work to its rights in `year`, by its artist's death and, with a `client`, by the work's page.

    The client requests artists who are not among `artists`, and pages of works whose artist's death does not decide.
    """

    def __init__(self, artists: Mapping[str, Artist], year: int, client: CachedClient | None = None) -> None:
        self._artists, self._year, self._client = dict(artists), year, client
        self._lock = threading.Lock()

    def __call__(self, work: Work) -> Rights:
        """Return the rights of `work`. Raises FetchError if the site fails, BudgetSpent."""
        artist = self._artist(work.artist_slug)
        if artist and artist.died is not None and self._year - artist.died > TERM_YEARS:
            return "public-domain"
        base_url = self._client.base_url.rstrip("/") if self._client else ""
        if not self._client or not work.page_url.startswith(base_url + "/"):
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
            if slug and slug not in self._artists and self._client:
                try:
                    died = self._client.fetch("artists", artist_path(slug), parse_year_of_death)
                except NotFound:
                    died = None
                self._artists[slug] = Artist(slug, "", died)
            return self._artists.get(slug)


def parse_mark(page: bytes) -> Rights:
    """The rights that the mark under the picture on a work's page states; "unknown" without a mark."""
    only = SoupStrainer("div", class_=WRAPPER_CLASS)  # parsing the whole page takes much longer
    soup = BeautifulSoup(keep_only_tags(page, MARK_TAGS), "html.parser", parse_only=only)
    for link in soup.select("a.copyright"):
        if link.select_one("i.copyright-icon-public-domain"):
            return "public-domain"
        classes = " ".join(str(name) for tag in [link, *link.select("i")] for name in tag.get("class") or ())
        if any(word in classes for word in FAIR_USE_CLASSES) or "fair use" in link.get_text().casefold():
            return "fair-use"
    return "unknown"


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
