"""Reading lists page by page, from the look-alike server."""

import dataclasses
from contextlib import closing

import pytest

from atelier.errors import TransientError
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError
from atelier.wikiart.cached_client import CachedClient, NotFound, ResponseCache
from atelier.wikiart.formats import FOREIGN, MALFORMED
from atelier.wikiart.lists import LISTED_TWICE, Query, collect, merge_works
from tests.lookalike import Offer, Site, lookalike

MARINA = "/en/paintings-by-genre/marina"
GENRE = Query("genre", "marina")
STYLE = Query("style", "realism")


def offers(count: int, **settings) -> list[Offer]:
    return [Offer(id=f"{number:024x}", title=f"Sea {number}", **settings) for number in range(1, count + 1)]


def client_of(site: Site, retries: int = 3) -> PoliteClient:
    return PoliteClient(site.base_url, contact="", rate_per_s=None, retries=retries, timeout_s=5, backoff_s=0.01)


def collected(site: Site, *queries: Query, cache: ResponseCache | None = None, snapshot: str = "2026-11-22"):
    with client_of(site) as client:
        return collect(CachedClient(client, cache or ResponseCache(), snapshot), queries or [GENRE])


@pytest.mark.parametrize("end", [None, []])
def test_a_list_is_read_to_its_end(end):
    works = offers(150)
    with lookalike({"genre/marina": works}, end=end, claimed=0) as site:
        found = collected(site)
        assert [work.id for work in found.works] == [offer.id for offer in works]
        assert all(work.genre == "marina" and work.style == "" for work in found.works)
        assert found.listed == 150 and not found.skipped and not found.notes and not found.cut_at_cap
        assert site.asked(MARINA) == 4
        assert {request.headers["X-Requested-With"] for request in site.requests} == {"XMLHttpRequest"}
        assert site.requests[1].path == f"{MARINA}?json=2&page=2"


def test_no_page_is_requested_beyond_what_the_site_claims():
    with lookalike({"genre/marina": offers(120)}) as site:
        assert collected(site).claimed == 120
        assert site.asked(MARINA) == 2


def test_a_claim_that_is_too_low_does_not_end_the_list():
    with lookalike({"genre/marina": offers(150)}, claimed=61) as site:
        assert len(collected(site).works) == 150


def test_lists_of_styles_and_artists_are_read():
    with lookalike({"style/realism": offers(3), "artist/anna-ancher": offers(70)}) as site:
        assert {work.style for work in collected(site, STYLE).works} == {"realism"}
        artist = collected(site, Query("artist", "anna-ancher")).works
        assert len(artist) == 70 and {(work.genre, work.style) for work in artist} == {("", "")}
        assert site.requests[-1].path == (
            "/en/anna-ancher/mode/all-paintings?json=2&layout=new&page=2&resultType=masonry"
        )


def test_the_cap_is_reported():
    with lookalike({"genre/marina": offers(3700)}) as site:
        found = collected(site)
        assert len(found.works) == 3600 and found.cut_at_cap
        assert found.notes == ["genre 'marina': cut at the site's cap of 3,600 works; it claims 3,700"]
        assert site.asked(MARINA) == 60


def test_a_list_that_ends_early_is_reported():
    with lookalike({"genre/marina": offers(70)}, claimed=2132) as site:
        found = collected(site)
        assert found.notes == ["genre 'marina': the site claims 2,132 works and listed 70"]
        assert not found.cut_at_cap


def test_a_list_that_repeats_its_last_page_is_ended():
    with lookalike({"genre/marina": offers(60)}, claimed=0) as site:
        for page in range(2, 61):
            site.pages[f"{MARINA}?json=2&page={page}"] = site.listed("genre/marina", 1) or b""
        found = collected(site)
        assert len(found.works) == 60 and found.skipped == {LISTED_TWICE: 60} and "only repeats" in found.notes[0]
        assert site.asked(MARINA) == 2


def test_temporary_failures_lose_no_page():
    with lookalike({"genre/marina": offers(200)}) as site:
        for page, faults in enumerate([("500", "drop"), ("429",), ("truncate", "503"), ("html-200",)], 1):
            site.fail(MARINA, *faults, page=page)
        found = collected(site)
        assert len(found.works) == 200 and not found.notes


def test_malformed_records_are_counted_by_reason():
    works = [
        *offers(3),
        Offer(id="a" * 24, record={"image": "http://elsewhere.example/a.jpg"}),
        Offer(id="b" * 24, record={"title": 7}),
        Offer(id="not-an-id"),
        Offer(id="1".rjust(24, "0")),
    ]
    with lookalike({"genre/marina": works}) as site:
        found = collected(site)
    assert len(found.works) == 3
    assert found.skipped == {FOREIGN: 1, MALFORMED: 2, LISTED_TWICE: 1}
    assert found.listed == len(found.works) + sum(found.skipped.values()) == 7


def test_lists_are_merged_by_id():
    with lookalike({"genre/marina": offers(3), "style/realism": offers(2), "genre/sketch": offers(1)}) as site:
        found = collected(site, GENRE, STYLE, Query("genre", "sketch"))
    assert [(work.genre, work.style) for work in found.works] == [
        ("marina, sketch", "realism"),
        ("marina", "realism"),
        ("marina", ""),
    ]
    assert found.listed == 3 and not found.skipped


def test_of_two_records_of_a_work_the_more_complete_is_kept():
    with lookalike({"genre/marina": [Offer(id="a" * 24, year="", title="Bare"), Offer(id="a" * 24)]}) as site:
        (work,) = collected(site).works
    assert (work.title, work.year) == ("The Sea", 1887)
    poorer = dataclasses.replace(work, year=None, year_text="", genre="sketch")
    assert merge_works(work, poorer) == merge_works(poorer, work) == dataclasses.replace(work, genre="marina, sketch")


def test_the_error_for_a_missing_list_says_what_to_check():
    with lookalike({}) as site, pytest.raises(NotFound, match=r"genre 'marina'.*404.*check the slug"):
        collected(site)


def test_a_list_that_is_no_json_is_a_temporary_error_that_says_so():
    with lookalike({"genre/marina": offers(1)}) as site:
        site.fail(MARINA, "html-200", "html-200")
        with pytest.raises(NotFound, match=r"not JSON.*DOCTYPE.*try again later") as caught:
            collected(site)
    assert isinstance(caught.value, TransientError)  # a page for maintenance, for example


def test_a_list_ends_with_a_note_at_a_later_page_of_html():
    with lookalike({"genre/marina": offers(200)}) as site:
        site.fail(MARINA, *["html-200"] * 9, page=3)
        found = collected(site)
    assert len(found.works) == 120
    assert "page 3: the site answers with not JSON" in found.notes[0]
    assert found.notes[1] == "genre 'marina': the site claims 200 works and listed 120"
    assert found.incomplete == [found.notes[0]]


def test_after_a_failure_the_next_run_goes_on_from_the_failed_page(tmp_path):
    with (
        lookalike({"genre/marina": offers(200)}) as site,
        closing(ResponseCache(tmp_path / "kept.sqlite")) as cache,
    ):
        site.fail(MARINA, *["500"] * 4, page=3)
        with pytest.raises(FetchError, match="HTTP 500"):
            collected(site, cache=cache)
        asked = site.asked(MARINA)
        found = collected(site, cache=cache)
        assert [request.path[-1] for request in site.requests if MARINA in request.path][asked:] == ["3", "4"]
        assert len(found.works) == 200
        asked = site.asked(MARINA)
        assert collected(site, cache=cache) == found
        assert site.asked(MARINA) == asked
