"""Parsing the App layer's JSON, titles as slugs, and the year before which a cut list is complete."""

import json
from dataclasses import replace

import pytest

from atelier.data.catalog import Work
from atelier.wikiart.formats import (
    Artist,
    OeuvreWork,
    UnexpectedContent,
    image_key,
    is_dated,
    parse_artists,
    parse_details,
    parse_oeuvre,
    year_of_death,
)
from atelier.wikiart.lists import cutoff_year
from atelier.wikiart.pages import titles_to_slugs

BASE = "https://www.wikiart.org"
MONET = Artist("claude-monet", "Claude Monet", 1926)
RECORD = {
    "title": "The Cliff at &#201;tretat", "contentId": 9_223_372_036_854_775_807, "artistContentId": 211667,
    "artistName": "Monet Claude", "completitionYear": 1883, "yearAsString": "1882-1883", "width": 1500, "height": 1200,
    "image": "https://uploads3.wikiart.org/00142/images/claude-monet/cliff.jpg!Large.jpg",
}  # fmt: skip


def oeuvre_work(**changes) -> OeuvreWork | str:
    return parse_oeuvre(json.dumps([{**RECORD, **changes}]).encode(), MONET, BASE)[0]


def work(**changes) -> Work:
    found = oeuvre_work(**changes)
    assert isinstance(found, OeuvreWork)
    return found.work


def test_a_record_of_an_oeuvre_becomes_a_work():
    assert work() == Work(
        id="9223372036854775807", title="The Cliff at Étretat", artist="Claude Monet", artist_slug="claude-monet",
        year_text="1882-1883", year=1883, genre="", style="", width=1500, height=1200,
        image_url="https://uploads3.wikiart.org/00142/images/claude-monet/cliff.jpg", page_url="", rights="unknown",
        source="wikiart",
    )  # fmt: skip


def test_the_fingerprint_changes_only_with_the_fields_that_are_used():
    def fingerprint(**changes) -> str:
        found = oeuvre_work(**changes)
        assert isinstance(found, OeuvreWork)
        return found.fingerprint

    assert fingerprint() == fingerprint(artistContentId=1, somethingNew=[1])
    changes = (
        {"title": "Cliff"},
        {"completitionYear": 1884},
        {"width": 1},
        {"height": 1},
        {"image": "/images/b.jpg"},
    )
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 6


@pytest.mark.parametrize(
    ("said", "year", "dated"),
    [
        ({"completitionYear": 1883, "yearAsString": "1883"}, 1883, True),
        ({"completitionYear": 1883, "yearAsString": None}, 1883, True),
        ({"completitionYear": None, "yearAsString": "XX cent."}, 1950, False),
        ({"completitionYear": 1950, "yearAsString": "XX cent."}, 1950, False),
        ({"completitionYear": None, "yearAsString": "c. 1883"}, 1883, False),
        ({"completitionYear": None, "yearAsString": None}, None, False),
        ({"completitionYear": "1883", "yearAsString": ["1883"]}, None, False),
    ],
)
def test_only_a_work_with_a_plain_year_is_dated(said, year, dated):
    assert (work(**said).year, is_dated(work(**said))) == (year, dated)


def test_all_urls_of_an_image_have_the_same_key():
    keys = {
        image_key(address)
        for address in (
            "https://uploads8.wikiart.org/00142/images/a/%C3%A9t%C3%A9(1).jpg",
            "HTTP://uploads0.WikiArt.org/00142/images/a/été(1).jpg!Large.jpg",
            "https://use2-uploads1.wikiart.org/00142/images/a/%C3%A9t%C3%A9%281%29.jpg!PinterestSmall.jpg?x=1",
        )
    }
    assert keys == {"/00142/images/a/été(1).jpg"}
    assert image_key("https://uploads8.wikiart.org/images/a/stop!.jpg") == "/images/a/stop!.jpg"


def test_the_list_of_artists_is_parsed_and_malformed_entries_are_skipped():
    entries = [
        {"url": "claude-monet", "artistName": "Claude Monet", "deathDay": "/Date(-1359936000000)/"},
        {"url": "/en/anna-ancher", "artistName": 7, "deathDayAsString": "1935"},
        {"url": ".."}, {"url": "a/b"}, {"url": None}, {"artistName": "Nobody"}, [], 7, None,
    ]  # fmt: skip
    artists = parse_artists(json.dumps(entries).encode())
    assert artists == {"claude-monet": MONET, "anna-ancher": Artist("anna-ancher", "", 1935)}


