"""Which pictures are taken for one another, and which never."""

import itertools
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from atelier.data.duplicates import (
    LOOK_ALIKE_BITS,
    LookAlike,
    Picture,
    find_look_alikes,
    group_near_duplicates,
)
from atelier.gallery.painter import paint
from atelier.images.verify import ImageLimits, Verified, verify
from tests.pictures import encoded


def picture(id: str, phash: int, width: int = 400, height: int = 300) -> Picture:
    return Picture(id, width, height, f"{phash:016x}")


def seen(id: str, image: Image.Image) -> Picture:
    """As the download would know it."""
    verdict = verify(encoded(image.convert("RGB"), "JPEG", quality=85), ImageLimits(32, 10**8))
    assert isinstance(verdict, Verified)
    return Picture(id, verdict.width, verdict.height, verdict.phash)


def test_another_scan_of_a_painting_looks_like_the_largest_one() -> None:
    scene = paint(1, 7, 320)
    trimmed = scene.crop((2, 2, scene.width - 1, scene.height - 1))
    scans = [
        seen("a-small", scene.resize((scene.width // 2, scene.height // 2))),
        seen("b-large", scene),
        seen(
            "c-bright", ImageEnhance.Brightness(scene.resize((280, 280 * scene.height // 320))).enhance(1.1)
        ),
        seen("d-trimmed", trimmed),
        seen("e-another", paint(1, 8, 320)),
    ]
    found = find_look_alikes(scans)
    assert {id: other.id for id, other in found.items()} == {
        "a-small": "b-large", "c-bright": "b-large", "d-trimmed": "b-large",
    }  # fmt: skip
    assert all(other.bits <= LOOK_ALIKE_BITS for other in found.values())


def test_of_equals_the_smallest_id_stays() -> None:
    assert find_look_alikes([picture("b", 0b11), picture("a", 0)]) == {"b": LookAlike("a", 2)}


def test_nothing_is_left_out_by_way_of_a_third() -> None:
    chain = [picture(f"{n}", 2 ** (4 * n) - 1) for n in range(10)]  # each 4 bits from the next
    found = find_look_alikes(chain)
    assert found == {f"{n}": LookAlike(f"{n - 1}", 4) for n in (1, 3, 5, 7, 9)}


def test_another_shape_is_another_picture() -> None:
    wide, detail = picture("a", 0, 400, 300), picture("b", 0, 380, 300)
    assert find_look_alikes([wide, detail]) == {}
    assert find_look_alikes([wide, picture("c", 0, 200, 149)]) == {"c": LookAlike("a", 0)}


def test_the_built_in_gallerys_seascapes_are_not_taken_for_one_another() -> None:
    scenes = [seen(f"{n:03d}", paint(1, n, 160)) for n in range(60)]
    assert find_look_alikes(scenes) == {}
    assert len(group_near_duplicates(scenes)) == 60


def test_real_paintings_are_not_taken_for_one_another(paintings: object) -> None:
    paths = sorted((paintings / "images").glob("*.jpg"))[::20]  # type: ignore[operator]
    assert find_look_alikes([seen(path.stem, Image.open(path)) for path in paths]) == {}


def test_whoever_looks_alike_does_so_itself_and_whoever_stays_does_not() -> None:
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


def test_families_are_chained_and_others_stay_alone() -> None:
    hashes = [0, 0b111111, 0b111111111111, 2**63, 2**64 - 1]
    pictures = [picture(f"{n}", value) for n, value in enumerate(hashes)]
    assert [[one.id for one in family] for family in group_near_duplicates(pictures)] == [
        ["0", "1", "2", "3"],
        ["4"],
    ]


def test_families_are_what_linking_each_to_each_gives() -> None:
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
def test_none_and_one_have_nobody_to_look_like(crowd: list[Picture]) -> None:
    assert find_look_alikes(crowd) == {}
    assert group_near_duplicates(crowd) == ([crowd] if crowd else [])


def test_twenty_thousand_take_no_time() -> None:
    rng = np.random.default_rng(7)
    centres = rng.integers(0, 2**63, 50)
    for hashes in (rng.integers(0, 2**63, 20_000), rng.choice(centres, 20_000)):  # all apart; large crowds
        crowd = [picture(f"{n:05d}", int(value)) for n, value in enumerate(hashes)]
        began_s = time.process_time()
        group_near_duplicates(crowd)
        find_look_alikes(crowd)
        assert time.process_time() - began_s < 5
