"""One work: the smallest copy that suffices, never a wrong one, and the reason where there is none."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.data.catalog import Work
from atelier.download.arrivals import Arrival, Arrivals, Limits
from atelier.download.fetch import Answer, ask, key_of, may_pass
from atelier.download.sources import Site as SiteSource
from atelier.images.verify import ImageLimits, read_rgb
from atelier.web.client import PoliteClient
from tests.downloads import bring
from tests.lookalike import ERROR_PAGE, PLACEHOLDER, VARIANTS, Offer, Site, lookalike
from tests.pictures import encoded

LIMITS = Limits(ImageLimits(min_side_px=64, max_pixels=10_000_000), max_bytes=5_000_000, size_px=128)
ALL = dict.fromkeys(VARIANTS, "good")


@cache
def painting(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG with the bytes a scan of that size has: broad forms, and a canvas's grain."""
    rng = np.random.default_rng(seed)
    forms = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    strokes = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8))
    return encoded(Image.blend(forms, strokes.resize((width, height)), 0.3), "JPEG", quality=85)


def offer(variants: Mapping[str, str] = ALL, size: tuple[int, int] = (1000, 800), **changes: Any) -> Offer:
    return Offer(
        id="a" * 24, width=size[0], height=size[1], image=painting(*size), variants=variants, **changes
    )


def work_of(offer: Offer, site: Site, **changes: Any) -> Work:
    work = Work(
        id=offer.id, title=offer.title, artist=offer.artist, artist_slug=offer.artist_slug, year_text="", year=None,
        genre="", style="", width=offer.width, height=offer.height, image_url=site.url_of(offer), page_url="",
        rights="unknown", source="wikiart",
    )  # fmt: skip
    return replace(work, **changes)


@contextmanager
def source_of(site: Site) -> Iterator[SiteSource]:
    with PoliteClient(
        site.base_url, contact="", rate_per_s=None, retries=1, timeout_s=5.0, backoff_s=0.01
    ) as client:
        yield SiteSource(client, LIMITS.max_bytes)


def asked(
    offer: Offer, limits: Limits = LIMITS, fail: Mapping[str, list[str]] | None = None, **work: Any
) -> tuple[Answer, list[str]]:
    """What one work gave, and which variants were asked for on the way; the original is ""."""
    with lookalike({"genre/marina": [offer]}) as site, source_of(site) as source:
        for name, behaviours in (fail or {}).items():
            site.fail(site.path_of(offer) + (f"!{name}.jpg" if name else ""), *behaviours)
        answer = ask(work_of(offer, site, **work), source, limits)
        return answer, site.variants_asked(offer)


def test_a_small_set_takes_the_smallest_copy_that_suffices() -> None:
    (arrival, lasts), names = asked(offer())
    assert names == ["PinterestSmall"]
    assert lasts
    assert (arrival.status, arrival.width, arrival.height) == ("ok", 160, 128)
    assert read_rgb(arrival.content).size == (160, 128)
    assert (arrival.came_px, arrival.original_px) == ((210, 168), (1000, 800))


def test_a_larger_set_takes_a_larger_copy_and_the_largest_the_original() -> None:
    assert asked(offer(), replace(LIMITS, size_px=256))[1] == ["Portrait"]
    assert asked(offer(), replace(LIMITS, size_px=512))[1] == ["HalfHD"]
    for size_px in (800, 1024, None):
        answer, names = asked(offer(), replace(LIMITS, size_px=size_px))
        assert names == [""]
        assert answer.arrival.content == painting(1000, 800)


@pytest.mark.parametrize("absent", ["404", "401", "403", "400", "451", "placeholder", "dead-id", "html-200",
                                    "truncated-jpeg", "tiny", "cropped", "empty", "bomb", "huge",
                                    "foreign-redirect"])  # fmt: skip
def test_a_copy_that_is_absent_or_none_is_passed_over_for_the_next(absent: str) -> None:
    (arrival, lasts), names = asked(offer({**ALL, "PinterestSmall": absent}))
    assert list(dict.fromkeys(names)) == ["PinterestSmall", "PinterestLarge"]
    assert (arrival.status, arrival.came_px, lasts) == ("ok", (280, 224), True)


def test_a_work_without_copies_gives_its_original_after_few_requests() -> None:
    (arrival, lasts), names = asked(offer({}))
    assert names == ["PinterestSmall", "PinterestLarge", "Portrait", ""]
    assert (arrival.status, arrival.came_px, lasts) == ("ok", (1000, 800), True)


def test_a_site_in_trouble_is_not_asked_for_another_copy() -> None:
    """Else the bytes would depend on its mood."""
    (arrival, lasts), names = asked(offer(), fail={"PinterestSmall": ["500", "drop"]})
    assert (arrival.status, lasts) == ("error", False)
    assert names == ["PinterestSmall"] * 2
    changing = ["truncated-jpeg", "html-200", "empty"]
    (arrival, lasts), names = asked(offer(), fail={"PinterestSmall": changing})
    assert (lasts, names) == (False, ["PinterestSmall"] * 3)
    (arrival, lasts), names = asked(offer(), fail={"PinterestSmall": ["500"]})
    assert (arrival.status, arrival.came_px) == ("ok", (210, 168))


def test_a_damaged_copy_may_be_the_sites_bad_moment() -> None:
    (arrival, _), names = asked(offer(), fail={"PinterestSmall": ["truncated-jpeg"]})
    assert arrival.came_px == (210, 168)
    assert names == ["PinterestSmall"] * 2


def test_an_original_that_is_smaller_than_asked_is_kept_as_it_is() -> None:
    answer, names = asked(offer(size=(150, 110)))
    assert names == [""]
    assert answer.arrival.content == painting(150, 110)


