"""JSON of WikiArt's App layer, from bytes that nobody vouches for: artists, an oeuvre, the details of a work.

Opens no connection. The App layer numbers works by `contentId`, the lists by 24 hex digits: only the image's path is
the same in both.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from atelier.data.catalog import Work
from atelier.data.years import EARLIEST, LATEST, parse_year
from atelier.text import clean
from atelier.wikiart.formats import (
    FOREIGN,
    LARGEST_SIDE,
    MALFORMED,
    NotAPage,
    address,
    artist_slug,
    integer,
    original,
    parse_json,
    parse_object,
)

ALPHABET = "/en/App/Artist/AlphabetJson?v=new"
MAX_ALPHABET_BYTES = 16_000_000  # 5,755 artists of some 600 bytes are a fifth of it
LARGEST_ID = 2**63 - 1
DATE = re.compile(r"/Date\((-?\d{1,16})\)/")
YEAR = re.compile(r"(?<!\d)\d{3,4}(?!\d)")
PLAIN_YEAR = re.compile(r"(?:\d{3,4}\s*[-–—]\s*)?\d{3,4}")
ALIVE = 9999  # WikiArt writes 253402300799999 for "alive"


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist of the site; `died` None where it does not say, or the artist is alive."""

    slug: str
    name: str
    died: int | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A work of an oeuvre. As a Work it has its contentId for an id, and neither genre nor style.

    `record` stands for what the oeuvre says of it: as long as that is the same, so are its details.
    """

    work: Work
    record: str


@dataclass(frozen=True, slots=True)
class Details:
    """What only a work's own answer tells: titles joined by commas, and its page."""

    genre: str
    style: str
    page_url: str


def oeuvre_path(slug: str) -> str:
    return f"/en/App/Painting/PaintingsByArtist?artistUrl={quote(slug, safe='')}&json=2"


def details_path(content_id: str) -> str:
    return f"/en/App/Painting/ImageJson/{content_id}"


def artist_path(slug: str) -> str:
    return f"/en/{quote(slug, safe='')}?json=2"


def parse_alphabet(content: bytes) -> dict[str, Artist]:
    """All artists by slug; what is none is passed over. Raises NotAPage."""
    artists = {}
    for entry in _listed(content, "Artists"):
        if isinstance(entry, dict) and (slug := _slug(entry.get("url"))):
            name = entry.get("artistName")
            artists[slug] = Artist(slug, clean(name) if isinstance(name, str) else "", year_of_death(entry))
    return artists


def parse_oeuvre(content: bytes, artist: Artist, base_url: str) -> Sequence[Piece | str]:
    """The works of an artist; a record that is none is the reason why. Raises NotAPage."""
    return [_piece(record, artist, base_url) for record in _listed(content, "Paintings")]


def parse_details(content: bytes, content_id: str, base_url: str) -> Details:
    """The details of one work. Raises NotAPage, also where they are of another, or of none."""
    details = parse_object(content)
    if "contentId" not in details:
        raise NotAPage(f"a JSON object without contentId: {content[:80].decode('utf-8', 'replace')}")
    if str(details["contentId"]) != content_id:
        raise NotAPage("the details of another work")
    genre, style, page = details.get("genre"), details.get("style"), details.get("url")
    artist = _slug(details.get("artistUrl"))
    page_url = ""
    if isinstance(page, str) and artist and (work := _slug(page.rpartition("/")[2])):
        page_url = address(f"/en/{quote(artist, safe='')}/{quote(work, safe='')}", base_url)
    return Details(
        clean(genre) if isinstance(genre, str) else "",
        clean(style) if isinstance(style, str) else "",
        page_url,
    )


def parse_death(content: bytes) -> int | None:
    """The year of death in one artist's own answer, see year_of_death. Raises NotAPage."""
    artist = parse_object(content)
    if not artist.keys() & {"contentId", "url", "artistName", "deathDay", "deathDayAsString"}:
        raise NotAPage(f"a JSON object of no artist: {content[:80].decode('utf-8', 'replace')}")
    return year_of_death(artist)


def year_of_death(artist: dict[str, Any]) -> int | None:
    """The later of `deathDay` and `deathDayAsString`; None where neither tells, or the artist is alive."""
    day, text = artist.get("deathDay"), artist.get("deathDayAsString")
    years = [int(year) for year in YEAR.findall(text)] if isinstance(text, str) else []
    if isinstance(day, str) and (match := DATE.fullmatch(day)):
        try:
            years.append((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(match[1]))).year)
        except OverflowError:  # outside the years 1 to 9999
            years.append(0 if match[1].startswith("-") else ALIVE)
    died = max(years, default=None)
    return None if died is None or died >= ALIVE else died


def is_dated(work: Work) -> bool:
    """Whether its year is a year: of "XX cent." the site itself only guesses a place in the order."""
    return work.year is not None and PLAIN_YEAR.fullmatch(work.year_text) is not None


def _listed(content: bytes, name: str) -> list[Any]:
    """A bare list, or the list that an object holds under `name`."""
    parsed = parse_json(content)
    if isinstance(parsed, dict):
        parsed = parsed.get(name)
    if not isinstance(parsed, list):
        raise NotAPage(f"JSON, but no list of {name}")
    return parsed


def _slug(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        return ""
    return artist_slug(value if value.startswith("/") else f"/en/{value}")


def _piece(record: Any, artist: Artist, base_url: str) -> Piece | str:
    if not isinstance(record, dict):
        return MALFORMED
    content_id = integer(record.get("contentId"), 1, LARGEST_ID)
    title, image, name = record.get("title") or "", record.get("image"), record.get("artistName") or ""
    completed, text = integer(record.get("completitionYear"), EARLIEST, LATEST), record.get("yearAsString")
    if content_id is None or not (
        isinstance(title, str) and isinstance(image, str) and isinstance(name, str)
    ):
        return MALFORMED
    image_url = address(original(image), base_url)
    if not image_url:
        return FOREIGN if image else MALFORMED
    year_text = clean(text) if isinstance(text, str) and text.strip() else str(completed or "")
    work = Work(
        id=str(content_id),
        title=clean(title),
        artist=artist.name or clean(name),
        artist_slug=artist.slug,
        year_text=year_text,
        year=completed or parse_year(year_text),
        genre="",
        style="",
        width=integer(record.get("width"), 1, LARGEST_SIDE),
        height=integer(record.get("height"), 1, LARGEST_SIDE),
        image_url=image_url,
        page_url="",
        rights="unknown",
        source="wikiart",
    )
    said = repr((work.title, year_text, work.year, image_url, work.width, work.height))
    return Piece(work, hashlib.sha256(said.encode()).hexdigest()[:16])
