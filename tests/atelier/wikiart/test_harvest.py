"""Harvesting a genre or style beyond what its list shows, from a server with WikiArt's cap and App layer."""

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from zlib import crc32

import pytest

from atelier.data.coverage import SourceWorks, coverage_report
from atelier.errors import TransientError
from atelier.web.client import PoliteClient
from atelier.web.limits import Budget
from atelier.wikiart.cached_client import CachedClient, ResponseCache
from atelier.wikiart.formats import ARTISTS_PATH, MAX_ARTISTS_BYTES, details_path, oeuvre_path
from atelier.wikiart.harvest import NOT_FREE, harvest
from atelier.wikiart.lists import Query
from tests.archive import ERROR_PAGE, Archive, archive, painted

STYLE = Query("style", "impressionism")
WORKS = painted(300, artists=8, others=40)
MINE = [work for work in WORKS if "impressionism" in work.styles]
SMALL = {"cap": 180}  # the list ends there, in a full page, and claims 300


def run_harvest(
    site: Archive, state: Path | None = None, *, snapshot: str = "2026-11-22", budget=None, **settings
) -> SourceWorks:
    with (
        PoliteClient(
            site.base_url, contact="", rate_per_s=None, retries=3, timeout_s=5, backoff_s=0.01,
            budget=Budget(budget, state / "ledger" if state and budget else None),
        ) as client,
        closing(ResponseCache(state / "kept.sqlite" if state else None)) as cache,
    ):  # fmt: skip
        return harvest(CachedClient(client, cache, snapshot), STYLE, **{"tell": lambda sentence: None, **settings})


def report(found: SourceWorks) -> dict:
    return json.loads(json.dumps(coverage_report("wikiart", "", found)))


def ids(found: SourceWorks) -> set[str]:
    return {work.id for work in found.works}


def test_a_cut_list_is_completed_through_the_artists():
    with archive(WORKS, **SMALL) as site:
        found = run_harvest(site)
    assert ids(found) == {work.hex_id for work in MINE}
    coverage = report(found)
    assert coverage["found"] == coverage["claimed"] == 300 and coverage["cut_at_cap"]
    assert coverage["plain_lists"]["works"] == 180 and coverage["by_route"] == {"lists": 180, "artists": 120}
    assert coverage["plain_lists"]["to"] < coverage["years"]["to"]
    assert coverage["requests"]["oeuvres"] == 8 and coverage["requests"]["all"] == len(site.requests) - 1  # robots.txt


def test_no_details_are_requested_for_works_that_the_list_decides():
    works = painted(420, artists=8, others=80)
    mine = [work for work in works if "impressionism" in work.styles]
    with archive(works, **SMALL) as site:
        found = run_harvest(site)
        shown = sorted(mine, key=lambda work: (work.place, work.number))[:180]
        asked = {request.path for request in site.requests}
        assert not asked & {details_path(str(work.content_id)) for work in shown}
        assert found.reach
        dated = found.reach["not_asked_because_dated"]
        assert dated["before"] and dated["works"] > 0
        for work in works:
            if work.year.isdigit() and int(work.year) < dated["before"]:
                assert details_path(str(work.content_id)) not in asked
        assert max(site.asked.values()) == 1


def test_works_are_matched_by_image_whatever_the_urls_host_size_and_encoding():
    with archive(WORKS, **SMALL) as site:
        works = {work.id: work for work in run_harvest(site).works}
    for painting in MINE:
        work = works[painting.hex_id]
        assert unquote(work.image_url) == f"{site.base_url}/{painting.file}" and work.image_url.isascii()
        assert (work.title, work.artist_slug) == (painting.title, painting.artist)
        assert work.style in ("impressionism", ", ".join(sorted(painting.styles)))


def test_a_work_missing_from_its_artists_list_gets_its_content_id():
    works = [replace(work, in_artist_list=work.number % 10 > 0) for work in WORKS]
    with archive(works, **SMALL) as site:
        found = run_harvest(site)
    shown = {work.id for work in found.works if len(work.id) == 24}
    numbered = {work.id for work in found.works} - shown
    assert len(found.works) == 300 and numbered
    assert numbered == {str(work.content_id) for work in MINE if work.hex_id not in shown}
    assert all(work.page_url for work in found.works)