def test_what_is_asked_of_a_picture_is_asked_of_the_original() -> None:
    strict = replace(LIMITS, image=ImageLimits(min_side_px=600, max_pixels=500_000))
    (arrival, _), names = asked(offer(), strict)
    assert (arrival.status, names) == (
        "ok",
        ["PinterestSmall"],
    )  # 800 px are enough, and 35,280 pixels not too many
    (arrival, _), names = asked(offer(size=(700, 500)), strict)
    assert (arrival.status, names) == ("too-small", [""])
    assert "700×500" in arrival.reason
    (arrival, _), names = asked(offer(size=(700, 500)), strict, width=None)
    assert (arrival.status, names) == ("too-small", [""])


def test_what_arrived_for_one_size_is_found_again_for_that_size_alone(tmp_path: Path) -> None:
    with lookalike({"genre/marina": [offer({"Portrait": "good"})]}) as site, source_of(site) as source:
        work = work_of(offer(), site)
        key = key_of(work, source)
        with Arrivals(tmp_path, LIMITS) as arrivals:
            arrival = ask(work, source, LIMITS).arrival
            arrivals.save(key, arrival)
        for min_side_px, found in ((700, arrival), (900, None), (64, arrival)):  # the original has 800 px
            with Arrivals(tmp_path, replace(LIMITS, image=ImageLimits(min_side_px, 10_000_000))) as arrivals:
                assert arrivals.load(key) == found
        with Arrivals(tmp_path, replace(LIMITS, size_px=256)) as arrivals:
            assert arrivals.load(key) is None


def test_a_second_run_asks_neither_for_a_picture_nor_for_a_copy_known_absent(tmp_path: Path) -> None:
    offers = [
        replace(offer(variants), id=f"{n:024x}", artist=artist, image=painting(1000, 800, seed))
        for n, (variants, artist, seed) in enumerate(
            [
                (ALL, "Monet", 1), ({}, "Turner", 2), ({"Portrait": "good"}, "Turner", 3), (ALL, "Ancher", 4),
                ({}, "Monet", 5), ({}, "Turner", 5), ({}, "Ancher", 5),  # a frame in three paintings' place
            ]
        )
    ]  # fmt: skip
    with lookalike({"genre/marina": offers}) as site, source_of(site) as source:
        works = [work_of(one, site) for one in offers]
        first = bring(tmp_path, source, works, LIMITS)
        assert [entry.status for entry in first.values()] == ["ok"] * 4 + ["placeholder"] * 3
        assert "3 works of 3 artists" in first[offers[4].id].reason
        site.requests.clear()
        with source_of(site) as again:
            assert bring(tmp_path, again, works, LIMITS) == first
        assert site.requests == []


def test_a_catalog_that_is_wrong_about_the_size_costs_requests_and_no_picture() -> None:
    for wrong in ({"width": 800, "height": 1000}, {"width": 20_000, "height": 900}, {"width": None}):
        (arrival, _), names = asked(offer(), **wrong)
        assert arrival.status == "ok"
        assert (arrival.width, arrival.height) == (160, 128)
        assert len(names) <= 4


def test_where_all_fails_the_originals_reason_is_given() -> None:
    for behaviour, status in (("404", "missing"), ("placeholder", "placeholder"), ("cropped", "ok")):
        (arrival, _), names = asked(offer(dict.fromkeys(ALL, behaviour), behaviour=behaviour))
        assert arrival.status == status
        assert names[-1] == ""


def test_an_address_that_is_a_stand_ins_own_is_never_asked_for() -> None:
    for stand_in in (PLACEHOLDER, "/Content/images/ARTIST-480x600.jpg!Large.jpg", "/x/favicon-256x256.png"):
        with lookalike({"genre/marina": [offer()]}) as site, source_of(site) as source:
            answer = ask(work_of(offer(), site, image_url=site.base_url + stand_in), source, LIMITS)
            assert site.requests == []
        assert answer == Answer(Arrival("placeholder", answer.arrival.reason), True)
        assert stand_in in answer.arrival.reason


def test_a_picture_that_leads_to_the_sites_error_page_is_missing_until_it_is_asked_for_again() -> None:
    with lookalike({"genre/marina": [offer({}, behaviour="dead-id")]}) as site, source_of(site) as source:
        answer = ask(work_of(offer(), site), source, replace(LIMITS, size_px=None))
        assert (answer.arrival.status, answer.lasts, may_pass(answer)) == ("missing", False, False)
        assert ERROR_PAGE in answer.arrival.reason and len(site.requests) == 1


def test_a_geo_block_is_a_refusal_that_says_so() -> None:
    (arrival, lasts), _ = asked(offer({}, behaviour="451"))
    assert (arrival.status, lasts) == ("refused", False)
    assert "HTTP 451" in arrival.reason and "geo-block" in arrival.reason


def test_a_128_px_set_costs_a_fifth_of_the_originals_bytes() -> None:
    sizes = [
        (1000, 800),
        (750, 1000),
        (634, 750),
        (1200, 500),
        (900, 900),
        (600, 480),
        (1400, 1000),
        (800, 640),
    ]
    offers = [
        replace(offer(size=size), id=f"{n:024x}", image=painting(*size, seed=n), variants=dict(ALL))
        for n, size in enumerate(sizes)
    ]
    sent = {}
    with lookalike({"genre/marina": offers}) as site, source_of(site) as source:
        for size_px in (128, None):
            site.sent_bytes.clear()
            for one in offers:
                assert (
                    ask(work_of(one, site), source, replace(LIMITS, size_px=size_px)).arrival.status == "ok"
                )
            sent[size_px] = sum(count for path, count in site.sent_bytes.items() if "/images/" in path)
    assert sent[128] < 0.2 * sent[None]
