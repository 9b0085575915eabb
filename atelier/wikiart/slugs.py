"""WikiArt's genres and styles: their slugs, titles and numbers of works, from its index page or the shipped table.

Slugs cannot be computed from titles ("Naïve Art (Primitivism)" is `na-ve-art-primitivism`), so slugs.json lists them,
with the counts of 2019 (genres, where 3,600 means "at least") and 2020 (styles).
"""

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal
from urllib.parse import urlsplit

from bs4 import BeautifulSoup

from atelier.errors import AtelierError
from atelier.text import clean, keep_only_tags, slug
from atelier.web.client import PoliteClient

Kind = Literal["genre", "style"]

MAX_INDEX_BYTES = 2_000_000  # a real page has 26 kB
SLUG = re.compile(r"[a-z0-9-]{1,100}")
TAGS = ("ul", "li", "a", "sup")


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
        raise AtelierError(f"{fetched.url} lists no {kind}s: the page has changed; the shipped table still serves")
    return slugs


def parse_index(page: bytes, kind: Kind) -> list[Slug]:
    """Parse an index page; links that are no entries are skipped."""
    found = {}
    soup = BeautifulSoup(keep_only_tags(page, TAGS), "html.parser")
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
    close: Sequence[str] = difflib.get_close_matches(slug, known, 3)
    hint = f"close to it: {', '.join(close)}" if close else f"`atelier {kind}s` lists them"
    return f"scrape.wikiart.{kind} holds {slug!r}, which is not among the {len(known)} {kind}s known here; {hint}"


def titles_to_slugs(kind: Kind, titles: str) -> list[str]:
    """The slugs of titles joined by commas, "Realism, Trompe-l'œil"; of an unknown title the likeliest slug."""
    likeliest = (slug(_without_variable_characters(title)) for title in titles.split(",") if title.strip())
    return sorted({_slugs_by_likeliest(kind).get(name, name) for name in likeliest})


def join_slugs(*fields: str) -> str:
    """Merge fields of the catalog such as "marina" and "marina, sketch" into one, sorted and without repetition."""
    return ", ".join(sorted({name for field in fields for name in field.split(", ")} - {""}))


@cache
def _slugs_by_likeliest(kind: Kind) -> dict[str, str]:
    """The site's slugs by the slugs that their titles suggest, and by themselves."""
    entries = read_slugs(kind)
    suggested = {slug(_without_variable_characters(entry.title)): entry.slug for entry in entries if entry.title}
    return suggested | {entry.slug: entry.slug for entry in entries}


def _without_variable_characters(title: str) -> str:
    """The title without what the site does not always write in the same way."""
    return title.replace("'", "").replace("’", "").replace("œ", "oe").replace("Œ", "Oe")


def _path(href: str) -> str:
    try:
        return urlsplit(href).path.rstrip("/")
    except ValueError:
        return ""
