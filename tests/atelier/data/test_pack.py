"""The packed training set: its rows, its split and its mirrored view."""

import hashlib
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atelier.data.dataset import HELD_OUT, TRAIN, PackedDataset, Placement, open_dataset
from atelier.data.duplicates import GROUP_BITS, Picture
from atelier.data.pack import CropBox, largest_cut, split, write_dataset
from atelier.data.shards import Item
from atelier.errors import AtelierError
from atelier.images.verify import ImageLimits, Verified, verify
from atelier.pictures import CELLS, nearest_aspect


def unlike(count: int, width: int = 96, height: int = 64) -> list[Picture]:
    """Return pictures with unrelated hashes."""
    names = [f"{n:024x}" for n in range(count)]
    return [Picture(name, width, height, hashlib.sha256(name.encode()).hexdigest()[:16]) for name in names]


def drawn(picture: Picture, mode: str = "RGB") -> Item:
    """Return its file: red grows to the right, green downwards, blue is from the id."""
    right = np.linspace(0, 255, picture.width)[None, :].repeat(picture.height, 0)
    down = np.linspace(0, 255, picture.height)[:, None].repeat(picture.width, 1)
    blue = np.full_like(right, int(picture.id, 16) % 256)
    file = io.BytesIO()
    Image.fromarray(np.stack([right, down, blue], -1).astype(np.uint8)).convert(mode).save(file, "PNG")
    return Item(picture.id, "png", file.getvalue())


def pack(path: Path, pictures: list[Picture], items: list[Item] | None = None, **changes: object) -> PackedDataset:
    settings = {
        "resolution": 32, "crop": "center", "mirror": True, "held_out": 0.2, "workers": 2, "look_alikes": {},
        "advance": lambda: None, **changes,
    }  # fmt: skip
    write_dataset(pictures, [drawn(p) for p in pictures] if items is None else items, path, **settings)  # type: ignore[arg-type]
    return open_dataset(path)


def test_each_row_is_the_middle_square_of_the_picture_in_the_index(tmp_path: Path) -> None:
    dataset = pack(tmp_path, unlike(20))
    for view in (dataset.train, dataset.held_out):
        assert view.images.shape == (len(view.ids), 32, 32, 3)
        assert view.images.dtype == np.uint8
        assert isinstance(view.images, np.memmap)
        assert view.ids == sorted(view.ids)
        for pixels, id in zip(view.images, view.ids, strict=True):
            assert np.abs(pixels[..., 2].astype(int) - int(id, 16) % 256).max() == 0
            assert abs(int(pixels[16, 0, 0]) - 255 * 17 / 96) < 3  # 16 of 96 columns are cut off left and right
            assert abs(int(pixels[16, 31, 0]) - 255 * 79 / 96) < 3
            assert pixels[0, 16, 1] < 5 and pixels[31, 16, 1] > 250


def test_the_mirrored_view_is_twice_as_long_and_the_file_is_the_same(tmp_path: Path) -> None:
    dataset = pack(tmp_path / "mirrored", unlike(20), mirror=True)
    plain = pack(tmp_path / "plain", unlike(20), mirror=False)
    assert len(dataset.train) == 2 * len(dataset.train.ids) == 2 * len(plain.train)
    assert len(dataset.held_out) == 2 * len(plain.held_out)
    for n in range(len(plain.train)):
        assert np.array_equal(dataset.train[2 * n], plain.train[n])
        assert np.array_equal(dataset.train[2 * n + 1], plain.train[n][:, ::-1])
    same = [(tmp_path / name / "images.npy").read_bytes() for name in ("mirrored", "plain")]
    assert same[0] == same[1]
    with pytest.raises(IndexError):
        dataset.train[len(dataset.train)]
    assert sum(1 for _ in plain.train) == len(plain.train)  # ends by IndexError, as sequences do


