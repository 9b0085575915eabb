"""Parsing WikiArt's JSON: list pages, artists, oeuvres, and the details of a work. All content is untrusted.

The lists identify works by 24 hex digits, the App layer by `contentId`; only the path of the image is the same in both.
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

from atelier.data.catalog import EARLIEST_YEAR, LATEST_YEAR, Work, parse_year
from atelier.errors import AtelierError
from atelier.text import clean
from atelier.web.limits import is_allowed

ARTISTS_PATH = "/en/App/Artist/AlphabetJson?v=new"
MAX_ARTISTS_BYTES = 16_000_000  # five times the size of 5,755 artists of some 600 bytes
MAX_URL_CHARS = 2000
MAX_CONTENT_ID = 2**63 - 1
MAX_SIDE_PX = 1_000_000
ALIVE_YEAR = 9999  # the year of death of the living, as WikiArt writes it: 253402300799999 ms
MALFORMED = "malformed record"
FOREIGN = "image on a foreign host"

HEX_ID = re.compile(r"[0-9a-f]{24}")
ARTIST_PATH = re.compile(r"/[a-z]{2}/([^/\s]{1,200})")
VARIANT_SUFFIX = re.compile(r"(\.\w{1,5})(?:!|%21)[A-Za-z]{1,20}\.jpg$")
JSON_DATE = re.compile(r"/Date\((-?\d{1,16})\)/")
YEAR = re.compile(r"(?<!\d)\d{3,4}(?!\d)")
PLAIN_YEAR = re.compile(r"(?:\d{3,4}\s*[-–—]\s*)?\d{3,4}")


class UnexpectedContent(AtelierError):
    """A response is not the JSON or the page that was requested."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list. A record is a Work, or the reason why it cannot be read as one."""

    claimed: int | None  # how many works the site claims for the whole list
    records: Sequence[Work | str]


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist; `died` is the year of death, None if unknown or alive."""

    slug: str
    name: str
    died: int | None


@dataclass(frozen=True, slots=True)
class OeuvreWork:
    """A work of an artist's oeuvre. The id of `work` is its contentId; its genre and style are empty."""

    work: Work
    fingerprint: str  # a hash of the record: cached details of the work are valid while it is the same


@dataclass(frozen=True, slots=True)
class Details:
    """Genre and style of a work, as titles joined by commas, and the URL of its page."""

    genre: str
    style: str
    page_url: str


def oeuvre_path(artist_slug: str) -> str:
    """The path of all works of an artist."""
    return f"/en/App/Painting/PaintingsByArtist?artistUrl={quote(artist_slug, safe='')}&json=2"


def details_path(content_id: str) -> str:
    """The path of a work's details."""
    return f"/en/App/Painting/ImageJson/{content_id}"


def artist_path(artist_slug: str) -> str:
    """The path of one artist's facts."""
    return f"/en/{quote(artist_slug, safe='')}?json=2"


def parse_list_page(content: bytes, base_url: str) -> ListPage:
    """Parse one page of a list; a malformed record affects only itself. Raises UnexpectedContent."""
    envelope = _parse_object(content)
    if "Paintings" not in envelope:
        raise UnexpectedContent("a JSON object without Paintings")
    records = [] if envelope["Paintings"] is None else envelope["Paintings"]
    if not isinstance(records, list):
        raise UnexpectedContent("Paintings is neither a list nor null")
    claimed = _int_in_range(envelope.get("AllPaintingsCount"), 0, 10**9)
    return ListPage(claimed, [_list_work(record, base_url) for record in records])


def parse_artists(content: bytes) -> dict[str, Artist]:
    """Parse the site's list of all artists, by slug; malformed entries are skipped. Raises UnexpectedContent."""
    artists = {}
    for entry in _parse_list(content, "Artists"):
        if isinstance(entry, dict) and (slug := _slug(entry.get("url"))):
            name = entry.get("artistName")
            artists[slug] = Artist(slug, clean(name) if isinstance(name, str) else "", year_of_death(entry))
    return artists


