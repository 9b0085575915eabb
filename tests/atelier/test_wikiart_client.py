"""Lists of the look-alike, page by page, as works."""

import dataclasses
import json

import pytest

from atelier.errors import AtelierError
from atelier.polite import FetchError, PoliteClient
from atelier.wikiart.client import NOT_FREE, TWICE, Query, collect, merge
from atelier.wikiart.pages import PageStore
from atelier.wikiart.records import FOREIGN, MALFORMED
from atelier.wikiart.rights import ArtistRights, year_of_death
from tests.lookalike import Offer, Site, lookalike

MARINA = "/en/paintings-by-genre/marina"
GENRE = Query("genre", "marina")
STYLE = Query("style", "realism")


def offers(count: int, **settings) -> list[Offer]:
    return [Offer(id=f"{number:024x}", title=f"Sea {number}", **settings) for number in range(1, count + 1)]


def asking(site: Site, retries: int = 3) -> PoliteClient:
    return PoliteClient(
        site.base_url, contact="", rate_per_s=None, retries=retries, timeout_s=5, backoff_s=0.01
    )


def ask(site: Site, *queries: Query, store: PageStore | None = None, **settings):
    with asking(site) as client:
        return collect(client, queries or [GENRE], store=store or PageStore(), **settings)


@pytest.mark.parametrize("end", [None, []])
def test_a_list_is_read_to_its_end(end):
    works = offers(150)
    with lookalike({"genre/marina": works}, end=end, claimed=0) as site:
        found = ask(site)
        assert [work.id for work in found.works] == [offer.id for offer in works]
        assert all(work.genre == "marina" and work.style == "" for work in found.works)
        assert found.listed == 150 and not found.skipped and not found.notes and not found.cut_at_cap
        assert site.asked(MARINA) == 4
        assert {request.headers["X-Requested-With"] for request in site.requests} == {"XMLHttpRequest"}
        assert site.requests[1].path == f"{MARINA}?json=2&page=2"


def test_no_page_is_asked_for_beyond_what_the_site_claims():
    with lookalike({"genre/marina": offers(120)}) as site:
        assert ask(site).claimed == 120
        assert site.asked(MARINA) == 2


def test_a_claim_that_is_too_low_does_not_end_the_list():
    with lookalike({"genre/marina": offers(150)}, claimed=61) as site:
        assert len(ask(site).works) == 150


def test_styles_and_artists_have_lists_too():
    with lookalike({"style/realism": offers(3), "artist/anna-ancher": offers(70)}) as site:
        assert {work.style for work in ask(site, STYLE).works} == {"realism"}
        artist = ask(site, Query("artist", "anna-ancher")).works
        assert len(artist) == 70 and {(work.genre, work.style) for work in artist} == {("", "")}
        assert site.requests[-1].path == (
            "/en/anna-ancher/mode/all-paintings?json=2&layout=new&page=2&resultType=masonry"
        )


