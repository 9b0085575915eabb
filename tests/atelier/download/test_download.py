"""Every good painting arrives, nothing bad does, and what has arrived is never asked for again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.data.catalog import STATUSES, Work
from atelier.download.arrivals import Arrivals
from atelier.download.download import kept_items
from atelier.download.engines import PATIENCE, Threads
from atelier.download.sources import Site as SiteSource
from atelier.download.sources import SiteOpening
from atelier.errors import AtelierError
from atelier.images.verify import read_rgb
from tests.downloads import LIMITS, bring, bring_from, offers, source_of, work, works_of
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


def test_every_good_painting_arrives_nothing_bad_does_and_the_counts_add_up(tmp_path: Path) -> None:
    good = [
        replace(offer, faults=GOOD_IN_THE_END[n % len(GOOD_IN_THE_END)]) for n, offer in enumerate(offers(48))
    ]
    bad = [
        replace(offer, id=f"{1000 + n:024x}", behaviour=behaviour)
        for n, (offer, behaviour) in enumerate(zip(offers(len(NEVER_GOOD)), NEVER_GOOD, strict=True))
    ]
    with lookalike({"genre/marina": [*good, *bad]}) as site:
        entries = bring_from(tmp_path, site)
    assert len(entries) == len(good) + len(bad)
    for offer in good:
        entry = entries[offer.id]
        assert (entry.status, entry.width, entry.height, entry.bytes) == ("ok", 96, 64, len(offer.image)), (
            entry
        )
    for offer in bad:
        entry = entries[offer.id]
        assert entry.status == NEVER_GOOD[offer.behaviour], (offer.behaviour, entry)
        assert entry.reason
        assert entry.sha256 is entry.phash is entry.width is entry.height is entry.bytes is None
    assert set(Counter(entry.status for entry in entries.values())) <= set(STATUSES)


def test_what_arrives_is_kept_as_the_bytes_that_came(tmp_path: Path) -> None:
    offered = offers(5)
    with lookalike({"genre/marina": offered}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in offered]
        with source_of(site) as source:
            entries = list(bring(tmp_path, source, works).values())
            with Arrivals(tmp_path, LIMITS) as arrivals:
                items = list(kept_items(works, entries, source, arrivals))
    assert [(item.name, item.content) for item in items] == [(f"{o.id}.jpg", o.image) for o in offered]


def test_a_second_run_asks_for_nothing_that_is_settled(tmp_path: Path) -> None:
    lasting = ["404", "truncated-jpeg", "html-200", "empty", "wrong-type", "placeholder", "bomb", "huge"]
    bad = [replace(o, id=f"f{n:023x}", behaviour=lasting[n]) for n, o in enumerate(offers(len(lasting)))]
    with lookalike({"genre/marina": [*offers(20), *bad]}) as site:
        first = bring_from(tmp_path, site)
        site.requests.clear()
        assert bring_from(tmp_path, site) == first
        assert site.requests == []


def test_a_work_that_failed_for_the_sites_sake_is_asked_for_again(tmp_path: Path) -> None:
    offered = offers(6)
    with lookalike({"genre/marina": offered}) as site:
        for offer, trouble in zip(offered[:3], ("500", "403", "drop"), strict=True):
            site.fail(site.path_of(offer), *[trouble] * 5)
        first = bring_from(tmp_path, site)
        assert Counter(entry.status for entry in first.values()) == {"ok": 3, "error": 2, "refused": 1}
        site._faults.clear()
        site.requests.clear()
        second = bring_from(tmp_path, site)
        assert {entry.status for entry in second.values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(offer) for offer in offered[:3]}


@pytest.mark.parametrize("trouble", ["html-200", "empty"])
def test_a_site_that_shows_one_page_in_the_place_of_all_pictures_for_a_while_loses_none(
    tmp_path: Path, trouble: str
) -> None:
    offered = offers(30)

    def bring_one_by_one(site: Site) -> Counter[str]:
        with source_of(site) as source:
            entries = bring(tmp_path, source, works_of(site), engine=Threads(source, LIMITS, 1))
        return Counter(entry.status for entry in entries.values())

    with lookalike({"genre/marina": offered}) as site:
        for offer in offered[10:20]:
            site.fail(site.path_of(offer), *[trouble] * 2)
        assert bring_one_by_one(site) == {"ok": 20, "not-an-image": 10}
        assert bring_one_by_one(site) == {"ok": 30}


def test_a_site_that_shows_nothing_but_a_page_is_asked_again(tmp_path: Path) -> None:
    with lookalike({"genre/marina": offers(3)}) as site:
        for offer in site.lists["genre/marina"]:
            site.fail(site.path_of(offer), *["html-200"] * 2)
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"not-an-image"}
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"ok"}


def test_a_challenge_page_that_changes_each_time_is_not_held_against_the_painting(tmp_path: Path) -> None:
    offer = offers(1)[0]

    class Challenging(SiteSource):
        looks = 0

        def fetch(self, work: Work) -> Any:
            self.looks += 1
            page = f"<html>Just a moment, visitor {self.looks}</html>".encode()
            return replace(super().fetch(work), content=page)

    with lookalike({"genre/marina": [offer]}) as site, source_of(site) as plain:
        works = [work(offer.id, site.url_of(offer))]
        challenging = Challenging(plain.client, plain.max_bytes)
        assert bring(tmp_path, challenging, works)[offer.id].status == "not-an-image"
        assert challenging.looks == 3
        with source_of(site) as again:
            assert bring(tmp_path, again, works)[offer.id].status == "ok"


def test_a_site_that_refuses_everyone_is_left_alone_and_what_has_arrived_is_kept(tmp_path: Path) -> None:
    with lookalike({"genre/marina": [replace(o, behaviour="403") for o in offers(4 * PATIENCE)]}) as site:
        with pytest.raises(AtelierError, match=rf"failed {PATIENCE} works in a row.*403.*kept"):
            bring_from(tmp_path, site)
        assert len(site.requests) < 2 * PATIENCE


def test_identical_bytes_are_duplicates_of_the_first_id(tmp_path: Path) -> None:
    one, two, three = offers(3)
    with lookalike(
        {"genre/marina": [replace(three, image=one.image), replace(two, image=one.image), one]}
    ) as site:
        entries = bring_from(tmp_path, site)
    assert [entries[offer.id].status for offer in (one, two, three)] == ["ok", "duplicate", "duplicate"]
    assert one.id in entries[three.id].reason
    assert entries[two.id].sha256 == entries[one.id].sha256


def test_larger_pictures_are_kept_smaller_and_smaller_ones_as_they_are(tmp_path: Path) -> None:
    large, small = offers(2)
    large = replace(large, image=encoded(Image.effect_noise((300, 200), 60).convert("CMYK"), "TIFF"))
    limits = replace(LIMITS, size_px=100)
    with lookalike({"genre/marina": [large, small]}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in (large, small)]
        with source_of(site) as source:
            entries = bring(tmp_path, source, works, limits)
            with Arrivals(tmp_path, limits) as arrivals:
                items = list(kept_items(works, list(entries.values()), source, arrivals))
    assert (entries[large.id].width, entries[large.id].height) == (150, 100)
    assert items[0].extension == "jpg"
    assert entries[large.id].bytes == len(items[0].content)
    assert read_rgb(items[0].content).size == (150, 100)
    assert items[1].content == small.image


def test_what_failed_is_asked_for_again_one_by_one_at_a_quarter_of_the_rate(tmp_path: Path) -> None:
    offered = offers(40)
    with lookalike({"genre/marina": offered}) as site:
        for offer in offered[:8]:
            site.fail(site.path_of(offer), "500")
        opening = SiteOpening(site.base_url, "", 32.0, retries=0, timeout_s=5.0, max_bytes=LIMITS.max_bytes)
        works = [work(offer.id, site.url_of(offer)) for offer in offered]
        with source_of(site, retries=0) as source:
            entries = bring(tmp_path, source, works, opening=opening)
        times = [
            request.time_s for request in site.requests if request.path in map(site.path_of, offered[:8])
        ]
    assert {entry.status for entry in entries.values()} == {"ok"}
    assert times[-1] - times[-8] > 7 / 8 * 0.95
