"""The response cache: durability, threads, and damaged files."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from atelier.errors import AtelierError
from atelier.wikiart.cached_client import CachedResponse, ResponseCache

RESPONSE = CachedResponse(
    b'{"Paintings": []}' * 50, "2026-11-22", etag='"abc"', last_modified="Sun, 22 Nov 2026", fingerprint="f"
)


def test_a_cached_response_is_there_in_the_next_process(tmp_path):
    path = tmp_path / "new" / "kept.sqlite"
    with closing(ResponseCache(path)) as cache:
        assert cache.get("/en/a") is None
        cache.put("/en/a", CachedResponse(b"old", "2026-11-21"))
        cache.put("/en/a", RESPONSE)
        cache.put("/en/missing", CachedResponse(b"", "2026-11-22", not_found="HTTP 404"))
        with closing(ResponseCache(path)) as other:  # while the first is open, as after a kill
            assert other.get("/en/a") == RESPONSE
            assert other.get("/en/missing") == CachedResponse(b"", "2026-11-22", not_found="HTTP 404")


def test_a_cache_without_a_file_lasts_until_it_is_closed():
    with closing(ResponseCache()) as cache:
        cache.put("/en/a", RESPONSE)
        assert cache.get("/en/a") == RESPONSE
    with closing(ResponseCache()) as cache:
        assert cache.get("/en/a") is None


def test_threads_share_a_cache(tmp_path):
    with closing(ResponseCache(tmp_path / "kept.sqlite")) as cache, ThreadPoolExecutor(8) as threads:
        paths = [f"/en/{number}" for number in range(200)]
        list(threads.map(lambda path: cache.put(path, CachedResponse(path.encode(), "s")), paths))
        kept = list(threads.map(cache.get, paths))
    assert [answer and answer.body for answer in kept] == [path.encode() for path in paths]


def test_each_site_has_its_own_file(tmp_path):
    for number, url in enumerate(("https://www.wikiart.org", "https://www-wikiart.org", "http://127.0.0.1:8080/")):
        with closing(ResponseCache.of_site(tmp_path, url)) as cache:
            assert cache.get("/en/a") is None
            cache.put("/en/a", RESPONSE)
        assert len(list(tmp_path.glob("*.sqlite"))) == number + 1


def fill(path) -> None:
    with closing(ResponseCache(path)) as cache:
        for number in range(300):
            cache.put(f"/en/{number}", CachedResponse(b"%d" % number * 50, "s"))


@pytest.mark.parametrize("damage", ["no database", "empty head", "torn pages"])
def test_a_damaged_file_is_renamed_and_reported(tmp_path, damage):
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
    told: list[str] = []
    with closing(ResponseCache(path, told.append)) as cache:
        assert cache.get("/en/7") is None
        cache.put("/en/7", RESPONSE)
        assert cache.get("/en/7") == RESPONSE
    assert len(told) == 1 and "damaged" in told[0] and "kept.damaged" in told[0]
    assert (tmp_path / "kept.damaged").read_bytes() == content
    with closing(ResponseCache(path, told.append)) as cache:
        assert cache.get("/en/7") == RESPONSE and len(told) == 1


def test_a_single_damaged_response_counts_as_missing(tmp_path):
    path = tmp_path / "kept.sqlite"
    fill(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET body = ? WHERE path = '/en/7'", (b"no zlib",))
        connection.execute("UPDATE answers SET body = 7 WHERE path = '/en/8'")
    with closing(ResponseCache(path)) as cache:
        assert cache.get("/en/7") is None and cache.get("/en/8") is None
        assert cache.get("/en/9") == CachedResponse(b"9" * 50, "s")


def test_an_error_other_than_damage_keeps_the_file_and_says_what_to_check(tmp_path):
    path = tmp_path / "kept.sqlite"
    path.mkdir()
    with pytest.raises(AtelierError, match=r"kept\.sqlite: unable to open database file: see to the disk"):
        ResponseCache(path)
