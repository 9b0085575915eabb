"""The stage augment, run as DVC runs it."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from atelier.data.catalog import DownloadRecord, read_downloads, write_catalog, write_downloads
from atelier.data.dataset import open_dataset
from atelier.data.shards import Item, write_shards
from atelier.errors import AtelierError
from atelier.images.verify import ImageLimits, Verified, verify
from atelier.settings.schema import Params
from tasks.augment import run
from tasks.stage import Stage
from tests.datasets import work


def download(count: int) -> None:
    """Write the outputs of stage download: `count` pictures, and two works without one."""
    items, entries = [], []
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((96, 64), Image.Resampling.BICUBIC).save(file, "PNG")
        verdict = verify(file.getvalue(), ImageLimits(32, 10**6))
        assert isinstance(verdict, Verified)
        items.append(Item(f"w{n:03d}", "png", file.getvalue()))
        entries.append(
            DownloadRecord(id=f"w{n:03d}", status="ok", phash=verdict.phash, width=verdict.width, height=verdict.height)
        )
    entries += [
        DownloadRecord(id="w998", status="duplicate", reason="the same bytes", phash="0" * 16, width=96, height=64),
        DownloadRecord(id="w999", status="missing", reason="HTTP 404"),
    ]
    write_shards(items, Path("data/images"))
    write_downloads(entries, Path("data/downloads.parquet"))
    write_catalog([work(entry.id, f"genre {entry.id}") for entry in entries], Path("data/catalog.parquet"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stage(**augment: object) -> Stage:
    return Stage("augment", Params.model_validate({"augment": {"resolution": 32, "held_out": 0.2, **augment}}))


def test_the_downloaded_pictures_are_packed_and_doubled_by_mirror_images() -> None:
    download(40)
    summary = run(stage())
    dataset = open_dataset(Path("data/dataset"))
    assert dataset.resolution == 32
    assert len(dataset.train) + len(dataset.held_out) == 80
    assert set(dataset.train.ids) | set(dataset.held_out.ids) == {f"w{n:03d}" for n in range(40)}
    for view in (dataset.train, dataset.held_out):
        assert view.values("genre") == [f"genre {id}" for id in view.ids]
        assert view.values("source") == ["folder"] * len(view.ids)
        assert view.values("artist") == view.values("style") == [""] * len(view.ids)
    assert "40 pictures of 32 px, doubled by their mirror images" in summary
    assert f"{len(dataset.held_out.ids)} held out" in summary
    assert "the squares show 67% of the paintings' area" in summary


def test_several_crops_pack_the_whole_paintings_and_say_how_much_of_them_is_seen() -> None:
    download(40)
    summary = run(stage(crops=8))
    strips = open_dataset(Path("data/dataset")).strips
    assert strips is not None and strips.crops == 8
    assert "windows show 100%, 8 an epoch, from 0.3 MB" in summary
    assert "squares show 67% of the paintings' area" in summary


@pytest.mark.parametrize("crops", [0, 65, 1.5, True])
def test_crops_are_a_whole_number_from_1_to_64(crops: object) -> None:
    with pytest.raises(ValidationError, match="crops"):
        stage(crops=crops)


def test_the_same_params_give_the_same_bytes_and_other_params_give_others() -> None:
    download(40)
    packed = {}
    for name, changes in {"a": {}, "b": {}, "c": {"crop": "random"}, "d": {"resolution": 64}}.items():
        run(stage(**changes))
        packed[name] = Path("data/dataset/images.npy").read_bytes()
    assert packed["a"] == packed["b"]
    assert len({packed["a"], packed["c"], packed["d"]}) == 3


def test_pictures_too_small_for_the_resolution_are_named_in_the_summary() -> None:
    download(10)
    with pytest.raises(AtelierError, match=r"at least 128 px are too few.* set scrape\.snapshot to another date"):
        run(stage(resolution=256))
    assert not Path("data/dataset").exists() or list(Path("data/dataset").iterdir()) == []


def test_look_alikes_are_left_out_with_both_ids_named_unless_they_are_to_be_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    download(40)
    entries = read_downloads(Path("data/downloads.parquet"))
    entries[5] = replace(entries[5], phash=entries[3].phash)
    write_downloads(entries, Path("data/downloads.parquet"))
    write_catalog([work(entry.id, f"genre {entry.id}") for entry in entries], Path("data/catalog.parquet"))
    summary = run(stage())
    assert "39 pictures of 32 px" in summary
    assert "1 left out that look like others" in summary
    assert "left out: w005 looks like w003, 0 bits apart" in capsys.readouterr().out
    dataset = open_dataset(Path("data/dataset"))
    assert "w005" not in {*dataset.train.ids, *dataset.held_out.ids}
    assert json.loads(Path("data/dataset/dataset.json").read_text())["left_out_look_alike"] == 1

    assert "40 pictures of 32 px" in run(stage(near_duplicates="keep"))
    assert "left out" not in capsys.readouterr().out


def test_a_missing_download_is_an_error_that_says_what_makes_it() -> None:
    with pytest.raises(AtelierError, match=r"data/downloads.parquet is missing.*dvc repro"):
        run(stage())


def noise(n: int, side: int) -> bytes:
    """Return a PNG that `n` decides, in the given size."""
    pixels = np.random.default_rng(n).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((3 * side // 2, side), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def write_download(pictures: dict[str, bytes]) -> None:
    """Write the outputs of stage download with these pictures."""
    entries = []
    for id, content in pictures.items():
        verdict = verify(content, ImageLimits(32, 10**6))
        assert isinstance(verdict, Verified)
        entries.append(
            DownloadRecord(id=id, status="ok", phash=verdict.phash, width=verdict.width, height=verdict.height)
        )
    write_shards([Item(id, "png", pictures[id]) for id in sorted(pictures)], Path("data/images"))
    write_downloads(entries, Path("data/downloads.parquet"))
    write_catalog([work(entry.id, f"genre {entry.id}") for entry in entries], Path("data/catalog.parquet"))


@pytest.mark.parametrize("near_duplicates", ["exclude", "keep"])
def test_larger_scans_that_arrive_later_stay_on_the_side_of_the_paintings(near_duplicates: str) -> None:
    pictures = {f"w{n:03d}": noise(n, 64) for n in range(25)}
    write_download(pictures)
    run(stage(near_duplicates=near_duplicates))
    before = open_dataset(Path("data/dataset"))
    write_download(pictures | {f"a{n:03d}": noise(n, 96) for n in range(25)})
    shutil.rmtree("data/dataset")  # as DVC does
    run(stage(near_duplicates=near_duplicates))
    after = open_dataset(Path("data/dataset"))
    assert {id[1:] for id in after.held_out.ids} == {id[1:] for id in before.held_out.ids}
    assert {id[1:] for id in after.train.ids} == {id[1:] for id in before.train.ids}
    write_download({f"z{n:03d}": noise(n, 120) for n in range(25)})  # and the older ones have gone
    run(stage(near_duplicates=near_duplicates))
    last = open_dataset(Path("data/dataset"))
    assert {id[1:] for id in last.held_out.ids} == {id[1:] for id in before.held_out.ids}


def test_another_share_makes_a_new_split_and_damaged_placements_are_made_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    download(60)
    run(stage())
    first = open_dataset(Path("data/dataset")).held_out.ids
    run(stage(held_out=0.4))
    assert len(open_dataset(Path("data/dataset")).held_out.ids) > len(first)
    Path(".atelier/augment/split-0.2.parquet").write_bytes(b"torn")
    run(stage())
    assert open_dataset(Path("data/dataset")).held_out.ids == first
    assert "split-0.2.parquet is damaged and is made anew" in capsys.readouterr().out
