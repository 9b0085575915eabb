"""Which artists are free: dead for more than seventy years, as far as WikiArt's own page of them says.

The list JSON carries no rights. Until painting pages are read, a work counts as public domain only where its
artist's death is known to lie at least YEARS full calendar years back; everything else stays unknown.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from atelier.catalog import Rights, Work
from atelier.polite import FetchError, PoliteClient
from atelier.wikiart.pages import HEADERS, MAX_BYTES, PageStore
from atelier.wikiart.records import NotAPage, parse_object

YEARS = 70  # life + 70, counted from the end of the year of death
DATE = re.compile(r"/Date\((-?\d{1,16})\)/")
YEAR = re.compile(r"(?<!\d)\d{3,4}(?!\d)")
ALIVE = 9999  # WikiArt writes 253402300799999 for "alive"


class ArtistRights:
    """Judges works by their artist, asking the site once an artist. `year` stands for the present."""

    def __init__(self, client: PoliteClient, store: PageStore, year: int) -> None:
        self._client, self._store, self._year = client, store, year
        self._free: dict[str, bool] = {}

    def of(self, work: Work) -> Rights:
        """`public-domain`, or `unknown`. Raises FetchError where the site fails: a hiccup must not drop an artist."""
        if not work.artist_slug:
            return "unknown"
        if work.artist_slug not in self._free:
            self._free[work.artist_slug] = self._is_free(work.artist_slug)
        return "public-domain" if self._free[work.artist_slug] else "unknown"

    def _is_free(self, artist_slug: str) -> bool:
        name = f"artist-{artist_slug}"
        content = self._store.get(name)
        if content is None:
            url = f"/en/{quote(artist_slug, safe='')}?json=2"
            try:
                content = self._client.fetch(url, max_bytes=MAX_BYTES, headers=HEADERS).content
            except FetchError as error:
                if error.kind == "error":
                    raise
                content = b"{}"
            self._store.put(name, content)
        try:
            died = year_of_death(parse_object(content))
        except NotAPage:
            return False
        return died is not None and self._year - died > YEARS


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
