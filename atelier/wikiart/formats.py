"""WikiArt's list JSON, from bytes that nobody vouches for to catalog rows. Opens no connection.

JSON of WikiArt's App layer, from bytes that nobody vouches for: artists, an oeuvre, the details of a work.

Opens no connection. The App layer numbers works by `contentId`, the lists by 24 hex digits: only the image's path is
the same in both.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit

from requests.utils import requote_uri

from atelier.data.catalog import EARLIEST, LATEST, Work, parse_year
from atelier.errors import AtelierError
from atelier.text import clean
from atelier.web.hosts import is_allowed

ID = re.compile(r"[0-9a-f]{24}")

ARTIST_PATH = re.compile(r"/[a-z]{2}/([^/\s]{1,200})")

VARIANT = re.compile(r"(\.\w{1,5})(?:!|%21)[A-Za-z]{1,20}\.jpg$")

LARGEST_SIDE = 1_000_000

LONGEST_URL = 2000

MALFORMED = "malformed record"

FOREIGN = "image on a foreign host"


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a list: how many works the site says the list has, and the records of this page.

    A record is a Work, or the reason why it is none.
    """

    claimed: int | None
    records: Sequence[Work | str]


class NotAPage(AtelierError):
    """The answer is not WikiArt's list JSON."""


def parse_page(content: bytes, base_url: str) -> Page:
    """Read one page. Raises NotAPage for anything but the list's envelope; a bad record spoils only itself."""
    envelope = parse_object(content)
    if "Paintings" not in envelope:
        raise NotAPage("a JSON object without Paintings")
    paintings, claimed = envelope["Paintings"], envelope.get("AllPaintingsCount")
    if paintings is None:
        paintings = []
    if not isinstance(paintings, list):
        raise NotAPage("Paintings is neither a list nor null")
    return Page(integer(claimed, 0, 10**9), [_work(record, base_url) for record in paintings])


def parse_object(content: bytes) -> dict[str, Any]:
    """A JSON object from a site's answer. Raises NotAPage."""
    parsed = parse_json(content)
    if not isinstance(parsed, dict):
        raise NotAPage(f"JSON, but a {type(parsed).__name__}, not an object")
    return parsed


def parse_json(content: bytes) -> Any:
    """JSON from a site's answer. Raises NotAPage, also for nesting and numbers made to hurt the parser."""
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise NotAPage(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise NotAPage("JSON nested too deep") from None
    except ValueError as error:  # JSONDecodeError, and integers of more than 4,300 digits
        start = content[:40].decode("utf-8", "replace")
        raise NotAPage(f"not JSON ({error}); it begins with {start!r}") from None


def address(value: Any, base_url: str) -> str:
    """`value` as an absolute address in ASCII; empty where it is none, or one that we must not ask."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_URL:
        return ""
    try:
        url: str = requote_uri(urljoin(base_url, value.strip()))
        url.encode("ascii")
    except ValueError:  # UnicodeError too: a lone surrogate, a host name with letters of another script
        return ""
    # what is allowed depends on scheme, host and port alone: a few for all the works of a site
    return url if _is_allowed("/".join(url.split("/", 3)[:3]) + "/", base_url) else ""


def image_key(url: str) -> str:
    """What all addresses of one work's image have in common: the path on whichever host, of whichever size."""
    return original(unquote(urlsplit(url).path))


def original(url: str) -> str:
    """The address of the image as it was given to the site: without `!Large.jpg` or the like at its end."""
    return VARIANT.sub(r"\1", url)


def artist_slug(value: Any) -> str:
    """The artist's slug out of `/en/<slug>`; empty where it has another form."""
    if not isinstance(value, str):
        return ""
    try:
        match = ARTIST_PATH.fullmatch(unquote(urlsplit(value.strip()).path).rstrip("/"))
    except ValueError:
        return ""
    return clean(match[1]) if match and match[1] not in (".", "..") else ""


def integer(value: Any, low: int, high: int) -> int | None:
    """`value` where it is a whole number in that range, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    return None


def _work(record: Any, base_url: str) -> Work | str:
    if not isinstance(record, dict):
        return MALFORMED
    identity, image = record.get("id"), record.get("image")
    title, artist = record.get("title") or "", record.get("artistName") or ""
    year = record.get("year")
    if isinstance(year, int) and not isinstance(year, bool) and abs(year) < 10**6:
        year = str(year)
    texts = (identity, image, title, artist, "" if year is None else year)
    if not all(isinstance(text, str) for text in texts) or not ID.fullmatch(str(identity)) or not image:
        return MALFORMED
    image_url = address(str(image), base_url)
    if not image_url:
        return FOREIGN
    year_text = clean(str(year or ""))
    return Work(
        id=str(identity),
        title=clean(str(title)),
        artist=clean(str(artist)),
        artist_slug=artist_slug(record.get("artistUrl")),
        year_text=year_text,
        year=parse_year(year_text),
        genre="",
        style="",
        width=integer(record.get("width"), 1, LARGEST_SIDE),
        height=integer(record.get("height"), 1, LARGEST_SIDE),
        image_url=image_url,
        page_url=address(record.get("paintingUrl"), base_url),
        rights="unknown",  # the list does not say
        source="wikiart",
    )


_is_allowed = lru_cache(1024)(is_allowed)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


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
