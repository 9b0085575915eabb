"""Kept answers: what outlives a process, and what happens to a damaged file."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from atelier.errors import AtelierError
from atelier.wikiart.asking import Kept, Store

ANSWER = Kept(
    b'{"Paintings": []}' * 50, "2026-11-22", etag='"abc"', last_modified="Sun, 22 Nov 2026", record="r"
)


def test_what_is_put_is_there_in_the_next_process(tmp_path):
    path = tmp_path / "new" / "kept.sqlite"
    with closing(Store(path)) as store:
        assert store.get("/en/a") is None
        store.put("/en/a", Kept(b"old", "2026-11-21"))
        store.put("/en/a", ANSWER)
        store.put("/en/gone", Kept(b"", "2026-11-22", gone="HTTP 404"))
        with closing(Store(path)) as other:  # not closed first: as after a kill
            assert other.get("/en/a") == ANSWER
            assert other.get("/en/gone") == Kept(b"", "2026-11-22", gone="HTTP 404")


def test_a_store_without_a_file_keeps_as_long_as_it_lives():
    with closing(Store()) as store:
        store.put("/en/a", ANSWER)
        assert store.get("/en/a") == ANSWER
    with closing(Store()) as store:
        assert store.get("/en/a") is None


def test_threads_share_a_store(tmp_path):
    with closing(Store(tmp_path / "kept.sqlite")) as store, ThreadPoolExecutor(8) as threads:
        paths = [f"/en/{number}" for number in range(200)]
        list(threads.map(lambda path: store.put(path, Kept(path.encode(), "s")), paths))
        kept = list(threads.map(store.get, paths))
    assert [answer and answer.body for answer in kept] == [path.encode() for path in paths]


def test_sites_have_files_of_their_own(tmp_path):
    for number, url in enumerate(
        ("https://www.wikiart.org", "https://www-wikiart.org", "http://127.0.0.1:8080/")
    ):
        with closing(Store.of_site(tmp_path, url)) as store:
            assert store.get("/en/a") is None
            store.put("/en/a", ANSWER)
        assert len(list(tmp_path.glob("*.sqlite"))) == number + 1


def fill(path) -> None:
    with closing(Store(path)) as store:
        for number in range(300):
            store.put(f"/en/{number}", Kept(b"%d" % number * 50, "s"))


@pytest.mark.parametrize("damage", ["no database", "empty head", "torn pages"])
def test_a_damaged_file_is_set_aside_with_a_sentence(tmp_path, damage):
    path = tmp_path / "kept.sqlite"
    fill(path)
    content = bytearray(path.read_bytes())
    if damage == "no database":
        content[:] = b"<!DOCTYPE html>" * 1000
    elif damage == "empty head":
        content[:100] = bytes(100)
    else:
        content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    said: list[str] = []
    with closing(Store(path, said.append)) as store:
        assert store.get("/en/7") is None
        store.put("/en/7", ANSWER)
        assert store.get("/en/7") == ANSWER
    assert len(said) == 1 and "damaged" in said[0] and "kept.damaged" in said[0]
    assert (tmp_path / "kept.damaged").read_bytes() == content
    with closing(Store(path, said.append)) as store:
        assert store.get("/en/7") == ANSWER and len(said) == 1


def test_a_single_damaged_answer_is_as_if_it_were_not_there(tmp_path):
    path = tmp_path / "kept.sqlite"
    fill(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET body = ? WHERE path = '/en/7'", (b"no zlib",))
        connection.execute("UPDATE answers SET body = 7 WHERE path = '/en/8'")
    with closing(Store(path)) as store:
        assert store.get("/en/7") is None and store.get("/en/8") is None
        assert store.get("/en/9") == Kept(b"9" * 50, "s")


def test_trouble_that_is_no_damage_is_a_sentence_and_keeps_the_file(tmp_path):
    path = tmp_path / "kept.sqlite"
    path.mkdir()
    with pytest.raises(AtelierError, match=r"kept\.sqlite: unable to open database file: see to the disk"):
        Store(path)