def test_the_order_of_the_pictures_does_not_change_the_bytes(tmp_path: Path) -> None:
    pictures = unlike(30)
    pack(tmp_path / "one", pictures, workers=1)
    pack(tmp_path / "two", pictures[::-1], [drawn(picture) for picture in pictures[::-1]], workers=4)
    for name in ("images.npy", "index.parquet", "dataset.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "dataset.json", "images.npy", "index.parquet",
    ]  # fmt: skip


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    pictures = unlike(8, 300, 256)
    chessboard = np.indices((256, 300)).sum(0) % 2 * 255  # the finest there is
    pixels = chessboard[..., None].repeat(3, -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    dataset = pack(tmp_path, pictures, [Item(picture.id, "png", file.getvalue()) for picture in pictures])
    assert np.abs(dataset.train.images.astype(float) - 127.5).max() < 4


def test_any_mode_is_packed_as_rgb(tmp_path: Path) -> None:
    pictures = unlike(8)
    modes = itertools.cycle(["L", "P", "RGBA", "1", "LA"])
    items = [drawn(picture, mode) for picture, mode in zip(pictures, modes, strict=False)]
    assert pack(tmp_path, pictures, items).train.images.shape[-1] == 3


@given(st.integers(32, 3000), st.integers(32, 3000), st.sampled_from(["center", "random"]), st.text(max_size=9))
def test_a_crop_is_the_largest_square_inside_its_picture(width: int, height: int, crop: str, id: str) -> None:
    cut = largest_cut(Picture(id, width, height, "0"), crop)  # type: ignore[arg-type]
    assert cut.side == min(width, height)
    assert 0 <= cut.left <= width - cut.side
    assert 0 <= cut.top <= height - cut.side
    assert cut == largest_cut(Picture(id, width, height, "0"), crop)  # type: ignore[arg-type]


@given(st.integers(32, 3000), st.integers(32, 3000), st.sampled_from([*CELLS]))
def test_a_crop_of_a_shape_is_the_largest_inside_its_picture(width: int, height: int, aspect: str) -> None:
    rows, columns = CELLS[aspect]
    cut = largest_cut(Picture("a", width, height, "0"), "center", aspect)
    assert 0 <= cut.left <= width - cut.width and 0 <= cut.top <= height - cut.height
    assert cut.width == width or cut.height == height
    assert abs(cut.width * rows - cut.height * columns) <= max(rows, columns) / 2


@pytest.mark.parametrize("crops", [1, 2])
def test_images_of_a_shape_show_the_middle_of_pictures_of_any_shape_undistorted(crops: int, tmp_path: Path) -> None:
    portraits = [replace(picture, width=64, height=96) for picture in unlike(40)[20:]]
    dataset = pack(tmp_path, [*unlike(20), *portraits], aspect="16:9", crops=crops)
    assert dataset.train.images.shape[1:] == (32, 56, 3)
    facts = json.loads((tmp_path / "dataset.json").read_bytes())
    assert facts["aspect"] == "16:9" and 0.37 < facts["area_in_square"] < 0.87
    for row, id in enumerate(dataset.train.ids):
        right, down = (
            np.diff(dataset.train.images[row][..., channel].mean(axis)) for channel, axis in ((0, 0), (1, 1))
        )
        size = (64, 96) if int(id, 16) >= 20 else (96, 64)
        per_px = [255 / side * (size[0] / 56) for side in size]  # both shapes are cut at their full width
        assert abs(right[5:-5].mean() - per_px[0]) < 0.3 and abs(down[5:-5].mean() - per_px[1]) < 0.3


def test_the_shape_of_a_set_is_the_nearest_to_the_median() -> None:
    wide, high = [(160, 90)] * 3, [(60, 80)] * 2
    assert nearest_aspect([*wide, *high]) == "16:9"
    assert nearest_aspect([*wide[:1], *high]) == "3:4"
    assert nearest_aspect([(100, 105)]) == nearest_aspect([]) == "square"
    assert nearest_aspect([(400, 100)]) == "16:9"


def test_pictures_of_which_a_shape_shows_less_than_half_its_size_are_left_out(tmp_path: Path) -> None:
    small = [replace(picture, width=27, height=200) for picture in unlike(21)[20:]]  # of 3:2 it has 27 × 18 of 24 × 16
    tiny = [replace(picture, width=23, height=200) for picture in unlike(22)[21:]]  # 23 × 15
    pictures = [*unlike(20), *small, *tiny]
    pack(tmp_path, pictures, [drawn(picture) for picture in pictures], aspect="3:2")
    facts = json.loads((tmp_path / "dataset.json").read_bytes())
    assert (facts["pictures"], facts["left_out_too_small"], facts["enlarged"]) == (21, 1, 1)


def test_random_crops_differ_between_pictures_and_reach_both_ends() -> None:
    lefts = [largest_cut(picture, "random").left for picture in unlike(300, 200, 100)]
    assert min(lefts) < 5 and max(lefts) > 95
    assert largest_cut(unlike(1, 200, 100)[0], "center") == CropBox(50, 0, 100, 100)


def test_pictures_below_half_the_resolution_are_left_out_and_counted(tmp_path: Path) -> None:
    pictures = [*unlike(20, 64, 64)]
    pictures += [Picture(f"{n:024x}", *size, f"{n * 2**57:016x}") for n, size in ((50, (31, 90)), (51, (32, 90)))]
    usable = [drawn(picture) for picture in pictures if picture.width != 31]
    facts = write_dataset(
        pictures, usable, tmp_path, resolution=64, crop="center", mirror=False, held_out=0.1, workers=1,
        look_alikes={}, advance=lambda: None,
    )  # fmt: skip
    assert facts["left_out_too_small"] == 1
    assert facts["enlarged"] == 1
    assert facts["pictures"] == facts["train"] + facts["held_out"] == 21


# the split


def test_the_split_holds_out_about_the_given_share_and_no_picture_twice() -> None:
    train, held = split(unlike(2000), 0.1)
    assert 150 < len(held) < 250
    assert sorted(picture.id for picture in (*train, *held)) == [picture.id for picture in unlike(2000)]


def test_a_picture_keeps_its_side_when_the_archive_grows() -> None:
    held_before = {picture.id for picture in split(unlike(500), 0.1)[1]}
    held_after = {picture.id for picture in split(unlike(900), 0.1)[1]}
    assert held_before == {id for id in held_after if int(id, 16) < 500}


def test_near_duplicates_are_never_on_both_sides() -> None:
    pictures = unlike(400)
    rng = np.random.default_rng(3)
    for n in range(200):
        picture = pictures[int(rng.integers(400))]
        flips = sum(1 << int(bit) for bit in rng.choice(64, GROUP_BITS, replace=False))
        pictures.append(Picture(f"{1000 + n:024x}", 96, 64, f"{int(picture.phash, 16) ^ flips:016x}"))
    train, held = split(pictures, 0.2)
    assert train and held
    for one, other in itertools.product(train, held):
        assert (int(one.phash, 16) ^ int(other.phash, 16)).bit_count() > GROUP_BITS


def rescan(picture: Picture, id: str, bits: int = 3) -> Picture:
    """Return a larger scan of a painting, under another id."""
    flips = sum(1 << bit for bit in range(5, 5 + bits))
    return Picture(id, 2 * picture.width, 2 * picture.height, f"{int(picture.phash, 16) ^ flips:016x}")


def placements(train: list[Picture], held: list[Picture]) -> list[Placement]:
    sides = [*((picture, TRAIN) for picture in train), *((picture, HELD_OUT) for picture in held)]
    return [Placement(picture.id, picture.phash, side) for picture, side in sides]


def test_a_later_scan_of_a_training_painting_is_never_held_out_with_or_without_placements() -> None:
    before = unlike(300)
    train, held = split(before, 0.1)
    for first in ("0", "f"):  # ids before and after all others
        later = [rescan(picture, f"{first * 8}{picture.id[8:]}") for picture in before]
        new = {picture.id: scan.id for picture, scan in zip(before, later, strict=True)}
        now_held = {picture.id for picture in split([*before, *later], 0.1)[1]}
        assert not now_held & {new[picture.id] for picture in train}
        _, remembered = split([*before, *later], 0.1, placed=placements(train, held))
        assert {picture.id for picture in remembered} == {id for one in held for id in (one.id, new[one.id])}


def test_a_scan_that_replaces_an_older_one_keeps_its_side() -> None:
    before = unlike(300)
    train, held = split(before, 0.1)
    later = [rescan(picture, f"ffffffff{picture.id[8:]}") for picture in before]
    held_scans = [scan.id for picture, scan in zip(before, later, strict=True) if picture in held]
    memory = placements(train, held)
    for relatives in ([], before):  # the older ones have gone, or are left out as look-alikes
        _, now_held = split(later, 0.1, relatives, memory)
        assert [picture.id for picture in now_held] == held_scans
    _, without_memory = split(later, 0.1, before)
    assert {picture.id for picture in without_memory} <= set(held_scans)


def test_a_group_with_members_of_both_sides_is_trained_on_and_stays_so() -> None:
    before = unlike(100)
    train, held = split(before, 0.1)
    between = Picture("f" * 24, 96, 64, train[0].phash)
    bridged = Picture(held[0].id, 96, 64, rescan(train[0], "", bits=5).phash)
    memory = placements(train, [bridged, *held[1:]])
    now = [bridged if picture.id == bridged.id else picture for picture in before]
    now_train, now_held = split([*now, between], 0.1, placed=memory)
    assert {bridged.id, between.id, train[0].id} <= {picture.id for picture in now_train}
    again = split([*now, between], 0.1, placed=placements(now_train, now_held))
    assert again == (now_train, now_held)


def test_placements_decide_the_split_of_the_same_pictures() -> None:
    pictures = unlike(300)
    train, held = split(pictures, 0.3)
    assert split(pictures, 0.1, placed=placements(train, held)) == (train, held)


def test_even_two_pictures_are_split_into_two_sides() -> None:
    for count in (2, 3, 8):
        train, held = split(unlike(count), 0.02)
        assert len(train) + len(held) == count
        assert train and held


def test_a_group_larger_than_the_held_out_share_is_trained_on() -> None:
    alike = [Picture(f"{n:024x}", 96, 64, "00000000000000ff") for n in range(1000, 1300)]
    train, held = split([*alike, *unlike(100)], 0.1)
    assert {picture.id for picture in alike} <= {picture.id for picture in train}
    assert held


@pytest.mark.parametrize("pictures", [[], unlike(1), [Picture(str(n), 96, 64, "00ff") for n in range(9)]])
def test_too_few_different_pictures_are_an_error_that_says_what_to_do(tmp_path: Path, pictures: list[Picture]) -> None:
    with pytest.raises(AtelierError, match=r"training and evaluation need 2.*scrape"):
        pack(tmp_path, pictures, [])
    assert list(tmp_path.iterdir()) == []


# damage


def test_a_picture_missing_from_the_shards_is_an_error(tmp_path: Path) -> None:
    pictures = unlike(10)
    with pytest.raises(AtelierError, match=r"lack 1 picture .*dvc repro download"):
        pack(tmp_path, pictures, [drawn(picture) for picture in pictures[1:]])
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_than_its_download_record_is_an_error(tmp_path: Path) -> None:
    pictures = unlike(10)
    small = Picture(pictures[0].id, 40, 40, "0")
    with pytest.raises(AtelierError, match="says otherwise"):
        pack(tmp_path, pictures, [drawn(small), *(drawn(picture) for picture in pictures[1:])])


def test_a_missing_or_damaged_dataset_is_an_error_that_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match=r"dataset.json is missing.*dvc repro augment"):
        open_dataset(tmp_path)
    pack(tmp_path, unlike(10))
    whole = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(whole[:-100])
    with pytest.raises(AtelierError, match="dvc repro augment"):
        open_dataset(tmp_path)
    (tmp_path / "images.npy").unlink()
    with pytest.raises(AtelierError, match=r"images.npy is missing"):
        open_dataset(tmp_path)