def parse_oeuvre(content: bytes, artist: Artist, base_url: str) -> Sequence[OeuvreWork | str]:
    """Parse the works of an artist; a malformed record becomes its reason. Raises UnexpectedContent."""
    return [_oeuvre_work(record, artist, base_url) for record in _parse_list(content, "Paintings")]


def parse_details(content: bytes, content_id: str, base_url: str) -> Details:
    """Parse the details of the work `content_id`. Raises UnexpectedContent, also for those of another work."""
    details = _parse_object(content)
    if "contentId" not in details:
        raise UnexpectedContent(f"a JSON object without contentId: {content[:80].decode('utf-8', 'replace')}")
    if str(details["contentId"]) != content_id:
        raise UnexpectedContent("the details of another work")
    genre, style, page = details.get("genre"), details.get("style"), details.get("url")
    artist = _slug(details.get("artistUrl"))
    page_url = ""
    if isinstance(page, str) and artist and (work := _slug(page.rpartition("/")[2])):
        page_url = _resolve_url(f"/en/{quote(artist, safe='')}/{quote(work, safe='')}", base_url)
    genre, style = (clean(title) if isinstance(title, str) else "" for title in (genre, style))
    return Details(genre, style, page_url)


def parse_year_of_death(content: bytes) -> int | None:
    """The year of death in the JSON of one artist, see `year_of_death`. Raises UnexpectedContent."""
    artist = _parse_object(content)
    if not artist.keys() & {"contentId", "url", "artistName", "deathDay", "deathDayAsString"}:
        raise UnexpectedContent(f"a JSON object of no artist: {content[:80].decode('utf-8', 'replace')}")
    return year_of_death(artist)


def year_of_death(artist: dict[str, Any]) -> int | None:
    """The later year of `deathDay` and `deathDayAsString`; None if neither has one, or the artist is alive."""
    day, text = artist.get("deathDay"), artist.get("deathDayAsString")
    years = [int(year) for year in YEAR.findall(text)] if isinstance(text, str) else []
    if isinstance(day, str) and (match := JSON_DATE.fullmatch(day)):
        try:
            years.append((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(match[1]))).year)
        except OverflowError:  # outside the years 1 to 9999
            years.append(0 if match[1].startswith("-") else ALIVE_YEAR)
    died = max(years, default=None)
    return None if died is None or died >= ALIVE_YEAR else died


def is_dated(work: Work) -> bool:
    """Whether the work has a plain year. For others ("XX cent.") the site only estimates the place in its order."""
    return work.year is not None and PLAIN_YEAR.fullmatch(work.year_text) is not None


def image_key(url: str) -> str:
    """The path of the original image, which is the same on all hosts and for all sizes of a work's image."""
    return _original_url(unquote(urlsplit(url).path))


def _artist_slug(value: Any) -> str:
    """The slug in an artist's path `/en/<slug>`; empty if the value has another form."""
    if not isinstance(value, str):
        return ""
    try:
        match = ARTIST_PATH.fullmatch(unquote(urlsplit(value.strip()).path).rstrip("/"))
    except ValueError:
        return ""
    return clean(match[1]) if match and match[1] not in (".", "..") else ""


