"""Unpacking shards: each file has a name of its own and is written inside the folder."""

import csv
import io
import tarfile
from pathlib import Path

import pytest

from atelier.data.catalog import Work
from atelier.data.folder import read_folder, write_csv
from atelier.data.shards import MAX_SINGLE_LOOKUPS, Item, file_stems, unpack, write_shards
from atelier.errors import AtelierError

IDS = [f"{n:024x}" for n in range(3 * MAX_SINGLE_LOOKUPS)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards([Item(id, "jpg", id.encode()) for id in IDS], tmp_path / "shards")
    return tmp_path / "shards"


@pytest.mark.parametrize("count", [1, MAX_SINGLE_LOOKUPS, MAX_SINGLE_LOOKUPS + 1, 3 * MAX_SINGLE_LOOKUPS])
def test_the_given_ids_are_unpacked_and_no_others(shards: Path, tmp_path: Path, count: int) -> None:
    files = unpack(shards, tmp_path / "out", IDS[-count:], file_stems(IDS))
    assert list(files) == IDS[-count:]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{id}.jpg" for id in IDS[-count:]]
    assert all(path.read_bytes() == id.encode() for id, path in files.items())


def test_an_id_without_a_picture_is_left_out(shards: Path, tmp_path: Path) -> None:
    assert unpack(shards, tmp_path / "out", ["absent"], file_stems(["absent"])) == {}


def test_ids_that_differ_in_case_alone_never_share_a_file(tmp_path: Path) -> None:
    ids = ["SEA", "Sea", "sea", "seb"]
    names = file_stems(ids)
    assert len({name.lower() for name in names.values()}) == 4
    assert names["seb"] == "seb"
    assert file_stems(["sea", "SEA", "Sea"]) == {id: names[id] for id in ("sea", "SEA", "Sea")}
    write_shards([Item(id, "png", id.encode()) for id in ids], tmp_path / "shards")
    files = unpack(tmp_path / "shards", tmp_path / "out", ids, names)
    assert {id: path.read_bytes().decode() for id, path in files.items()} == {id: id for id in ids}


def test_a_suffixed_name_cannot_be_another_id() -> None:
    assert all("~" in name for name in file_stems(["a", "A"]).values())  # which no id may hold


def test_links_in_the_folder_are_replaced_not_followed(shards: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "out").mkdir()
    for name in (f"{IDS[0]}.jpg", f".{IDS[0]}.jpg.part"):
        (tmp_path / "out" / name).symlink_to(outside)
    unpack(shards, tmp_path / "out", IDS[:1], file_stems(IDS))
    assert outside.read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{IDS[0]}.jpg"]
    assert not (tmp_path / "out" / f"{IDS[0]}.jpg").is_symlink()


def test_a_hostile_shard_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("../outside.jpg", "/tmp/outside.jpg", "a\0b.jpg", "a/b.jpg"):
        with tarfile.open(tmp_path / "shards/00000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"bad"))
        for ids in (["outside"], ["outside", *IDS]):
            with pytest.raises(AtelierError, match=r"dvc repro download|damaged"):
                unpack(tmp_path / "shards", tmp_path / "out", ids, file_stems(ids))
    assert [path.name for path in tmp_path.rglob("*.jpg")] == []


def test_a_file_with_the_folders_name_is_an_error_that_says_what_to_do(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(AtelierError, match=r"out: .*choose another folder"):
        unpack(shards, tmp_path / "out", IDS[:1], file_stems(IDS))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path, start: str) -> None:
    evil = f"{start}HYPERLINK(A1)"
    work = Work(
        id="-1+1", title=evil, artist=evil, artist_slug="x", year_text="-500", year=-500, genre=evil, style=evil,
        width=None, height=None, image_url="", page_url=evil, rights="unknown", source="wikiart",
    )  # fmt: skip
    (tmp_path / "-1+1.jpg").write_bytes(b"picture")
    table = write_csv(tmp_path, {"-1+1": tmp_path / "-1+1.jpg"}, {"-1+1": work})
    [row] = csv.DictReader(io.StringIO(table.read_bytes().decode(), newline=""))
    assert not [value for value in row.values() if value.startswith(("=", "+", "-", "@", "\t", "\r"))]
    [again] = read_folder(tmp_path, table).works
    assert (again.image_url, again.title, again.year) == ("-1+1.jpg", evil.strip(), -500)


def test_the_csv_describes_the_files(tmp_path: Path) -> None:
    work = Work(
        id="a", title='The "Sea", again', artist="Ève", artist_slug="eve", year_text="c. 1850", year=1850,
        genre="marina", style="", width=None, height=None, image_url="", page_url="/en/eve/sea",
        rights="public-domain", source="wikiart",
    )  # fmt: skip
    table = write_csv(tmp_path, {"a": tmp_path / "a~1.jpg"}, {"a": work})
    assert list(csv.DictReader(table.open(encoding="utf-8"))) == [
        {
            "file": "a~1.jpg", "title": 'The "Sea", again', "artist": "Ève", "year": "c. 1850", "genre": "marina",
            "style": "", "id": "a", "page_url": "/en/eve/sea", "rights": "public-domain",
        }
    ]  # fmt: skip