def test_a_dozen_real_paintings_are_packed(tmp_path: Path, paintings: Path) -> None:
    items, pictures = [], []
    for path in sorted((paintings / "images").glob("*.jpg"))[:12]:
        verdict = verify(path.read_bytes(), ImageLimits(64, 120_000_000))
        assert isinstance(verdict, Verified)
        items.append(Item(path.stem, "jpg", path.read_bytes()))
        pictures.append(Picture(path.stem, verdict.width, verdict.height, verdict.phash))
    dataset = pack(tmp_path, pictures, items, resolution=64)
    assert len(dataset.train.ids) + len(dataset.held_out.ids) == 12
    assert dataset.train.images.std() > 20


def test_with_several_crops_the_whole_training_paintings_are_packed_and_the_squares_stay_the_same(
    tmp_path: Path,
) -> None:
    pictures = [*unlike(12, 96, 64), *(replace(one, width=64, height=128) for one in unlike(24)[12:])]
    plain, dataset = pack(tmp_path / "plain", pictures), pack(tmp_path / "crops", pictures, crops=8)
    for name in ("images.npy", "index.parquet"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "crops" / name).read_bytes()
    assert plain.strips is None
    strips = dataset.strips
    assert strips is not None and strips.crops == 8
    assert isinstance(strips.pixels, np.memmap) and strips.pixels.shape == (strips.length.sum(), 48, 3)
    by_id = {picture.id: picture for picture in pictures}
    for row, id in enumerate(dataset.train.ids):
        landscape = by_id[id].width == 96
        assert strips.landscape[row] == landscape
        assert strips.length[row] == (72 if landscape else 96)  # at a shorter side of 48 px
        lines = strips.pixels[strips.start[row] :][: strips.length[row]]
        along, across = (0, 1) if landscape else (1, 0)  # red grows to the right, green downwards
        assert lines[0, :, along].max() < 5 and lines[-1, :, along].min() > 250
        assert lines[:, 0, across].max() < 8 and lines[:, -1, across].min() > 247
        assert np.abs(lines[..., 2].astype(int) - int(id, 16) % 256).max() == 0


