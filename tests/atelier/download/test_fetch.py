"""Fetching one work: the smallest variant that is large enough, never a wrong one, or the reason for none."""

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
from atelier.download.fetch import Outcome, arrival_key, fetch_work, is_temporary_failure
from atelier.download.sources import SiteSource
from atelier.images.verify import ImageLimits, read_rgb
from atelier.web.client import PoliteClient
from tests.downloads import run_download
from tests.lookalike import ERROR_PAGE, PLACEHOLDER, VARIANTS, Offer, Site, lookalike
from tests.pictures import encoded

LIMITS = Limits(ImageLimits(min_side_px=64, max_pixels=10_000_000), max_bytes=5_000_000, size_px=128)
ALL = dict.fromkeys(VARIANTS, "good")


@cache
def painting(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG with about as many bytes as a scan of that size: broad forms, and the texture of a canvas."""
    rng = np.random.default_rng(seed)
    forms = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    strokes = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8))
    return encoded(Image.blend(forms, strokes.resize((width, height)), 0.3), "JPEG", quality=85)


def offer(variants: Mapping[str, str] = ALL, size: tuple[int, int] = (1000, 800), **changes: Any) -> Offer:
    return Offer(id="a" * 24, width=size[0], height=size[1], image=painting(*size), variants=variants, **changes)


def work_of(offer: Offer, site: Site, **changes: Any) -> Work:
    work = Work(
        id=offer.id, title=offer.title, artist=offer.artist, artist_slug=offer.artist_slug, year_text="", year=None,
        genre="", style="", width=offer.width, height=offer.height, image_url=site.url_of(offer), page_url="",
        rights="unknown", source="wikiart",
    )  # fmt: skip
    return replace(work, **changes)


@contextmanager
def source_of(site: Site) -> Iterator[SiteSource]:
    with PoliteClient(site.base_url, contact="", rate_per_s=None, retries=1, timeout_s=5.0, backoff_s=0.01) as client:
        yield SiteSource(client, LIMITS.max_bytes)


def fetched(
    offer: Offer, limits: Limits = LIMITS, fail: Mapping[str, list[str]] | None = None, **work: Any
) -> tuple[Outcome, list[str]]:
    """The outcome of one work, and the variants that were requested; the original is ""."""
    with lookalike({"genre/marina": [offer]}) as site, source_of(site) as source:
        for name, behaviours in (fail or {}).items():
            site.fail(site.path_of(offer) + (f"!{name}.jpg" if name else ""), *behaviours)
        outcome = fetch_work(work_of(offer, site, **work), source, limits)
        return outcome, site.variants_asked(offer)


def test_a_small_size_takes_the_smallest_variant_that_is_large_enough() -> None:
    (arrival, is_final), names = fetched(offer())
    assert names == ["PinterestSmall"]
    assert is_final
    assert (arrival.status, arrival.width, arrival.height) == ("ok", 160, 128)
    assert read_rgb(arrival.content).size == (160, 128)
    assert (arrival.came_px, arrival.original_px) == ((210, 168), (1000, 800))


def test_a_larger_size_takes_a_larger_variant_and_the_largest_the_original() -> None:
    assert fetched(offer(), replace(LIMITS, size_px=256))[1] == ["Portrait"]
    assert fetched(offer(), replace(LIMITS, size_px=512))[1] == ["HalfHD"]
    for size_px in (800, 1024, None):
        outcome, names = fetched(offer(), replace(LIMITS, size_px=size_px))
        assert names == [""]
        assert outcome.arrival.content == painting(1000, 800)


@pytest.mark.parametrize("absent", ["404", "401", "403", "400", "451", "placeholder", "dead-id", "html-200",
                                    "truncated-jpeg", "tiny", "cropped", "empty", "bomb", "huge",
                                    "foreign-redirect"])  # fmt: skip
def test_a_missing_or_wrong_variant_is_skipped_for_the_next(absent: str) -> None:
    (arrival, is_final), names = fetched(offer({**ALL, "PinterestSmall": absent}))
    assert list(dict.fromkeys(names)) == ["PinterestSmall", "PinterestLarge"]
    assert (arrival.status, arrival.came_px, is_final) == ("ok", (280, 224), True)


def test_a_work_without_variants_gives_its_original_after_few_requests() -> None:
    (arrival, is_final), names = fetched(offer({}))
    assert names == ["PinterestSmall", "PinterestLarge", "Portrait", ""]
    assert (arrival.status, arrival.came_px, is_final) == ("ok", (1000, 800), True)


def test_after_a_temporary_failure_no_other_variant_is_requested() -> None:
    """Otherwise the bytes would depend on temporary failures."""
    (arrival, is_final), names = fetched(offer(), fail={"PinterestSmall": ["500", "drop"]})
    assert (arrival.status, is_final) == ("error", False)
    assert names == ["PinterestSmall"] * 2
    changing = ["truncated-jpeg", "html-200", "empty"]
    (arrival, is_final), names = fetched(offer(), fail={"PinterestSmall": changing})
    assert (is_final, names) == (False, ["PinterestSmall"] * 3)
    (arrival, is_final), names = fetched(offer(), fail={"PinterestSmall": ["500"]})
    assert (arrival.status, arrival.came_px) == ("ok", (210, 168))


def test_a_damaged_variant_is_fetched_again() -> None:
    (arrival, _), names = fetched(offer(), fail={"PinterestSmall": ["truncated-jpeg"]})
    assert arrival.came_px == (210, 168)
    assert names == ["PinterestSmall"] * 2


def test_an_original_that_is_smaller_than_size_px_is_kept_unchanged() -> None:
    outcome, names = fetched(offer(size=(150, 110)))
    assert names == [""]
    assert outcome.arrival.content == painting(150, 110)


def test_limits_apply_to_the_original_and_not_to_the_variant() -> None:
    strict = replace(LIMITS, image=ImageLimits(min_side_px=600, max_pixels=500_000))
    (arrival, _), names = fetched(offer(), strict)
    assert (arrival.status, names) == (
        "ok",
        ["PinterestSmall"],
    )  # 800 px are enough, and 35,280 pixels not too many
    (arrival, _), names = fetched(offer(size=(700, 500)), strict)
    assert (arrival.status, names) == ("too-small", [""])
    assert "700×500" in arrival.reason
    (arrival, _), names = fetched(offer(size=(700, 500)), strict, width=None)
    assert (arrival.status, names) == ("too-small", [""])


def test_an_arrival_is_found_again_for_the_same_size_only(tmp_path: Path) -> None:
    with lookalike({"genre/marina": [offer({"Portrait": "good"})]}) as site, source_of(site) as source:
        work = work_of(offer(), site)
        key = arrival_key(work, source)
        with Arrivals(tmp_path, LIMITS) as arrivals:
            arrival = fetch_work(work, source, LIMITS).arrival
            arrivals.save(key, arrival)
        for min_side_px, found in ((700, arrival), (900, None), (64, arrival)):  # the original has 800 px
            with Arrivals(tmp_path, replace(LIMITS, image=ImageLimits(min_side_px, 10_000_000))) as arrivals:
                assert arrivals.load(key) == found
        with Arrivals(tmp_path, replace(LIMITS, size_px=256)) as arrivals:
            assert arrivals.load(key) is None


def test_a_second_run_requests_neither_pictures_nor_variants(tmp_path: Path) -> None:
    offers = [
        replace(offer(variants), id=f"{n:024x}", artist=artist, image=painting(1000, 800, seed))
        for n, (variants, artist, seed) in enumerate(
            [
                (ALL, "Monet", 1), ({}, "Turner", 2), ({"Portrait": "good"}, "Turner", 3), (ALL, "Ancher", 4),
                ({}, "Monet", 5), ({}, "Turner", 5), ({}, "Ancher", 5),  # the same placeholder for three paintings
            ]
        )
    ]  # fmt: skip
    with lookalike({"genre/marina": offers}) as site, source_of(site) as source:
        works = [work_of(one, site) for one in offers]
        first = run_download(tmp_path, source, works, LIMITS)
        assert [record.status for record in first.values()] == ["ok"] * 4 + ["placeholder"] * 3
        assert "3 works of 3 artists" in first[offers[4].id].reason
        site.requests.clear()
        with source_of(site) as again:
            assert run_download(tmp_path, again, works, LIMITS) == first
        assert site.requests == []


def test_a_wrong_size_in_the_catalog_costs_requests_and_no_picture() -> None:
    for wrong in ({"width": 800, "height": 1000}, {"width": 20_000, "height": 900}, {"width": None}):
        (arrival, _), names = fetched(offer(), **wrong)
        assert arrival.status == "ok"
        assert (arrival.width, arrival.height) == (160, 128)
        assert len(names) <= 4


def test_if_all_variants_fail_the_reason_is_the_originals() -> None:
    for behaviour, status in (("404", "missing"), ("placeholder", "placeholder"), ("cropped", "ok")):
        (arrival, _), names = fetched(offer(dict.fromkeys(ALL, behaviour), behaviour=behaviour))
        assert arrival.status == status
        assert names[-1] == ""


def test_the_url_of_a_placeholder_is_never_requested() -> None:
    for placeholder_path in (
        PLACEHOLDER,
        "/Content/images/ARTIST-480x600.jpg!Large.jpg",
        "/x/favicon-256x256.png",
    ):
        with lookalike({"genre/marina": [offer()]}) as site, source_of(site) as source:
            outcome = fetch_work(work_of(offer(), site, image_url=site.base_url + placeholder_path), source, LIMITS)
            assert site.requests == []
        assert outcome == Outcome(Arrival("placeholder", outcome.arrival.reason), True)
        assert placeholder_path in outcome.arrival.reason


def test_a_redirect_to_the_error_page_is_missing_and_not_final() -> None:
    with lookalike({"genre/marina": [offer({}, behaviour="dead-id")]}) as site, source_of(site) as source:
        outcome = fetch_work(work_of(offer(), site), source, replace(LIMITS, size_px=None))
        assert (outcome.arrival.status, outcome.is_final, is_temporary_failure(outcome)) == (
            "missing",
            False,
            False,
        )
        assert ERROR_PAGE in outcome.arrival.reason and len(site.requests) == 1


def test_a_geo_block_is_a_refusal_with_its_reason() -> None:
    (arrival, is_final), _ = fetched(offer({}, behaviour="451"))
    assert (arrival.status, is_final) == ("refused", False)
    assert "HTTP 451" in arrival.reason and "geo-block" in arrival.reason


def test_a_128_px_data_set_costs_a_fifth_of_the_originals_bytes() -> None:
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
                assert fetch_work(work_of(one, site), source, replace(LIMITS, size_px=size_px)).arrival.status == "ok"
            sent[size_px] = sum(count for path, count in site.sent_bytes.items() if "/images/" in path)
    assert sent[128] < 0.2 * sent[None]
