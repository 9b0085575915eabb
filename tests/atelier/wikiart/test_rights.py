"""Rights from years of death and from the marks of works' pages."""

from dataclasses import replace

import pytest

from atelier.data.catalog import Work
from atelier.wikiart.formats import Artist
from atelier.wikiart.pages import RightsOf, parse_mark

WORK = Work(
    id="a" * 24, title="", artist="", artist_slug="", year_text="", year=None, genre="", style="", width=None,
    height=None, image_url="", page_url="", rights="unknown", source="wikiart",
)  # fmt: skip
MARK = '<div class="{}"><a class="copyright" href="#"><i class="{}"></i> {}</a></div>'


@pytest.mark.parametrize(
    ("page", "rights"),
    [
        (MARK.format("copyright-wrapper", "copyright-icon-public-domain", "Public domain"), "public-domain"),
        (
            MARK.format("info copyright-wrapper", "copyright-icon copyright-icon-public-domain", ""),
            "public-domain",
        ),
        (MARK.format("copyright-wrapper", "copyright-author", ""), "fair-use"),
        (
            MARK.format("copyright-wrapper", "copyright-icon-clear", "Fair Use"),
            "fair-use",
        ),
        (MARK.format("elsewhere", "copyright-icon-public-domain", "Public domain"), "unknown"),
        ("", "unknown"),
        ("<html><body>A page about the public domain, copyright-icon-public-domain</body></html>", "unknown"),
    ],
)
def test_the_mark_of_a_page_decides_the_rights(page, rights):
    assert parse_mark(page.encode()) == rights


@pytest.mark.parametrize(
    "page",
    [
        b"<div>" * 200_000,
        b"\xff\xfe" + b"<" * 100_000,
        b'<div class="copyright-wrapper">' * 20_000,
        b"\0" * 1000,
    ],
)
def test_a_hostile_page_has_no_mark(page):
    assert parse_mark(page) == "unknown"


def test_public_domain_begins_after_seventy_full_calendar_years():
    artists = {"a": Artist("a", "", 1955), "b": Artist("b", "", 1956), "c": Artist("c", "", None)}
    rights_of = RightsOf(artists, 2026)
    assert [rights_of(replace(WORK, artist_slug=slug)) for slug in ("a", "b", "c", "", "unknown-artist")] == [
        "public-domain", "unknown", "unknown", "unknown", "unknown",
    ]  # fmt: skip