def _resolve_url(value: Any, base_url: str) -> str:
    """`value` as an absolute URL in ASCII; empty if it is no URL, or one that may not be requested."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_URL_CHARS:
        return ""
    try:
        url: str = requote_uri(urljoin(base_url, value.strip()))
        url.encode("ascii")
    except ValueError:  # also UnicodeError: a lone surrogate, or a host name in another script
        return ""
    # what is allowed depends only on scheme, host and port, which few values of a site differ in
    return url if _is_allowed("/".join(url.split("/", 3)[:3]) + "/", base_url) else ""


def _parse_json(content: bytes) -> Any:
    """Parse JSON. Raises UnexpectedContent, also for nesting and numbers beyond the parser's limits."""
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise UnexpectedContent(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise UnexpectedContent("JSON nested too deep") from None
    except ValueError as error:  # JSONDecodeError, and integers of more than 4,300 digits
        start = content[:40].decode("utf-8", "replace")
        raise UnexpectedContent(f"not JSON ({error}); it begins with {start!r}") from None


def _parse_object(content: bytes) -> dict[str, Any]:
    parsed = _parse_json(content)
    if not isinstance(parsed, dict):
        raise UnexpectedContent(f"JSON, but a {type(parsed).__name__}, not an object")
    return parsed


def _parse_list(content: bytes, name: str) -> list[Any]:
    """A bare list, or the list under the key `name` of an object."""
    parsed = _parse_json(content)
    if isinstance(parsed, dict):
        parsed = parsed.get(name)
    if not isinstance(parsed, list):
        raise UnexpectedContent(f"JSON, but no list of {name}")
    return parsed


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _list_work(record: Any, base_url: str) -> Work | str:
    if not isinstance(record, dict):
        return MALFORMED
    identity, image, year = record.get("id"), record.get("image"), record.get("year")
    title, artist = record.get("title") or "", record.get("artistName") or ""
    if isinstance(year, int) and not isinstance(year, bool) and abs(year) < 10**6:
        year = str(year)
    texts = (identity, image, title, artist, "" if year is None else year)
    if not all(isinstance(text, str) for text in texts) or not HEX_ID.fullmatch(str(identity)) or not image:
        return MALFORMED
    image_url = _resolve_url(str(image), base_url)
    if not image_url:
        return FOREIGN
    year_text, page_url = clean(str(year or "")), _resolve_url(record.get("paintingUrl"), base_url)
    return _new_work(
        record, id=str(identity), title=clean(str(title)), artist=clean(str(artist)),
        artist_slug=_artist_slug(record.get("artistUrl")), year_text=year_text, year=parse_year(year_text),
        image_url=image_url, page_url=page_url,
    )  # fmt: skip


def _oeuvre_work(record: Any, artist: Artist, base_url: str) -> OeuvreWork | str:
    if not isinstance(record, dict):
        return MALFORMED
    content_id = _int_in_range(record.get("contentId"), 1, MAX_CONTENT_ID)
    title, image, name = record.get("title") or "", record.get("image"), record.get("artistName") or ""
    text, year = record.get("yearAsString"), _int_in_range(record.get("completitionYear"), EARLIEST_YEAR, LATEST_YEAR)
    if content_id is None or not all(isinstance(value, str) for value in (title, image, name)):
        return MALFORMED
    image_url = _resolve_url(_original_url(str(image)), base_url)
    if not image_url:
        return FOREIGN if image else MALFORMED
    year_text = clean(text) if isinstance(text, str) and text.strip() else str(year or "")
    work = _new_work(
        record, id=str(content_id), title=clean(str(title)), artist=artist.name or clean(str(name)),
        artist_slug=artist.slug, year_text=year_text, year=year or parse_year(year_text),
        image_url=image_url, page_url="",
    )  # fmt: skip
    facts = repr((work.title, year_text, work.year, image_url, work.width, work.height))
    return OeuvreWork(work, hashlib.sha256(facts.encode()).hexdigest()[:16])


def _new_work(record: dict[str, Any], **known: Any) -> Work:
    """A Work with the size in `record`; neither lists nor oeuvres have genre, style or rights."""
    width, height = (_int_in_range(record.get(side), 1, MAX_SIDE_PX) for side in ("width", "height"))
    return Work(**known, genre="", style="", width=width, height=height, rights="unknown", source="wikiart")


def _slug(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        return ""
    return _artist_slug(value if value.startswith("/") else f"/en/{value}")


def _original_url(url: str) -> str:
    """The URL without a variant suffix such as `!Large.jpg`."""
    return VARIANT_SUFFIX.sub(r"\1", url)


def _int_in_range(value: Any, low: int, high: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    return None


_is_allowed = lru_cache(1024)(is_allowed)