def test_a_complete_list_needs_no_requests_for_oeuvres():
    with archive(WORKS) as site:
        found = run_harvest(site)
        assert len(found.works) == 300 and not found.cut_at_cap
        assert set(site.kinds()) == {"lists", "artists", "robots"}


def test_a_limit_within_the_list_requests_no_oeuvre_and_a_larger_one_ends_the_harvest():
    with archive(WORKS, **SMALL) as site:
        assert len(run_harvest(site, limit=180).works) == 180
        assert site.kinds()["lists"] == 3 and "oeuvres" not in site.kinds()
        assert len(run_harvest(site, limit=61).works) == 61
        assert site.kinds()["lists"] == 5
        first = run_harvest(site, limit=200)
        assert len(first.works) == 200 and first.works == run_harvest(site).works[:200]


def test_artists_of_the_list_come_first_and_others_only_while_claimed_works_are_missing():
    others = [
        replace(WORKS[-1], number=5000 + number, artist=f"other-{number}", place=1999, year="1999")
        for number in range(30)
    ]
    with archive([*WORKS, *others], **SMALL) as site:
        found = run_harvest(site)
        asked = [request.path for request in site.requests if "other" in request.path]
        assert len(found.works) == 300 and len(asked) <= 9  # started ahead by the threads
        assert any("30 artists whom its list does not show were left out" in note for note in found.notes)
    with archive([*WORKS, *others], **SMALL, claimed=301) as site:
        assert len(run_harvest(site).works) == 300
        assert sum("other" in request.path for request in site.requests) == 30


def test_the_cost_is_told_before_the_oeuvres_are_requested():
    told: list[str] = []
    with archive(WORKS, **SMALL) as site:
        run_harvest(site, tell=told.append)
    (sentence,) = told
    for words in ("180 of 300 works", "8 artists", "requests", "hours", "limit", "max_requests"):
        assert words in sentence


def test_the_number_of_threads_does_not_change_the_result(monkeypatch):
    with archive(WORKS, **SMALL) as site:
        results = []
        for threads in (1, 16):
            monkeypatch.setattr("atelier.wikiart.harvest.THREADS", threads)
            found = run_harvest(site)
            results.append((found.works, report(found)))
    assert results[0] == results[1]


def test_temporary_failures_do_not_change_the_result():
    with archive(WORKS, **SMALL) as site:
        expected = run_harvest(site)
        paths = [request.path for request in site.requests if request.path != "/robots.txt"]
        faults = dict(
            zip(
                sorted(paths, key=lambda path: crc32(path.encode())),
                ("drop", "html"),
                strict=False,
            )
        )
        site.asked.clear()
        site.rule = lambda path, asked: faults.get(path) if asked == 1 else None
        found = run_harvest(site)
    assert found.works == expected.works and report(found) == report(expected)


def test_details_that_are_not_found_are_counted_and_not_requested_again_at_this_snapshot(tmp_path):
    late = [work for work in MINE if work.place > 1950][:3]
    with archive(WORKS, **SMALL) as site:
        broken = {
            details_path(str(work.content_id)): fault
            for work, fault in zip(late, (f"to {ERROR_PAGE}", "404", "410"), strict=True)
        }
        site.rule = lambda path, asked: broken.get(path)
        found = run_harvest(site, tmp_path)
        assert report(found)["complete"]
        failed = report(found)["failed_for_good"]
        assert failed["count"] == 3 and {line.split(": ")[0] for line in failed["first"]} == broken.keys()
        assert len(found.works) == 297
        site.requests.clear()
        assert report(run_harvest(site, tmp_path)) == report(found)
        assert {request.path for request in site.requests} <= {"/robots.txt"}
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path, snapshot="2026-11-23").works) == 300


def test_after_three_refusals_the_harvest_stops_and_the_next_run_finds_all_works(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "403" if "ImageJson" in path else None
        found = run_harvest(site, tmp_path)
        (why,) = report(found)["incomplete_because"]
        assert re.search(r"403.*3 failures in a row.*run again to go on", why)
        assert len(found.works) == 180 and not report(found)["complete"]
        assert site.kinds()["details"] < 20
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path).works) == 300


