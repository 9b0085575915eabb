"""Which of WikiArt's variants of an image are requested."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.data.catalog import Work
from atelier.download.sources import image_urls, is_smaller_copy
from atelier.wikiart.formats import parse_list_page

URL = "https://uploads3.wikiart.org/images/claude-monet/the-sea-1887(1).jpg"
WORK = Work(
    id="a", title="The Sea", artist="Claude Monet", artist_slug="claude-monet", year_text="", year=None, genre="",
    style="", width=1200, height=1000, image_url=URL, page_url="", rights="unknown", source="wikiart",
)  # fmt: skip


def names(work: Work, size_px: int | None, min_side_px: int = 64) -> list[str]:
    """The suffixes of the URLs in order; the original's is ""."""
    urls = image_urls(work, size_px, min_side_px)
    assert urls[-1] == work.image_url
    for url in urls:
        assert url.startswith(work.image_url)
    return [url.removeprefix(work.image_url) for url in urls]


def test_the_smallest_large_enough_variant_comes_first_and_the_original_last() -> None:
    assert names(WORK, 128) == ["!PinterestSmall.jpg", "!PinterestLarge.jpg", "!Portrait.jpg", ""]
    assert names(WORK, 256) == ["!Portrait.jpg", "!Blog.jpg", "!Large.jpg", ""]
    assert names(WORK, 512) == ["!HalfHD.jpg", ""]  # HD would be the original's own size
    assert names(replace(WORK, width=2400, height=2000), 512) == ["!HalfHD.jpg", "!HD.jpg", ""]
    assert names(WORK, 1000) == [""]


def test_a_wide_picture_needs_a_larger_variant() -> None:
    assert names(replace(WORK, width=1200, height=400), 128)[0] == "!Portrait.jpg"
    assert names(replace(WORK, width=400, height=1200), 128)[0] == "!PinterestSmall.jpg"  # 210 wide, 630 high


def test_no_variant_is_larger_than_the_original() -> None:
    assert names(replace(WORK, width=300, height=250), 200) == ["!PinterestLarge.jpg", ""]
    assert names(replace(WORK, width=200, height=150), 128) == [""]
    assert names(replace(WORK, width=130, height=120), 128) == [""]


def test_without_a_size_in_the_catalog_a_usual_aspect_ratio_is_assumed() -> None:
    for unknown in ({"width": None}, {"height": None}, {"width": 0}, {"height": -5}):
        assert names(replace(WORK, **unknown), 128)[0] == "!PinterestSmall.jpg"  # type: ignore[arg-type]
    assert names(replace(WORK, width=None), 512) == ["!HalfHD.jpg", "!HD.jpg", ""]


def test_no_variant_is_used_if_the_original_may_be_too_small() -> None:
    assert names(replace(WORK, width=500, height=400), 128, min_side_px=512) == [""]
    assert names(WORK, 128, min_side_px=512) == names(WORK, 128)
    assert names(replace(WORK, width=None), 128, min_side_px=512) == [""]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "gallery"}, {"source": "folder"}, {"image_url": "gallery:/images/a.jpg"}, {"image_url": "a/b.jpg"},
        {"image_url": URL + "?x=1"}, {"image_url": URL + "#x"}, {"image_url": URL + "!Large.jpg"},
    ],
)  # fmt: skip
def test_only_plain_addresses_of_wikiart_have_variants(changes: dict[str, str]) -> None:
    assert names(replace(WORK, **changes), 128) == [""]  # type: ignore[arg-type]


def test_pictures_kept_as_they_came_are_the_originals() -> None:
    assert names(WORK, None) == [""]


# of the records' `map`: which place stands for which copy
PLACES = {
    3: "Portrait",
    0: "Blog",
    1: "Large",
    4: "HalfHD",
    5: "HD",
    6: "PinterestSmall",
    7: "PinterestLarge",
}


@pytest.mark.parametrize("size_px", [64, 128, 256, 384, 512, 640, 800])
def test_no_copy_is_asked_for_that_the_real_records_say_is_absent(wikiart_samples: Path, size_px: int) -> None:
    text = (wikiart_samples / "list_records_socialist-realism.json").read_text(encoding="utf-8")
    maps = {record["id"]: record["map"] for record in json.loads(text)}
    page = parse_list_page(b'{"Paintings": ' + text.encode() + b"}", "https://www.wikiart.org")
    copies = 0
    for work in page.records:
        assert isinstance(work, Work)
        present = {name for place, name in PLACES.items() if maps[work.id][place] != "*"}
        asked = {address.rpartition("!")[2].removesuffix(".jpg") for address in image_urls(work, size_px, 64)[:-1]}
        assert asked <= present
        copies += bool(asked)
    assert copies > (100 if size_px > 256 else 400)


def test_a_copy_has_the_originals_shape_and_no_more_pixels() -> None:
    assert is_smaller_copy((210, 175), (1200, 1000))
    assert is_smaller_copy((210, 176), (1200, 1000))
    assert is_smaller_copy((210, 21), (10_001, 1000))
    assert not is_smaller_copy((210, 210), (1200, 1000))
    assert not is_smaller_copy((105, 175), (1200, 1000))
    assert not is_smaller_copy((2400, 2000), (1200, 1000))
    assert is_smaller_copy((600, 480), None)