@pytest.mark.parametrize("content", [b"", b"<html>", b"7", b"{}", b'{"Artists": {}}', b"[" * 1_000_000, b'["\xff"]'])
def test_content_that_is_no_list_raises_unexpected_content(content):
    with pytest.raises(UnexpectedContent):
        parse_artists(content)
    with pytest.raises(UnexpectedContent):
        parse_oeuvre(content, MONET, BASE)


def test_details_have_titles_and_a_page_and_must_be_of_the_requested_work():
    details_json = {
        "contentId": 7,
        "genre": "cityscape, sketch and study",
        "style": None,
        "artistUrl": "claude-monet",
        "url": "x",
    }
    details = parse_details(json.dumps(details_json).encode(), "7", BASE)
    assert (details.genre, details.style, details.page_url) == (
        details_json["genre"],
        "",
        f"{BASE}/en/claude-monet/x",
    )
    with pytest.raises(UnexpectedContent, match="another work"):
        parse_details(json.dumps(details_json).encode(), "8", BASE)
    for odd in ({"url": ".."}, {"artistUrl": ".."}, {"url": 7}, {"artistUrl": None}):
        assert parse_details(json.dumps({**details_json, **odd}).encode(), "7", BASE).page_url == ""


def test_titles_become_the_sites_own_slugs():
    assert titles_to_slugs("style", "Impressionism, Naïve Art (Primitivism)") == [
        "impressionism",
        "na-ve-art-primitivism",
    ]
    assert titles_to_slugs("genre", "sculpture, sketch and study,, ") == ["sculpture", "sketch-and-study"]
    assert titles_to_slugs("style", "A Style of 2031") == ["a-style-of-2031"]
    assert "art-nouveau-modern" in titles_to_slugs("style", "Art Nouveau (Modern)")
    assert "impressionism" not in titles_to_slugs("style", "Post-Impressionism")


@pytest.mark.parametrize("title", ["trompe-l'œil", "Trompe-l’œil"])
def test_a_title_is_recognised_with_either_apostrophe(title):
    assert "trompe-loeil" in titles_to_slugs("genre", title)


def dated(*years: int | None) -> list[Work]:
    return [
        replace(work(), id=str(number), year=year, year_text="" if year is None else str(year))
        for number, year in enumerate(years)
    ]


def test_the_cutoff_year_is_a_margin_before_the_last_works():
    assert cutoff_year(dated(*range(1700, 1900))) == 1869 - 20
    assert cutoff_year(dated(*range(1700, 1800), *[None] * 50, *range(1800, 1900))) == 1869 - 20


def test_works_that_stand_far_behind_their_year_increase_the_margin():
    years = list(range(1700, 1900))
    years[100] = 1750
    assert cutoff_year(dated(*years)) == 1869 - 49


def test_a_list_without_order_or_with_few_dates_has_an_early_or_no_cutoff_year():
    assert cutoff_year(dated(*range(1900, 1700, -1), *range(1700, 1900, 5))) < 1750  # type: ignore[operator]
    assert cutoff_year(dated(*range(1800, 1900), *[None] * 3500)) is None


@pytest.mark.parametrize(
    ("artist", "year"),
    [
        ({"deathDayAsString": "July 29, 1890"}, 1890),
        ({"deathDayAsString": "c. 1525 - 1530"}, 1530),
        ({"deathDay": "/Date(-2506896000000)/", "deathDayAsString": "1891"}, 1891),
        ({"deathDay": "/Date(-99999999999999)/"}, 0),
        ({"deathDay": "/Date(253402300799999)/"}, None),
        ({"deathDay": "/Date(999999999999999)/"}, None),
        ({"deathDay": "yesterday"}, None),
        ({"deathDay": {"a": []}, "deathDayAsString": 1800}, None),
        ({}, None),
    ],
)
def test_the_year_of_death_is_the_later_of_the_two_fields(artist, year):
    assert year_of_death(json.loads(json.dumps(artist))) == year
