"""A download: good pictures arrive, bad ones do not, and nothing is fetched twice."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.data.catalog import STATUSES, Work
from atelier.download.arrivals import Arrivals
from atelier.download.download import shard_items
from atelier.download.engines import MAX_FAILURES_IN_A_ROW, Threads
from atelier.download.sources import SiteSource, SiteSpec
from atelier.errors import AtelierError
from atelier.images.verify import read_rgb
from tests.downloads import LIMITS, download_site, offers, run_download, source_of, work, works_of
from tests.lookalike import Site, lookalike
from tests.pictures import encoded

GOOD_IN_THE_END = [
    (), ("429",), ("500", "503"), ("drop",), ("truncate",), ("429", "drop", "truncate", "500"), ("redirect",),
    ("truncated-jpeg",), ("html-200",), ("empty",), ("wrong-type",), ("html-200", "truncated-jpeg"),
]  # fmt: skip
NEVER_GOOD = {
    "404": "missing",
    "403": "refused",
    "foreign-redirect": "refused",
    "redirect-loop": "refused",
    "500": "error",
    "truncate": "error",
    "truncated-jpeg": "truncated",
    "html-200": "not-an-image",
    "empty": "not-an-image",
    "wrong-type": "not-an-image",
    "placeholder": "placeholder",
    "bomb": "too-large",
    "gzip-bomb": "too-large",
    "huge": "too-large",
    "endless": "too-large",
}


def test_good_pictures_arrive_bad_ones_do_not_and_the_counts_add_up(tmp_path: Path) -> None:
    good = [replace(offer, faults=GOOD_IN_THE_END[n % len(GOOD_IN_THE_END)]) for n, offer in enumerate(offers(48))]
    bad = [
        replace(offer, id=f"{1000 + n:024x}", behaviour=behaviour)
        for n, (offer, behaviour) in enumerate(zip(offers(len(NEVER_GOOD)), NEVER_GOOD, strict=True))
    ]
    with lookalike({"genre/marina": [*good, *bad]}) as site:
        records = download_site(tmp_path, site)
    assert len(records) == len(good) + len(bad)
    for offer in good:
        record = records[offer.id]
        assert (record.status, record.width, record.height, record.bytes) == (
            "ok",
            96,
            64,
            len(offer.image),
        ), record
    for offer in bad:
        record = records[offer.id]
        assert record.status == NEVER_GOOD[offer.behaviour], (offer.behaviour, record)
        assert record.reason
        assert record.sha256 is record.phash is record.width is record.height is record.bytes is None
    assert set(Counter(record.status for record in records.values())) <= set(STATUSES)


def test_pictures_are_kept_as_the_bytes_that_came(tmp_path: Path) -> None:
    offered = offers(5)
    with lookalike({"genre/marina": offered}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in offered]
        with source_of(site) as source:
            records = list(run_download(tmp_path, source, works).values())
            with Arrivals(tmp_path, LIMITS) as arrivals:
                items = list(shard_items(works, records, source, arrivals))
    assert [(item.name, item.content) for item in items] == [(f"{o.id}.jpg", o.image) for o in offered]


def test_a_second_run_requests_nothing_that_is_final(tmp_path: Path) -> None:
    lasting = ["404", "truncated-jpeg", "html-200", "empty", "wrong-type", "placeholder", "bomb", "huge"]
    bad = [replace(o, id=f"f{n:023x}", behaviour=lasting[n]) for n, o in enumerate(offers(len(lasting)))]
    with lookalike({"genre/marina": [*offers(20), *bad]}) as site:
        first = download_site(tmp_path, site)
        site.requests.clear()
        assert download_site(tmp_path, site) == first
        assert site.requests == []


def test_a_work_that_the_site_failed_to_give_is_requested_again(tmp_path: Path) -> None:
    offered = offers(6)
    with lookalike({"genre/marina": offered}) as site:
        for offer, trouble in zip(offered[:3], ("500", "403", "drop"), strict=True):
            site.fail(site.path_of(offer), *[trouble] * 5)
        first = download_site(tmp_path, site)
        assert Counter(record.status for record in first.values()) == {"ok": 3, "error": 2, "refused": 1}
        site._faults.clear()
        site.requests.clear()
        second = download_site(tmp_path, site)
        assert {record.status for record in second.values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(offer) for offer in offered[:3]}


@pytest.mark.parametrize("trouble", ["html-200", "empty"])
def test_pages_in_place_of_pictures_for_a_while_lose_no_picture(tmp_path: Path, trouble: str) -> None:
    offered = offers(30)

    def statuses(site: Site) -> Counter[str]:
        with source_of(site) as source:
            records = run_download(tmp_path, source, works_of(site), engine=Threads(source, LIMITS, 1))
        return Counter(record.status for record in records.values())

    with lookalike({"genre/marina": offered}) as site:
        for offer in offered[10:20]:
            site.fail(site.path_of(offer), *[trouble] * 2)
        assert statuses(site) == {"ok": 20, "not-an-image": 10}
        assert statuses(site) == {"ok": 30}


def test_a_site_that_shows_only_pages_is_requested_again(tmp_path: Path) -> None:
    with lookalike({"genre/marina": offers(3)}) as site:
        for offer in site.lists["genre/marina"]:
            site.fail(site.path_of(offer), *["html-200"] * 2)
        assert {record.status for record in download_site(tmp_path, site).values()} == {"not-an-image"}
        assert {record.status for record in download_site(tmp_path, site).values()} == {"ok"}


def test_a_page_that_changes_with_each_request_is_not_final(tmp_path: Path) -> None:
    offer = offers(1)[0]

    class ChangingPage(SiteSource):
        looks = 0

        def fetch(self, work: Work) -> Any:
            self.looks += 1
            page = f"<html>Just a moment, visitor {self.looks}</html>".encode()
            return replace(super().fetch(work), content=page)

    with lookalike({"genre/marina": [offer]}) as site, source_of(site) as plain:
        works = [work(offer.id, site.url_of(offer))]
        changing = ChangingPage(plain.client, plain.max_bytes)
        assert run_download(tmp_path, changing, works)[offer.id].status == "not-an-image"
        assert changing.looks == 3
        with source_of(site) as again:
            assert run_download(tmp_path, again, works)[offer.id].status == "ok"


def test_after_many_refusals_in_a_row_the_download_stops_and_keeps_what_has_arrived(tmp_path: Path) -> None:
    with lookalike({"genre/marina": [replace(o, behaviour="403") for o in offers(4 * MAX_FAILURES_IN_A_ROW)]}) as site:
        with pytest.raises(AtelierError, match=rf"failed {MAX_FAILURES_IN_A_ROW} works in a row.*403.*kept"):
            download_site(tmp_path, site)
        assert len(site.requests) < 2 * MAX_FAILURES_IN_A_ROW


def test_works_with_identical_bytes_are_duplicates_of_the_first_id(tmp_path: Path) -> None:
    one, two, three = offers(3)
    with lookalike({"genre/marina": [replace(three, image=one.image), replace(two, image=one.image), one]}) as site:
        records = download_site(tmp_path, site)
    assert [records[offer.id].status for offer in (one, two, three)] == ["ok", "duplicate", "duplicate"]
    assert one.id in records[three.id].reason
    assert records[two.id].sha256 == records[one.id].sha256


def test_larger_pictures_are_reduced_and_smaller_ones_kept_unchanged(tmp_path: Path) -> None:
    large, small = offers(2)
    large = replace(large, image=encoded(Image.effect_noise((300, 200), 60).convert("CMYK"), "TIFF"))
    limits = replace(LIMITS, size_px=100)
    with lookalike({"genre/marina": [large, small]}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in (large, small)]
        with source_of(site) as source:
            records = run_download(tmp_path, source, works, limits)
            with Arrivals(tmp_path, limits) as arrivals:
                items = list(shard_items(works, list(records.values()), source, arrivals))
    assert (records[large.id].width, records[large.id].height) == (150, 100)
    assert items[0].extension == "jpg"
    assert records[large.id].bytes == len(items[0].content)
    assert read_rgb(items[0].content).size == (150, 100)
    assert items[1].content == small.image


def test_failed_works_are_fetched_again_one_by_one_at_a_quarter_of_the_rate(tmp_path: Path) -> None:
    offered = offers(40)
    with lookalike({"genre/marina": offered}) as site:
        for offer in offered[:8]:
            site.fail(site.path_of(offer), "500")
        spec = SiteSpec(site.base_url, "", 32.0, retries=0, timeout_s=5.0, max_bytes=LIMITS.max_bytes)
        works = [work(offer.id, site.url_of(offer)) for offer in offered]
        with source_of(site, retries=0) as source:
            records = run_download(tmp_path, source, works, spec=spec)
        times = [request.time_s for request in site.requests if request.path in map(site.path_of, offered[:8])]
    assert {record.status for record in records.values()} == {"ok"}
    assert times[-1] - times[-8] > 7 / 8 * 0.95
