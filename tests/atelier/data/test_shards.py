"""Tar shards: the same items give the same bytes, and a hostile shard cannot reach the file system."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.data.shards import Item, find_picture, read_shards, write_shards
from atelier.errors import AtelierError


def items(count: int, step: int = 1) -> list[Item]:
    return [Item(f"{n * step:024x}", "jpg", f"picture {n}".encode() * (n % 7)) for n in range(count)]


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_items_are_read_back_in_order(tmp_path: Path) -> None:
    written = items(3500)
    paths = write_shards(written, tmp_path)
    assert list(read_shards(tmp_path)) == written
    assert [path.name for path in paths] == [f"{n:05d}.tar" for n in range(len(paths))]
    assert len(paths) > 1


def test_the_same_items_give_the_same_bytes_without_times_or_users(tmp_path: Path) -> None:
    write_shards(items(50), tmp_path / "one")
    write_shards(iter(items(50)), tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / "00000.tar") as tar:
        for member in tar:
            facts = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
            assert facts == (0, 0, 0, "", "", 0o644)
            assert member.isreg()


def test_a_new_work_changes_one_shard_only(tmp_path: Path) -> None:
    many = items(12_000, step=2)
    write_shards(many, tmp_path / "before")
    joined = sorted([*many, Item(f"{2 * 600 + 1:024x}", "png", b"new")])
    write_shards(joined, tmp_path / "after")
    before, after = set(digests(tmp_path / "before").values()), set(digests(tmp_path / "after").values())
    assert len(before) >= 5
    assert len(after - before) <= 2  # the one it joined; two where its id ends a shard


def test_shards_left_by_a_longer_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "00099.tar").write_bytes(b"stale")
    write_shards(items(5), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]


@pytest.mark.parametrize(
    "wrong",
    [
        [Item("b", "jpg", b""), Item("a", "jpg", b"")],
        [Item("a", "jpg", b""), Item("a", "png", b"")],
        [Item("../a", "jpg", b"")],
        [Item("a", "../jpg", b"")],
        [Item("", "jpg", b"")],
    ],
)
def test_unsorted_or_unfit_ids_are_an_error_and_leave_no_shard(tmp_path: Path, wrong: list[Item]) -> None:
    with pytest.raises(ValueError, match="ids must be sorted"):
        write_shards(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_picture_is_found_by_its_id(tmp_path: Path) -> None:
    written = items(3500)
    write_shards(written, tmp_path)
    for item in (written[0], written[1234], written[-1]):
        assert find_picture(tmp_path, item.id) == (item.id, "jpg", item.content)
    for absent in ("", "0", "f" * 24, "zz", "../../etc/passwd"):
        assert find_picture(tmp_path, absent) is None


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_a_shard_with_anything_but_plain_files_is_an_error(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(AtelierError, match="no picture named by its id"):
        list(read_shards(tmp_path))


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "sub/a.jpg", "a", ".jpg", "a.jpg.exe"])
def test_a_shard_with_a_path_for_a_name_is_an_error(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(AtelierError, match="no picture named by its id"):
        list(read_shards(tmp_path))


@pytest.mark.parametrize("cut", [700, 5000, 10_000])
def test_a_damaged_shard_is_an_error_that_says_how_to_fix_it(tmp_path: Path, cut: int) -> None:
    write_shards([Item("a", "jpg", bytes(8000)), Item("b", "jpg", bytes(8000))], tmp_path)
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(AtelierError, match="dvc repro download"):
        list(read_shards(tmp_path))


def test_a_folder_without_shards_is_an_error_that_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="dvc repro download"):
        list(read_shards(tmp_path / "absent"))
    with pytest.raises(AtelierError, match="dvc repro download"):
        find_picture(tmp_path, "a")


@settings(max_examples=30)
@given(st.sets(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), min_size=1, max_size=20))
def test_any_set_of_ids_is_read_back(tmp_path_factory: pytest.TempPathFactory, ids: set[str]) -> None:
    directory = tmp_path_factory.mktemp("shards")
    written = [Item(id, "png", id.encode()) for id in sorted(ids)]
    write_shards(written, directory)
    assert list(read_shards(directory)) == written
    assert all(find_picture(directory, item.id) == item for item in written)