@pytest.mark.parametrize("limit", [1, 59, 60, 61, 150, 151])
def test_the_limit_ends_the_list_and_asks_no_page_too_many(limit):
    with lookalike({"genre/marina": offers(150)}) as site:
        found = ask(site, limit=limit)
        assert len(found.works) == min(limit, 150) and not found.notes
        assert site.asked(MARINA) == min((limit + 59) // 60, 3)


def test_the_cap_is_reported_not_passed_over_in_silence():
    with lookalike({"genre/marina": offers(3700)}) as site:
        found = ask(site)
        assert len(found.works) == 3600 and found.cut_at_cap
        assert found.notes == ["genre 'marina': cut at the site's cap of 3,600 works; it claims 3,700"]
        assert site.asked(MARINA) == 60


def test_a_list_that_ends_early_is_reported():
    with lookalike({"genre/marina": offers(70)}, claimed=2132) as site:
        found = ask(site)
        assert found.notes == ["genre 'marina': the site claims 2,132 works and listed 70"]
        assert not found.cut_at_cap


def test_a_site_that_repeats_its_last_page_for_ever_is_left():
    with lookalike({"genre/marina": offers(60)}, claimed=0) as site:
        for page in range(2, 61):
            site.pages[f"{MARINA}?json=2&page={page}"] = site.listed("genre/marina", 1) or b""
        found = ask(site)
        assert len(found.works) == 60 and found.skipped == {TWICE: 60} and "only repeats" in found.notes[0]
        assert site.asked(MARINA) == 2


def test_trouble_on_the_way_loses_no_page():
    with lookalike({"genre/marina": offers(200)}) as site:
        for page, faults in enumerate([("500", "drop"), ("429",), ("truncate", "503"), ("html-200",)], 1):
            site.fail(MARINA, *faults, page=page)
        found = ask(site)
        assert len(found.works) == 200 and not found.notes


def test_records_that_cannot_be_used_are_counted():
    works = [
        *offers(3),
        Offer(id="a" * 24, record={"image": "http://elsewhere.example/a.jpg"}),
        Offer(id="b" * 24, record={"title": 7}),
        Offer(id="not-an-id"),
        Offer(id="1".rjust(24, "0")),
    ]
    with lookalike({"genre/marina": works}) as site:
        found = ask(site)
    assert len(found.works) == 3
    assert found.skipped == {FOREIGN: 1, MALFORMED: 2, TWICE: 1}
    assert found.listed == len(found.works) + sum(found.skipped.values()) == 7


def test_lists_are_merged_by_id():
    with lookalike(
        {"genre/marina": offers(3), "style/realism": offers(2), "genre/sketch": offers(1)}
    ) as site:
        found = ask(site, GENRE, STYLE, Query("genre", "sketch"))
    assert [(work.genre, work.style) for work in found.works] == [
        ("marina, sketch", "realism"),
        ("marina", "realism"),
        ("marina", ""),
    ]
    assert found.listed == 3 and not found.skipped


def test_of_two_records_of_a_work_the_more_complete_is_kept():
    with lookalike({"genre/marina": [Offer(id="a" * 24, year="", title="Bare"), Offer(id="a" * 24)]}) as site:
        (work,) = ask(site).works
    assert (work.title, work.year) == ("The Sea", 1887)
    poorer = dataclasses.replace(work, year=None, year_text="", genre="sketch")
    assert merge(work, poorer) == merge(poorer, work) == dataclasses.replace(work, genre="marina, sketch")


def test_a_missing_list_says_what_to_check():
    with lookalike({}) as site, pytest.raises(AtelierError, match=r"genre 'marina'.*404.*check the slug"):
        ask(site)


def test_a_list_that_is_no_json_says_so():
    with lookalike({"genre/marina": offers(1)}) as site:
        site.fail(MARINA, "html-200", "html-200")
        with pytest.raises(AtelierError, match=r"not JSON.*DOCTYPE"):
            ask(site)


def test_a_list_whose_later_page_stays_html_ends_there_with_a_note():
    with lookalike({"genre/marina": offers(200)}) as site:
        site.fail(MARINA, *["html-200"] * 9, page=3)
        found = ask(site)
    assert len(found.works) == 120
    assert "page 3: the site answers with not JSON" in found.notes[0]
    assert found.notes[1] == "genre 'marina': the site claims 200 works and listed 120"


def test_a_failing_site_stops_the_scrape_and_the_next_goes_on_where_it_was(tmp_path):
    with lookalike({"genre/marina": offers(200)}) as site:
        store = PageStore.under(tmp_path, site.base_url, "genre", "marina", "2026-11-22")
        site.fail(MARINA, *["500"] * 4, page=3)
        with pytest.raises(AtelierError, match="run again to go on"):
            ask(site, store=store)
        site.requests.clear()
        found = ask(site, store=store)
        assert [request.path[-1] for request in site.requests] == ["3", "4"]
        assert len(found.works) == 200
        site.requests.clear()
        assert ask(site, store=store) == found
        assert not site.requests


def test_another_snapshot_asks_again(tmp_path):
    with lookalike({"genre/marina": offers(5)}) as site:
        for snapshot in ("2026-11-22", "2026-11-23"):
            ask(site, store=PageStore.under(tmp_path, site.base_url, "genre", "marina", snapshot))
        assert site.asked(MARINA) == 2


def test_a_page_damaged_on_disk_is_asked_for_again(tmp_path):
    with lookalike({"genre/marina": offers(5)}) as site:
        store = PageStore(tmp_path)
        ask(site, store=store)
        next(tmp_path.iterdir()).write_bytes(b'{"Paintings": [')
        assert len(ask(site, store=store).works) == 5
        assert site.asked(MARINA) == 2


ARTISTS = {
    "anna-ancher": {"deathDay": "/Date(-1092700800000)/", "deathDayAsString": "April 15, 1935"},
    "late-painter": {"deathDay": "/Date(-441849600000)/"},  # 1956: free from 2027 on
    "living-painter": {"deathDay": "/Date(253402300799999)/", "deathDayAsString": ""},
    "silent-painter": {"deathDay": None},
    "hostile-painter": {"deathDay": {"a": []}, "deathDayAsString": 1800},
}


def test_only_works_known_to_be_free_are_kept_where_asked():
    works = [
        Offer(id=f"{number:024x}", artist=artist)
        for number, artist in enumerate(
            ["Anna Ancher", "Late Painter", "Living Painter", "Silent Painter", "Hostile Painter", "Unknown"]
            * 2
        )
    ]
    with lookalike({"genre/marina": works}, artists=ARTISTS) as site, asking(site) as client:
        for year, free in ((2026, {"Anna Ancher"}), (2027, {"Anna Ancher", "Late Painter"})):
            judge = ArtistRights(client, PageStore(), year).of
            found = collect(client, [GENRE], store=PageStore(), judge=judge)
            assert {work.artist for work in found.works} == free
            assert {work.rights for work in found.works} == {"public-domain"}
            assert found.skipped == {NOT_FREE: 12 - 2 * len(free)}
        assert site.asked("/en/anna-ancher") == 2  # once a collection


def test_a_site_that_fails_over_an_artist_drops_no_works_silently():
    with lookalike({"genre/marina": offers(1)}, artists=ARTISTS) as site, asking(site) as client:
        site.fail("/en/anna-ancher", *["500"] * 4)
        with pytest.raises(FetchError, match="HTTP 500"):
            collect(client, [GENRE], store=PageStore(), judge=ArtistRights(client, PageStore(), 2026).of)


def test_artists_are_asked_once_a_snapshot(tmp_path):
    with lookalike({"genre/marina": offers(1)}, artists=ARTISTS) as site, asking(site) as client:
        for _ in range(2):
            store = PageStore(tmp_path)
            collect(client, [GENRE], store=store, judge=ArtistRights(client, store, 2026).of)
        assert site.asked("/en/anna-ancher") == 1


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
        ({}, None),
    ],
)
def test_the_year_of_death_is_the_later_of_what_is_told(artist, year):
    assert year_of_death(json.loads(json.dumps(artist))) == year
