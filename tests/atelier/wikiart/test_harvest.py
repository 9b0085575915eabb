"""A genre or style beyond what its list shows, against an archive with WikiArt's cap and App layer."""

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
from atelier.web.rate_limit import Budget
from atelier.wikiart.asking import Asker, Store
from atelier.wikiart.formats import ALPHABET, MAX_ALPHABET_BYTES, details_path, oeuvre_path
from atelier.wikiart.harvest import NOT_FREE, harvest
from atelier.wikiart.lists import Query
from tests.archive import ERROR_PAGE, Archive, archive, painted

STYLE = Query("style", "impressionism")
WORKS = painted(420, artists=8, others=80)
MINE = [work for work in WORKS if "impressionism" in work.styles]
SMALL = {"cap": 180}  # the list ends there, in a full page, and claims 420


def ask(
    site: Archive, state: Path | None = None, *, snapshot: str = "2026-11-22", budget=None, **settings
) -> SourceWorks:
    with (
        PoliteClient(
            site.base_url, contact="", rate_per_s=None, retries=3, timeout_s=5, backoff_s=0.01,
            budget=Budget(budget, state / "ledger" if state and budget else None),
        ) as client,
        closing(Store(state / "kept.sqlite" if state else None)) as store,
    ):  # fmt: skip
        return harvest(Asker(client, store, snapshot), STYLE, **{"tell": lambda sentence: None, **settings})


def report(found: SourceWorks) -> dict:
    return json.loads(json.dumps(coverage_report("wikiart", "", found)))


def ids(found: SourceWorks) -> set[str]:
    return {work.id for work in found.works}


def test_a_cut_list_is_completed_through_the_artists():
    with archive(WORKS, **SMALL) as site:
        found = ask(site)
    assert ids(found) == {work.hex_id for work in MINE}
    said = report(found)
    assert said["found"] == said["claimed"] == 420 and said["cut_at_cap"]
    assert said["plain_lists"]["works"] == 180 and said["by_route"] == {"lists": 180, "artists": 240}
    assert said["plain_lists"]["to"] < said["years"]["to"]
    assert (
        said["requests"]["oeuvres"] == 8 and said["requests"]["all"] == len(site.requests) - 1
    )  # robots.txt


def test_what_the_list_can_tell_is_not_asked_for():
    with archive(WORKS, **SMALL) as site:
        found = ask(site)
        shown = sorted(MINE, key=lambda work: (work.place, work.number))[:180]
        asked = {request.path for request in site.requests}
        assert not asked & {details_path(str(work.content_id)) for work in shown}
        assert found.reach and found.reach.dated_before and found.reach.dated_before_works > 0
        for work in WORKS:
            if work.year.isdigit() and int(work.year) < found.reach.dated_before:
                assert details_path(str(work.content_id)) not in asked
        assert max(site.asked.values()) == 1


def test_rows_are_joined_by_the_image_whatever_its_host_size_and_encoding_look_like():
    with archive(WORKS, **SMALL) as site:
        works = {work.id: work for work in ask(site).works}
    for painting in MINE:
        work = works[painting.hex_id]
        assert unquote(work.image_url) == f"{site.base_url}/{painting.file}" and work.image_url.isascii()
        assert (work.title, work.artist_slug) == (painting.title, painting.artist)
        assert work.style in ("impressionism", ", ".join(sorted(painting.styles)))


def test_a_work_that_its_artists_list_lacks_has_its_content_id():
    works = [replace(work, in_artist_list=work.number % 10 > 0) for work in WORKS]
    with archive(works, **SMALL) as site:
        found = ask(site)
    shown = {work.id for work in found.works if len(work.id) == 24}
    numbered = {work.id for work in found.works} - shown
    assert len(found.works) == 420 and numbered
    assert numbered == {str(work.content_id) for work in MINE if work.hex_id not in shown}
    assert all(work.page_url for work in found.works)


