"""The App layer's JSON as artists, oeuvres and details; titles as slugs; where a cut list ends."""

import json
from dataclasses import replace

import pytest

from atelier.data.catalog import Work
from atelier.wikiart.formats import (
    Artist,
    NotAPage,
    Piece,
    image_key,
    is_dated,
    parse_alphabet,
    parse_details,
    parse_oeuvre,
    year_of_death,
)
from atelier.wikiart.lists import edge_of
from atelier.wikiart.slugs import is_among, slugs

BASE = "https://www.wikiart.org"
MONET = Artist("claude-monet", "Claude Monet", 1926)
RECORD = {
    "title": "The Cliff at &#201;tretat", "contentId": 9_223_372_036_854_775_807, "artistContentId": 211667,
    "artistName": "Monet Claude", "completitionYear": 1883, "yearAsString": "1882-1883", "width": 1500, "height": 1200,
    "image": "https://uploads3.wikiart.org/00142/images/claude-monet/cliff.jpg!Large.jpg",
}  # fmt: skip


def piece(**changes) -> Piece | str:
    return parse_oeuvre(json.dumps([{**RECORD, **changes}]).encode(), MONET, BASE)[0]


def work(**changes) -> Work:
    found = piece(**changes)
    assert isinstance(found, Piece)
    return found.work


def test_a_record_of_an_oeuvre_becomes_a_work():
    assert work() == Work(
        id="9223372036854775807", title="The Cliff at Étretat", artist="Claude Monet", artist_slug="claude-monet",
        year_text="1882-1883", year=1883, genre="", style="", width=1500, height=1200,
        image_url="https://uploads3.wikiart.org/00142/images/claude-monet/cliff.jpg", page_url="", rights="unknown",
        source="wikiart",
    )  # fmt: skip


def test_its_mark_changes_with_what_the_oeuvre_says_and_with_nothing_else():
    def mark(**changes) -> str:
        found = piece(**changes)
        assert isinstance(found, Piece)
        return found.record

    assert mark() == mark(artistContentId=1, somethingNew=[1])
    changes = (
        {"title": "Cliff"},
        {"completitionYear": 1884},
        {"width": 1},
        {"height": 1},
        {"image": "/images/b.jpg"},
    )
    assert len({mark(), *(mark(**change) for change in changes)}) == 6


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
def test_only_a_plain_year_dates_a_work(said, year, dated):
    assert (work(**said).year, is_dated(work(**said))) == (year, dated)


def test_one_image_has_one_key_whatever_its_address_looks_like():
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


def test_the_alphabet_names_artists_and_passes_over_what_is_none():
    entries = [
        {"url": "claude-monet", "artistName": "Claude Monet", "deathDay": "/Date(-1359936000000)/"},
        {"url": "/en/anna-ancher", "artistName": 7, "deathDayAsString": "1935"},
        {"url": ".."}, {"url": "a/b"}, {"url": None}, {"artistName": "Nobody"}, [], 7, None,
    ]  # fmt: skip
    artists = parse_alphabet(json.dumps(entries).encode())
    assert artists == {"claude-monet": MONET, "anna-ancher": Artist("anna-ancher", "", 1935)}


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"7", b"{}", b'{"Artists": {}}', b"[" * 1_000_000, b'["\xff"]']
)
def test_what_is_no_list_is_no_answer(content):
    with pytest.raises(NotAPage):
        parse_alphabet(content)
    with pytest.raises(NotAPage):
        parse_oeuvre(content, MONET, BASE)


def test_details_tell_titles_and_page_and_belong_to_their_work():
    told = {
        "contentId": 7,
        "genre": "cityscape, sketch and study",
        "style": None,
        "artistUrl": "claude-monet",
        "url": "x",
    }
    details = parse_details(json.dumps(told).encode(), "7", BASE)
    assert (details.genre, details.style, details.page_url) == (
        told["genre"],
        "",
        f"{BASE}/en/claude-monet/x",
    )
    with pytest.raises(NotAPage, match="another work"):
        parse_details(json.dumps(told).encode(), "8", BASE)
    for odd in ({"url": ".."}, {"artistUrl": ".."}, {"url": 7}, {"artistUrl": None}):
        assert parse_details(json.dumps({**told, **odd}).encode(), "7", BASE).page_url == ""


def test_titles_are_told_apart_as_the_sites_own_slugs():
    assert slugs("style", "Impressionism, Naïve Art (Primitivism)") == [
        "impressionism",
        "na-ve-art-primitivism",
    ]
    assert slugs("genre", "sculpture, sketch and study,, ") == ["sculpture", "sketch-and-study"]
    assert slugs("style", "A Style of 2031") == ["a-style-of-2031"]
    assert is_among("style", "art-nouveau-modern", "Art Nouveau (Modern)")
    assert not is_among("style", "impressionism", "Post-Impressionism")


@pytest.mark.parametrize("title", ["trompe-l'œil", "Trompe-l’œil"])
def test_a_title_is_known_however_its_apostrophe_is_written(title):
    assert is_among("genre", "trompe-loeil", title)


def dated(*years: int | None) -> list[Work]:
    return [
        replace(work(), id=str(number), year=year, year_text="" if year is None else str(year))
        for number, year in enumerate(years)
    ]


def test_a_cut_list_ends_some_years_before_its_last_ones():
    assert edge_of(dated(*range(1700, 1900))) == 1869 - 20
    assert edge_of(dated(*range(1700, 1800), *[None] * 50, *range(1800, 1900))) == 1869 - 20


def test_works_that_stand_far_behind_their_year_widen_the_margin():
    years = list(range(1700, 1900))
    years[100] = 1750
    assert edge_of(dated(*years)) == 1869 - 49


def test_a_list_that_is_not_in_order_or_hardly_dated_tells_nothing():
    assert edge_of(dated(*range(1900, 1700, -1), *range(1700, 1900, 5))) < 1750  # type: ignore[operator]
    assert edge_of(dated(*range(1800, 1900), *[None] * 3500)) is None


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
def test_the_year_of_death_is_the_later_of_what_is_told(artist, year):
    assert year_of_death(json.loads(json.dumps(artist))) == year