UNEXPECTED_CONTENT = {
    "a page": b"<!DOCTYPE html><html><body>Down for maintenance, back soon</body></html>",
    "a sentence": b"Service temporarily unavailable",
    "nothing": b"",
    "a quota": b'{"Exception":{"Message":"Free API limit exceeded"}}',
}


@pytest.mark.parametrize("answer", UNEXPECTED_CONTENT)
@pytest.mark.parametrize("kind", ["ImageJson", "PaintingsByArtist"])
def test_unexpected_content_with_status_200_stops_the_harvest_and_loses_no_work(tmp_path, answer, kind):
    with archive(WORKS, **SMALL) as site:
        late = [details_path(str(work.content_id)) for work in MINE] + [
            oeuvre_path(f"artist-{number}") for number in range(8)
        ]
        site.bodies = {path: UNEXPECTED_CONTENT[answer] for path in late if kind in path}
        found = run_harvest(site, tmp_path)
        assert len(found.works) == 180 and len(site.requests) < 60
        coverage = report(found)
        assert not coverage["complete"] and "3 failures in a row" in coverage["incomplete_because"][0]
        assert not coverage["failed_for_good"]["count"]
        site.bodies = {}
        found = run_harvest(site, tmp_path)
        assert ids(found) == {work.hex_id for work in MINE} and report(found)["complete"]


def test_a_failure_in_the_middle_of_an_artist_loses_no_work(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "html" if len(site.requests) > 80 else None
        found = run_harvest(site, tmp_path)
        assert 180 <= len(found.works) < 300 and len(site.requests) < 130 and not report(found)["complete"]
        assert all(len(work.id) == 24 for work in found.works)
        site.rule = lambda path, asked: None
        assert ids(run_harvest(site, tmp_path)) == {work.hex_id for work in MINE}


@pytest.mark.parametrize("target", [ERROR_PAGE, "/maintenance", "/en/login?to=/en/App", "//portal.example/"])
def test_a_site_that_redirects_everything_loses_no_work(tmp_path, target):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: f"to {target}" if "/App/Painting/" in path else None
        found = run_harvest(site, tmp_path)
        assert len(found.works) == 180 and len(site.requests) < 80 and not report(found)["complete"]
        site.rule = lambda path, asked: None
        found = run_harvest(site, tmp_path)
        assert ids(found) == {work.hex_id for work in MINE} and report(found)["complete"]


def test_dead_ids_in_a_row_cost_one_request_each_per_snapshot(tmp_path):
    first = [work for work in MINE if work.artist == "artist-0" and work.place > 1950][:5]
    dead = {details_path(str(work.content_id)) for work in first}
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: f"to {ERROR_PAGE}" if path in dead else None
        found = run_harvest(site, tmp_path)
        assert len(found.works) == 295 and report(found)["failed_for_good"]["count"] == 5
        assert {site.asked[path] for path in dead} == {1} and not site.asked[ERROR_PAGE]
        site.requests.clear()
        assert run_harvest(site, tmp_path).works == found.works
        assert {request.path for request in site.requests} <= {"/robots.txt"}


def test_a_page_other_than_a_works_page_decides_no_rights(tmp_path):
    works = [replace(work, is_free=True) for work in WORKS]
    with archive(works) as site:
        site.rule = lambda path, asked: "html" if len(site.requests) > 80 else None
        found = run_harvest(site, tmp_path, free_only=True)
        assert 50 < len(found.works) < 300 and not found.skipped and not report(found)["complete"]
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path, free_only=True).works) == 300


def test_a_challenge_pauses_the_host_and_loses_no_work(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "challenge" if "ImageJson" in path else None
        found = run_harvest(site, tmp_path)
        (why,) = report(found)["incomplete_because"]
        assert "Cloudflare" in why and site.kinds()["details"] <= 4 and len(found.works) == 180
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path).works) == 300