def test_a_list_that_is_whole_costs_nothing_more():
    with archive(WORKS) as site:
        found = ask(site)
        assert len(found.works) == 420 and not found.cut_at_cap
        assert set(site.kinds()) == {"lists", "artists", "robots"}


def test_a_limit_that_the_list_meets_costs_nothing_more_and_one_beyond_it_ends_the_walk():
    with archive(WORKS, **SMALL) as site:
        assert len(ask(site, limit=180).works) == 180
        assert site.kinds()["lists"] == 3 and "oeuvres" not in site.kinds()
        assert len(ask(site, limit=61).works) == 61
        assert site.kinds()["lists"] == 5
        first = ask(site, limit=200)
        assert len(first.works) == 200 and first.works == ask(site).works[:200]


def test_the_artists_whom_the_list_shows_come_first_and_the_others_only_as_long_as_works_are_missing():
    strangers = [
        replace(WORKS[-1], number=5000 + number, artist=f"stranger-{number}", place=1999, year="1999")
        for number in range(30)
    ]
    with archive([*WORKS, *strangers], **SMALL) as site:
        found = ask(site)
        asked = [request.path for request in site.requests if "stranger" in request.path]
        assert len(found.works) == 420 and len(asked) <= 9  # as far as the threads were ahead
        assert any("30 artists whom its list does not show were left out" in note for note in found.notes)
    with archive([*WORKS, *strangers], **SMALL, claimed=421) as site:
        assert len(ask(site).works) == 420
        assert sum("stranger" in request.path for request in site.requests) == 30


def test_before_the_long_way_it_is_said_what_it_costs_and_what_makes_it_shorter():
    said: list[str] = []
    with archive(WORKS, **SMALL) as site:
        ask(site, tell=said.append)
    (sentence,) = said
    for words in ("180 of 420 works", "8 artists", "requests", "hours", "limit", "max_requests"):
        assert words in sentence


def test_threads_change_nothing(monkeypatch):
    with archive(WORKS, **SMALL) as site:
        results = []
        for threads in (1, 16):
            monkeypatch.setattr("atelier.wikiart.harvest.THREADS", threads)
            found = ask(site)
            results.append((found.works, report(found)))
    assert results[0] == results[1]


def test_trouble_on_the_way_loses_nothing():
    with archive(WORKS, **SMALL) as site:
        calm = ask(site)
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
        found = ask(site)
    assert found.works == calm.works and report(found) == report(calm)


def test_an_answer_that_never_comes_is_counted_and_not_asked_again_at_this_snapshot(tmp_path):
    late = [work for work in MINE if work.place > 1950][:3]
    with archive(WORKS, **SMALL) as site:
        broken = {
            details_path(str(work.content_id)): fault
            for work, fault in zip(late, (f"to {ERROR_PAGE}", "404", "410"), strict=True)
        }
        site.rule = lambda path, asked: broken.get(path)
        found = ask(site, tmp_path)
        assert report(found)["complete"]
        failed = report(found)["failed_for_good"]
        assert failed["count"] == 3 and {line.split(": ")[0] for line in failed["first"]} == broken.keys()
        assert len(found.works) == 417
        site.requests.clear()
        assert report(ask(site, tmp_path)) == report(found)
        assert {request.path for request in site.requests} <= {"/robots.txt"}
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path, snapshot="2026-11-23").works) == 420


def test_a_site_that_refuses_is_left_alone_and_nothing_is_held_against_its_works(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "403" if "ImageJson" in path else None
        found = ask(site, tmp_path)
        (why,) = report(found)["incomplete_because"]
        assert re.search(r"403.*3 failures in a row.*run again to go on", why)
        assert len(found.works) == 180 and not report(found)["complete"]
        assert site.kinds()["details"] < 20
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path).works) == 420


OTHER_ANSWERS = {
    "a page": b"<!DOCTYPE html><html><body>Down for maintenance, back soon</body></html>",
    "a sentence": b"Service temporarily unavailable",
    "nothing": b"",
    "a quota": b'{"Exception":{"Message":"Free API limit exceeded"}}',
}


