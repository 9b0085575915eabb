"""Pictures with the same bytes, look-alikes, and groups of near-duplicates."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from atelier.data.catalog import DownloadRecord, Work
from atelier.data.duplicates import (
    LOOK_ALIKE_BITS,
    LookAlike,
    Picture,
    find_look_alikes,
    group_near_duplicates,
    mark_duplicates,
)
from atelier.gallery.painter import paint
from atelier.images.verify import ImageLimits, Verified, verify
from tests.pictures import encoded


def picture(id: str, phash: int, width: int = 400, height: int = 300) -> Picture:
    return Picture(id, width, height, f"{phash:016x}")


def seen(id: str, image: Image.Image) -> Picture:
    """Return the picture as the download records it."""
    verdict = verify(encoded(image.convert("RGB"), "JPEG", quality=85), ImageLimits(32, 10**8))
    assert isinstance(verdict, Verified)
    return Picture(id, verdict.width, verdict.height, verdict.phash)


def test_another_scan_of_a_painting_looks_like_the_largest_one() -> None:
    scene = paint(1, 7, 320)
    trimmed = scene.crop((2, 2, scene.width - 1, scene.height - 1))
    scans = [
        seen("a-small", scene.resize((scene.width // 2, scene.height // 2))),
        seen("b-large", scene),
        seen("c-bright", ImageEnhance.Brightness(scene.resize((280, 280 * scene.height // 320))).enhance(1.1)),
        seen("d-trimmed", trimmed),
        seen("e-another", paint(1, 8, 320)),
    ]
    found = find_look_alikes(scans)
    assert {id: other.id for id, other in found.items()} == {
        "a-small": "b-large", "c-bright": "b-large", "d-trimmed": "b-large",
    }  # fmt: skip
    assert all(other.bits <= LOOK_ALIKE_BITS for other in found.values())


def test_of_equal_pictures_the_one_with_the_smallest_id_is_kept() -> None:
    assert find_look_alikes([picture("b", 0b11), picture("a", 0)]) == {"b": LookAlike("a", 2)}


def test_a_look_alike_is_close_to_the_kept_picture_itself() -> None:
    chain = [picture(f"{n}", 2 ** (4 * n) - 1) for n in range(10)]  # each 4 bits from the next
    found = find_look_alikes(chain)
    assert found == {f"{n}": LookAlike(f"{n - 1}", 4) for n in (1, 3, 5, 7, 9)}


def test_pictures_of_different_shapes_are_no_look_alikes() -> None:
    wide, detail = picture("a", 0, 400, 300), picture("b", 0, 380, 300)
    assert find_look_alikes([wide, detail]) == {}
    assert find_look_alikes([wide, picture("c", 0, 200, 149)]) == {"c": LookAlike("a", 0)}


def test_no_seascapes_of_the_built_in_gallery_are_look_alikes() -> None:
    scenes = [seen(f"{n:03d}", paint(1, n, 160)) for n in range(60)]
    assert find_look_alikes(scenes) == {}
    assert len(group_near_duplicates(scenes)) == 60


def test_no_real_paintings_are_look_alikes(paintings: object) -> None:
    paths = sorted((paintings / "images").glob("*.jpg"))[::20]  # type: ignore[operator]
    assert find_look_alikes([seen(path.stem, Image.open(path)) for path in paths]) == {}


def test_in_a_large_set_every_look_alike_is_close_to_a_larger_kept_picture() -> None:
    rng = np.random.default_rng(5)
    crowd = [
        picture(f"{n:03d}", int(sum(1 << int(bit) for bit in rng.choice(12, 3, replace=False))), *size)
        for n, size in enumerate(rng.integers(300, 320, (300, 2)).tolist())
    ]
    by_id = {one.id: one for one in crowd}
    found = find_look_alikes(crowd)
    assert 0 < len(found) < 300
    for id, other in found.items():
        assert other.id not in found
        assert (int(by_id[id].phash, 16) ^ int(by_id[other.id].phash, 16)).bit_count() == other.bits
        assert by_id[other.id].width * by_id[other.id].height >= by_id[id].width * by_id[id].height
    assert find_look_alikes(crowd[::-1]) == found


def test_near_duplicates_are_grouped_by_way_of_others() -> None:
    hashes = [0, 0b111111, 0b111111111111, 2**63, 2**64 - 1]
    pictures = [picture(f"{n}", value) for n, value in enumerate(hashes)]
    assert [[one.id for one in family] for family in group_near_duplicates(pictures)] == [
        ["0", "1", "2", "3"],
        ["4"],
    ]


def test_groups_are_those_that_comparing_all_pairs_gives() -> None:
    rng = np.random.default_rng(6)
    crowd = [picture(f"{n:03d}", int(value)) for n, value in enumerate(rng.integers(0, 2**32, 60))]
    family_of = {one.id: {one.id} for one in crowd}
    for one, other in itertools.combinations(crowd, 2):
        if (int(one.phash, 16) ^ int(other.phash, 16)).bit_count() <= 6:
            merged = family_of[one.id] | family_of[other.id]
            for id in merged:
                family_of[id] = merged
    expected = sorted({tuple(sorted(family)) for family in family_of.values()})
    assert [tuple(one.id for one in family) for family in group_near_duplicates(crowd[::-1])] == expected
    assert 1 < len(expected) < 60


@pytest.mark.parametrize("crowd", [[], [picture("a", 0)]])
def test_an_empty_set_and_a_single_picture_have_no_look_alikes(crowd: list[Picture]) -> None:
    assert find_look_alikes(crowd) == {}
    assert group_near_duplicates(crowd) == ([crowd] if crowd else [])


def test_twenty_thousand_pictures_take_less_than_five_seconds() -> None:
    rng = np.random.default_rng(7)
    centres = rng.integers(0, 2**63, 50)
    for hashes in (rng.integers(0, 2**63, 20_000), rng.choice(centres, 20_000)):  # all apart; large crowds
        crowd = [picture(f"{n:05d}", int(value)) for n, value in enumerate(hashes)]
        began_s = time.process_time()
        group_near_duplicates(crowd)
        find_look_alikes(crowd)
        assert time.process_time() - began_s < 5


WORK = Work(
    id="", title="The Sea", artist="", artist_slug="", year_text="", year=None, genre="", style="", width=None,
    height=None, image_url="", page_url="", rights="unknown", source="wikiart",
)  # fmt: skip


def works(**artists: str) -> list[Work]:
    """Works by id, and who painted each."""
    return [replace(WORK, id=id, artist_slug=artist) for id, artist in artists.items()]


def came(id: str, content: str, phash: str = "") -> DownloadRecord:
    phash = phash or f"{hash_of(content):016x}"
    return DownloadRecord(id=id, status="ok", sha256=content, phash=phash, width=400, height=300, bytes=9)


def hash_of(content: str) -> int:
    return int.from_bytes(content.encode().ljust(8, b"\x55")[:8])


def test_the_same_bytes_for_works_of_three_artists_are_placeholders() -> None:
    entries = [came(id, "frame") for id in "dcba"] + [came("e", "painting")]
    result = mark_duplicates(entries, works(a="monet", b="monet", c="turner", d="cezanne", e="monet"))
    assert [entry.id for entry in result] == list("abcde")
    assert [entry.status for entry in result] == ["placeholder"] * 4 + ["ok"]
    assert "4 works of 3 artists" in result[2].reason
    assert result[0] == DownloadRecord(id="a", status="placeholder", reason=result[0].reason)


def test_the_same_bytes_for_works_of_fewer_artists_are_duplicates_of_the_first() -> None:
    entries = [came(id, "sea") for id in "cba"]
    for artists in ({"a": "monet", "b": "monet", "c": "turner"}, {"a": "", "b": "monet", "c": "turner"}):
        result = mark_duplicates(entries, works(**artists))
        assert [(entry.status, entry.reason) for entry in result] == [
            ("ok", ""), ("duplicate", "the same bytes as a"), ("duplicate", "the same bytes as a"),
        ]  # fmt: skip


def test_a_look_alike_stays_ok_and_its_reason_names_the_other() -> None:
    entries = [came("a", "one", "0" * 16), came("b", "two", "0" * 15 + "3"), came("c", "two", "0" * 15 + "3")]
    result = mark_duplicates(entries, works(a="monet", b="monet", c="monet"))
    assert [(entry.status, entry.reason) for entry in result] == [
        ("ok", ""), ("ok", "looks like a, 2 bits apart"), ("duplicate", "the same bytes as b"),
    ]  # fmt: skip


def test_a_missing_picture_keeps_its_reason() -> None:
    lacking = DownloadRecord(id="a", status="missing", reason="HTTP 404")
    assert mark_duplicates([lacking], works(a="monet")) == [lacking]
    assert mark_duplicates([], []) == []


def test_a_look_alike_keeps_its_earlier_reason() -> None:
    large = replace(came("a", "sea"), width=800, height=600)
    small = replace(came("b", "seb"), phash=large.phash, reason="the first of 2 pages")
    (_, settled_small) = mark_duplicates([large, small], works(a="monet", b="monet"))
    assert settled_small.reason == "looks like a, 0 bits apart; the first of 2 pages"