def test_if_robots_txt_disallows_the_app_layer_the_list_is_kept_and_the_report_says_why():
    with archive(WORKS, **SMALL) as site:
        site.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /en/App/\n"
        found = run_harvest(site)
        coverage = report(found)
        assert set(site.kinds()) == {"lists", "robots"}
    assert len(found.works) == 180 and coverage["failed_for_good"]["count"] == 9
    assert "robots.txt" in coverage["failed_for_good"]["first"][0]
    assert any("completed only from the 8 artists whom its list shows" in note for note in coverage["notes"])


def test_a_failing_site_stops_the_harvest_and_the_next_run_goes_on(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "500" if "page=3" in path and asked <= 4 else None
        with pytest.raises(TransientError, match=r"HTTP 500.*run again to go on"):
            run_harvest(site, tmp_path)
        assert len(run_harvest(site, tmp_path).works) == 300
        assert {path for path, count in site.asked.items() if count > 1} <= {"/robots.txt"} | {
            path for path in site.asked if "page=3" in path
        }


def test_a_single_refusal_is_counted_and_requested_again_by_the_next_run(tmp_path):
    path = details_path(str(next(work for work in MINE if work.place > 1950).content_id))
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda asked_for, asked: "403" if asked_for == path else None
        found = run_harvest(site, tmp_path)
        assert len(found.works) == 299 and report(found)["failed"]["count"] == 1
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path).works) == 300


def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on_from_there(tmp_path):
    with archive(WORKS, **SMALL) as site:
        for budget in (3, 60, 60, 120):
            found = run_harvest(site, tmp_path, budget=budget)
            assert len(site.requests) <= budget
            coverage = report(found)
            assert coverage["not_asked"] and any(
                "raise scrape.wikiart.max_requests" in note for note in coverage["notes"]
            )
        found = run_harvest(site, tmp_path, budget=10_000)
        assert ids(found) == {work.hex_id for work in MINE} and not report(found)["not_asked"]
        assert max(count for path, count in site.asked.items() if path != "/robots.txt") == 1


def test_a_new_snapshot_requests_only_what_may_have_changed(tmp_path):
    with archive(WORKS, **SMALL, etags=True) as site:
        first = run_harvest(site, tmp_path)
        site.requests.clear()
        assert run_harvest(site, tmp_path).works == first.works
        assert site.kinds()["robots"] == len(site.requests)
        site.requests.clear()
        second = run_harvest(site, tmp_path, snapshot="2026-11-23")
        assert second.works == first.works and report(second) == report(first)
        assert "details" not in site.kinds()
        assert {request.status for request in site.requests if request.path != "/robots.txt"} == {304}
        changed = next(work for work in WORKS if work.number == 292)
        works = [replace(work, year="1999") if work is changed else work for work in WORKS]
        works.append(replace(changed, number=7777))
        site.set_works(works, {})
        site.requests.clear()
        third = run_harvest(site, tmp_path, snapshot="2026-11-24")
        assert len(third.works) == 301 and site.kinds()["details"] == 2


def test_public_domain_follows_from_the_artists_death_or_the_works_page(tmp_path):
    works = [replace(work, is_free=work.number % 7 == 0) for work in WORKS]
    died = {f"artist-{number}": 1890 + 12 * number if number != 7 else None for number in range(8)}
    long_dead = {slug for slug, year in died.items() if year and 2026 - year > 70}
    with archive(works, **SMALL, died=died) as site:
        found = run_harvest(site, tmp_path, free_only=True)
        free = [work for work in works if "impressionism" in work.styles and (work.artist in long_dead or work.is_free)]
        assert ids(found) == {work.hex_id for work in free} and {work.rights for work in found.works} == {
            "public-domain"
        }
        assert found.skipped == {NOT_FREE: 300 - len(free)}
        pages = [request for request in site.requests if "/en/artist-" in request.path and "?" not in request.path]
        assert len(pages) == sum(work.artist not in long_dead for work in MINE)
        some = run_harvest(site, tmp_path, free_only=True, limit=5)
        assert some.works == found.works[:5]
        both = run_harvest(site, tmp_path)
    assert {work.rights for work in both.works} == {"public-domain", "unknown"}
    assert {work.artist_slug for work in both.works if work.rights == "public-domain"} == long_dead