@pytest.mark.parametrize("answer", OTHER_ANSWERS)
@pytest.mark.parametrize("kind", ["ImageJson", "PaintingsByArtist"])
def test_a_site_that_answers_something_else_with_status_200_is_left_alone_and_loses_no_work(
    tmp_path, answer, kind
):
    with archive(WORKS, **SMALL) as site:
        late = [details_path(str(work.content_id)) for work in MINE] + [
            oeuvre_path(f"artist-{number}") for number in range(8)
        ]
        site.bodies = {path: OTHER_ANSWERS[answer] for path in late if kind in path}
        found = ask(site, tmp_path)
        assert len(found.works) == 180 and len(site.requests) < 60
        said = report(found)
        assert not said["complete"] and "3 failures in a row" in said["incomplete_because"][0]
        assert not said["failed_for_good"]["count"]
        site.bodies = {}
        found = ask(site, tmp_path)
        assert ids(found) == {work.hex_id for work in MINE} and report(found)["complete"]


def test_a_site_that_goes_down_in_the_middle_of_an_artist_loses_no_work(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "html" if len(site.requests) > 150 else None
        found = ask(site, tmp_path)
        assert 180 <= len(found.works) < 420 and len(site.requests) < 200 and not report(found)["complete"]
        assert all(len(work.id) == 24 for work in found.works)
        site.rule = lambda path, asked: None
        assert ids(ask(site, tmp_path)) == {work.hex_id for work in MINE}


@pytest.mark.parametrize("target", [ERROR_PAGE, "/maintenance", "/en/login?to=/en/App", "//portal.example/"])
def test_a_site_that_redirects_everything_loses_no_work(tmp_path, target):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: f"to {target}" if "/App/Painting/" in path else None
        found = ask(site, tmp_path)
        assert len(found.works) == 180 and len(site.requests) < 80 and not report(found)["complete"]
        site.rule = lambda path, asked: None
        found = ask(site, tmp_path)
        assert ids(found) == {work.hex_id for work in MINE} and report(found)["complete"]


def test_neighbouring_dead_ids_cost_a_request_each_once_a_snapshot(tmp_path):
    first = [work for work in MINE if work.artist == "artist-0" and work.place > 1950][:5]
    dead = {details_path(str(work.content_id)) for work in first}
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: f"to {ERROR_PAGE}" if path in dead else None
        found = ask(site, tmp_path)
        assert len(found.works) == 415 and report(found)["failed_for_good"]["count"] == 5
        assert {site.asked[path] for path in dead} == {1} and not site.asked[ERROR_PAGE]
        site.requests.clear()
        assert ask(site, tmp_path).works == found.works
        assert {request.path for request in site.requests} <= {"/robots.txt"}


def test_a_page_that_is_no_paintings_says_nothing_about_rights(tmp_path):
    works = [replace(work, is_free=True) for work in WORKS]
    with archive(works) as site:
        site.rule = lambda path, asked: "html" if len(site.requests) > 100 else None
        found = ask(site, tmp_path, free_only=True)
        assert 50 < len(found.works) < 420 and not found.skipped and not report(found)["complete"]
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path, free_only=True).works) == 420


def test_a_challenge_pauses_the_host_and_is_held_against_no_work(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "challenge" if "ImageJson" in path else None
        found = ask(site, tmp_path)
        (why,) = report(found)["incomplete_because"]
        assert "Cloudflare" in why and site.kinds()["details"] <= 4 and len(found.works) == 180
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path).works) == 420


def test_where_robots_txt_shuts_the_app_layer_the_plain_list_stays_and_the_report_says_why():
    with archive(WORKS, **SMALL) as site:
        site.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /en/App/\n"
        found = ask(site)
        said = report(found)
        assert set(site.kinds()) == {"lists", "robots"}
    assert len(found.works) == 180 and said["failed_for_good"]["count"] == 9
    assert "robots.txt" in said["failed_for_good"]["first"][0]
    assert any("completed only from the 8 artists whom its list shows" in note for note in said["notes"])