def test_strips_do_not_depend_on_the_order_of_the_pictures_and_go_with_the_setting(tmp_path: Path) -> None:
    pictures = unlike(30)
    pack(tmp_path / "one", pictures, workers=1, crops=2)
    pack(tmp_path / "two", pictures[::-1], [drawn(picture) for picture in pictures[::-1]], workers=4, crops=2)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["dataset.json", "images.npy", "index.parquet", "strips.npy", "strips.parquet"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert pack(tmp_path / "one", pictures).strips is None
    assert not (tmp_path / "one" / "strips.npy").exists()


def test_the_share_of_the_area_that_training_shows_is_told(tmp_path: Path) -> None:
    for name, crops, seen in (("square", 1, 0.6667), ("windows", 4, 1.0)):
        pack(tmp_path / name, unlike(20), crops=crops)
        facts = json.loads((tmp_path / name / "dataset.json").read_bytes())
        assert (facts["crops"], facts["area_seen"], facts["area_in_square"]) == (crops, seen, 0.6667)
        assert facts["strips_bytes"] == (0 if crops == 1 else facts["train"] * 72 * 48 * 3)


def test_windows_of_small_paintings_are_no_smaller_than_what_the_square_enlarges(tmp_path: Path) -> None:
    for shorter, least in ((24, 48), (40, 39), (64, 32)):  # px of the painting, and of the strip of 48 px
        strips = pack(tmp_path / str(shorter), unlike(20, 96, shorter), crops=2).strips
        assert strips is not None and set(strips.min_side.tolist()) == {least}


def test_strips_that_do_not_fit_on_the_disk_are_refused_before_any_work(tmp_path: Path) -> None:
    scrolls = [replace(picture, width=10**13) for picture in unlike(20)]
    with pytest.raises(AtelierError, match=r"augment.crops 2: the whole paintings take .* GB, the disk has"):
        pack(tmp_path, scrolls, [], crops=2)
    assert not list(tmp_path.iterdir())


def test_damaged_strips_are_an_error_that_says_what_makes_them(tmp_path: Path) -> None:
    pack(tmp_path, unlike(20), crops=2)
    np.save(tmp_path / "strips.npy", np.zeros((10, 48, 3), np.uint8))
    with pytest.raises(AtelierError, match=r"strips.npy does not fit its strips.parquet: `dvc repro augment`"):
        open_dataset(tmp_path)
    (tmp_path / "strips.npy").unlink()
    with pytest.raises(AtelierError, match=r"strips.npy is missing: `dvc repro augment`"):
        open_dataset(tmp_path)
