"""WikiArt's list JSON, from bytes that nobody vouches for to catalog rows. Opens no connection."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin, urlsplit

from requests.utils import requote_uri

from atelier.data.catalog import Work
from atelier.data.years import parse_year
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