def test_a_site_that_fails_stops_the_harvest_and_the_next_goes_on(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "500" if "page=3" in path and asked <= 4 else None
        with pytest.raises(TransientError, match=r"HTTP 500.*run again to go on"):
            ask(site, tmp_path)
        assert len(ask(site, tmp_path).works) == 420
        assert {path for path, count in site.asked.items() if count > 1} <= {"/robots.txt"} | {
            path for path in site.asked if "page=3" in path
        }


def test_a_single_refusal_is_told_apart_and_asked_again_at_the_next_run(tmp_path):
    path = details_path(str(next(work for work in MINE if work.place > 1950).content_id))
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda asked_for, asked: "403" if asked_for == path else None
        found = ask(site, tmp_path)
        assert len(found.works) == 419 and report(found)["failed"]["count"] == 1
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path).works) == 420


def test_the_budget_is_hard_and_raising_it_goes_on_from_there(tmp_path):
    with archive(WORKS, **SMALL) as site:
        for budget in (3, 100, 100, 250):
            found = ask(site, tmp_path, budget=budget)
            assert len(site.requests) <= budget
            said = report(found)
            assert said["not_asked"] and any(
                "raise scrape.wikiart.max_requests" in note for note in said["notes"]
            )
        found = ask(site, tmp_path, budget=10_000)
        assert ids(found) == {work.hex_id for work in MINE} and not report(found)["not_asked"]
        assert max(count for path, count in site.asked.items() if path != "/robots.txt") == 1


def test_another_snapshot_asks_only_for_what_may_have_changed(tmp_path):
    with archive(WORKS, **SMALL, etags=True) as site:
        first = ask(site, tmp_path)
        site.requests.clear()
        assert ask(site, tmp_path).works == first.works
        assert site.kinds()["robots"] == len(site.requests)
        site.requests.clear()
        second = ask(site, tmp_path, snapshot="2026-11-23")
        assert second.works == first.works and report(second) == report(first)
        assert "details" not in site.kinds()
        assert {request.status for request in site.requests if request.path != "/robots.txt"} == {304}
        changed = next(work for work in WORKS if work.number == 418)
        works = [replace(work, year="1999") if work is changed else work for work in WORKS]
        works.append(replace(changed, number=7777))
        site.hold(works, {})
        site.requests.clear()
        third = ask(site, tmp_path, snapshot="2026-11-24")
        assert len(third.works) == 421 and site.kinds()["details"] == 2


def test_public_domain_is_known_by_the_artists_death_or_by_the_works_own_page(tmp_path):
    works = [replace(work, is_free=work.number % 7 == 0) for work in WORKS]
    died = {f"artist-{number}": 1890 + 12 * number if number != 7 else None for number in range(8)}
    long_dead = {slug for slug, year in died.items() if year and 2026 - year > 70}
    with archive(works, **SMALL, died=died) as site:
        found = ask(site, tmp_path, free_only=True)
        free = [
            work
            for work in works
            if "impressionism" in work.styles and (work.artist in long_dead or work.is_free)
        ]
        assert ids(found) == {work.hex_id for work in free} and {work.rights for work in found.works} == {
            "public-domain"
        }
        assert found.skipped == {NOT_FREE: 420 - len(free)}
        pages = [
            request for request in site.requests if "/en/artist-" in request.path and "?" not in request.path
        ]
        assert len(pages) == sum(work.artist not in long_dead for work in MINE)
        some = ask(site, tmp_path, free_only=True, limit=5)
        assert some.works == found.works[:5]
        both = ask(site, tmp_path)
    assert {work.rights for work in both.works} == {"public-domain", "unknown"}
    assert {work.artist_slug for work in both.works if work.rights == "public-domain"} == long_dead