def test_artists_missing_from_the_list_of_artists_are_requested_one_by_one():
    died = {f"artist-{number}": 1420 for number in range(8)}
    with archive(WORKS, died=died, unlisted_artists=("artist-3",)) as site:
        assert len(run_harvest(site, free_only=True).works) == 300
        assert site.asked["/en/artist-3?json=2"] == 1 and site.kinds()["artists"] == 2


@pytest.mark.parametrize("answer", ["404", "html", "oversized", "deep", "not UTF-8", "[7, null, {}]"])
def test_without_the_list_of_artists_the_artists_of_the_list_are_used(answer):
    bodies = {
        "oversized": b"[" + b" " * MAX_ARTISTS_BYTES + b"]", "deep": b"[" * 1_000_000,
        "not UTF-8": b'[{"url": "\xff"}]', "[7, null, {}]": b"[7, null, {}]",
    }  # fmt: skip
    with archive(WORKS, **SMALL) as site:
        if answer in bodies:
            site.bodies[ARTISTS_PATH] = bodies[answer]
        else:
            site.rule = lambda path, asked: answer if path == ARTISTS_PATH else None
        found = run_harvest(site)
    assert len(found.works) == 300
    assert {work.rights for work in found.works} == {"unknown"}


def test_a_temporary_failure_of_the_list_of_artists_stops_only_a_harvest_that_needs_it(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "500" if path == ARTISTS_PATH else None
        assert {work.rights for work in run_harvest(site, tmp_path, limit=100).works} == {"unknown"}
        found = run_harvest(site, tmp_path)
        assert len(found.works) == 180
        (why,) = report(found)["incomplete_because"]
        assert re.search(r"AlphabetJson.*HTTP 500.*run again to go on", why)
        site.rule = lambda path, asked: None
        assert len(run_harvest(site, tmp_path).works) == 300


HOSTILE = [
    7, None, [], {}, {"contentId": "../../etc", "image": "/a.jpg"}, {"contentId": 1.5, "image": "/b.jpg"},
    {"contentId": 2**63, "image": "/c.jpg"}, {"contentId": -4, "image": "/d.jpg"},
    {"contentId": True, "image": "/e.jpg"},
    {"contentId": 9, "image": "http://169.254.169.254/f.jpg"}, {"contentId": 9, "image": ["/g.jpg"], "title": {}},
    {"contentId": 9, "image": None},
]  # fmt: skip


def test_malformed_records_of_an_oeuvre_are_counted_and_affect_no_others():
    with archive(WORKS, **SMALL) as site:
        path = oeuvre_path("artist-3")
        site.bodies[path] = json.dumps([*HOSTILE, *json.loads(site.body(path)[1])]).encode()
        found = run_harvest(site)
    assert len(found.works) == 300
    assert found.skipped == {"malformed record": len(HOSTILE) - 1, "image on a foreign host": 1}
    assert found.listed == len(found.works) + sum(found.skipped.values())


@pytest.mark.parametrize("body", [b"[" * 1_000_000, b'{"contentId": 1}', b'["\xff"]', b"null", b'{"a":' * 200_000])
def test_hostile_details_are_counted_as_a_failure(body):
    path = details_path(str(next(work for work in MINE if work.place > 1950).content_id))
    with archive(WORKS, **SMALL) as site:
        site.bodies[path] = body
        found = run_harvest(site)
    assert len(found.works) == 299 and report(found)["failed"]["count"] == 1
    assert not report(found)["failed_for_good"]["count"] and not report(found)["complete"]


def test_slugs_with_dots_never_become_paths():
    hostile = [{"url": slug} for slug in ("..", ".", "../../etc", "%2e%2e", "a\0b", "/en/../x", "", 7)]
    with archive(WORKS, **SMALL, claimed=10_000) as site:
        site.bodies[ARTISTS_PATH] = json.dumps([*json.loads(site.body(ARTISTS_PATH)[1]), *hostile]).encode()
        assert len(run_harvest(site).works) == 300
        assert not [request.path for request in site.requests if ".." in request.path or "%00" in request.path]
