"""WikiArt's genres and styles: the slugs that can be asked for, live from its index or from the shipped table.

Slugs cannot be computed from titles ("Naïve Art (Primitivism)" is `na-ve-art-primitivism`), so slugs.json keeps
them, with the counts of 2019 (genres, where 3,600 means "at least") and 2020 (styles).

Genres and styles as the App layer writes them, titles joined by commas, told apart as slugs.
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

MAX_BYTES = 2_000_000  # a real page has 26 kB

SLUG = re.compile(r"[a-z0-9-]{1,100}")

TAGS = ("ul", "li", "a", "sup")


@dataclass(frozen=True, slots=True)
class Slug:
    """A genre or style: what to write into params.yaml, what WikiArt calls it, how many works it counts."""

    slug: str
    title: str
    count: int | None


def table(
    kind: Kind, live: bool = False, *, base_url: str = "https://www.wikiart.org", contact: str = ""
) -> list[Slug]:
    """Genres or styles, sorted by slug: the shipped table, or what the site says now."""
    if live:
        # nothing is trained on the names of genres and styles
        with PoliteClient(
            base_url, contact=contact, rate_per_s=1.0, retries=2, timeout_s=30.0, may_train=True
        ) as client:
            return index(kind, client)
    rows = json.loads((files("atelier.wikiart") / "slugs.json").read_text(encoding="utf-8"))[kind]
    return [Slug(**row) for row in rows]


def index(kind: Kind, client: PoliteClient) -> list[Slug]:
    """The site's present genres or styles, by slug. Raises FetchError, or AtelierError where the page changed."""
    fetched = client.fetch(f"/en/paintings-by-{kind}", max_bytes=MAX_BYTES)
    slugs = parse_index(fetched.content, kind)
    if not slugs:
        raise AtelierError(
            f"{fetched.url} lists no {kind}s: the page has changed; the shipped table still serves"
        )
    return slugs


def parse_index(page: bytes, kind: Kind) -> list[Slug]:
    """The entries of an index page; those that do not look like one are passed over."""
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
        found[slug] = Slug(
            slug, clean(link.get_text()), int(digits[:9]) if digits.isascii() and digits else None
        )
    return sorted(found.values(), key=lambda entry: entry.slug)


def unknown_slug(kind: Kind, slug: str) -> str | None:
    """A sentence where the shipped table does not know `slug`, with the closest it knows; None where it does."""
    known = [entry.slug for entry in table(kind)]
    if slug in known:
        return None
    close: Sequence[str] = difflib.get_close_matches(slug, known, 3)
    hint = f"close to it: {', '.join(close)}" if close else f"`atelier {kind}s` lists them"
    return f"scrape.wikiart.{kind} holds {slug!r}, which is not among the {len(known)} {kind}s known here; {hint}"


def _path(href: str) -> str:
    try:
        return urlsplit(href).path.rstrip("/")
    except ValueError:
        return ""


def slugs(kind: Kind, joined: str) -> list[str]:
    """The slugs of "Realism, Trompe-l'œil"; of a title that the shipped table does not know, the likeliest."""
    likeliest = (slug(_plain(title)) for title in joined.split(",") if title.strip())
    return sorted({_known(kind).get(name, name) for name in likeliest})


def is_among(kind: Kind, asked: str, joined: str) -> bool:
    """Whether the genre or style `asked` for is one of those named."""
    return asked in slugs(kind, joined)


def union(*fields: str) -> str:
    """One field of the catalog out of several: "marina, sketch"."""
    return ", ".join(sorted({name for field in fields for name in field.split(", ")} - {""}))


@cache
def _known(kind: Kind) -> dict[str, str]:
    """What a title looks like as a slug → the slug that the site gave it."""
    return {slug(_plain(entry.title)): entry.slug for entry in table(kind) if entry.title} | {
        entry.slug: entry.slug for entry in table(kind)
    }


def _plain(title: str) -> str:
    """Without what is written now so, now so."""
    return title.replace("'", "").replace("’", "").replace("œ", "oe").replace("Œ", "Oe")