def test_artists_whom_the_alphabet_lacks_are_asked_for_by_themselves():
    died = {f"artist-{number}": 1420 for number in range(8)}
    with archive(WORKS, died=died, unlisted_artists=("artist-3",)) as site:
        assert len(ask(site, free_only=True).works) == 420
        assert site.asked["/en/artist-3?json=2"] == 1 and site.kinds()["artists"] == 2


@pytest.mark.parametrize("answer", ["404", "html", "oversized", "deep", "not UTF-8", "[7, null, {}]"])
def test_without_the_list_of_artists_those_of_the_plain_list_are_asked(answer):
    bodies = {
        "oversized": b"[" + b" " * MAX_ALPHABET_BYTES + b"]", "deep": b"[" * 1_000_000,
        "not UTF-8": b'[{"url": "\xff"}]', "[7, null, {}]": b"[7, null, {}]",
    }  # fmt: skip
    with archive(WORKS, **SMALL) as site:
        if answer in bodies:
            site.bodies[ALPHABET] = bodies[answer]
        else:
            site.rule = lambda path, asked: answer if path == ALPHABET else None
        found = ask(site)
    assert len(found.works) == 420
    assert {work.rights for work in found.works} == {"unknown"}


def test_a_list_of_artists_that_fails_today_stops_only_those_who_need_it(tmp_path):
    with archive(WORKS, **SMALL) as site:
        site.rule = lambda path, asked: "500" if path == ALPHABET else None
        assert {work.rights for work in ask(site, tmp_path, limit=100).works} == {"unknown"}
        found = ask(site, tmp_path)
        assert len(found.works) == 180
        (why,) = report(found)["incomplete_because"]
        assert re.search(r"AlphabetJson.*HTTP 500.*run again to go on", why)
        site.rule = lambda path, asked: None
        assert len(ask(site, tmp_path).works) == 420


HOSTILE = [
    7, None, [], {}, {"contentId": "../../etc", "image": "/a.jpg"}, {"contentId": 1.5, "image": "/b.jpg"},
    {"contentId": 2**63, "image": "/c.jpg"}, {"contentId": -4, "image": "/d.jpg"},
    {"contentId": True, "image": "/e.jpg"},
    {"contentId": 9, "image": "http://169.254.169.254/f.jpg"}, {"contentId": 9, "image": ["/g.jpg"], "title": {}},
    {"contentId": 9, "image": None},
]  # fmt: skip


def test_an_oeuvre_of_wrong_types_is_counted_and_spoils_only_itself():
    with archive(WORKS, **SMALL) as site:
        path = oeuvre_path("artist-3")
        site.bodies[path] = json.dumps([*HOSTILE, *json.loads(site.body(path)[1])]).encode()
        found = ask(site)
    assert len(found.works) == 420
    assert found.skipped == {"malformed record": len(HOSTILE) - 1, "image on a foreign host": 1}
    assert found.listed == len(found.works) + sum(found.skipped.values())


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b'{"contentId": 1}', b'["\xff"]', b"null", b'{"a":' * 200_000]
)
def test_hostile_details_are_a_miss_and_no_crash(body):
    path = details_path(str(next(work for work in MINE if work.place > 1950).content_id))
    with archive(WORKS, **SMALL) as site:
        site.bodies[path] = body
        found = ask(site)
    assert len(found.works) == 419 and report(found)["failed"]["count"] == 1
    assert not report(found)["failed_for_good"]["count"] and not report(found)["complete"]


def test_slugs_that_would_climb_never_become_paths():
    hostile = [{"url": slug} for slug in ("..", ".", "../../etc", "%2e%2e", "a\0b", "/en/../x", "", 7)]
    with archive(WORKS, **SMALL, claimed=10_000) as site:
        site.bodies[ALPHABET] = json.dumps([*json.loads(site.body(ALPHABET)[1]), *hostile]).encode()
        assert len(ask(site).works) == 420
        assert not [
            request.path for request in site.requests if ".." in request.path or "%00" in request.path
        ]
