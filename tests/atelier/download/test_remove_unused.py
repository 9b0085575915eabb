"""Removing arrivals that no recent catalog uses, and returning their space."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atelier.download.arrivals import Arrivals, FileUsage, recent_since, remove_unused, usage
from tests.atelier.download.test_arrivals import picture
from tests.downloads import LIMITS, offers, run_download, source_of, work
from tests.lookalike import lookalike

TODAY = datetime.now(UTC).date()


def days_ago(days: int) -> str:
    return (TODAY - timedelta(days)).isoformat()


def fill(directory: Path, name: str, count: int, used_days_ago: int) -> Path:
    """Keep `count` pictures of 50 kB that a catalog used `used_days_ago`."""
    with Arrivals(directory, LIMITS) as arrivals:
        keys = [f"{name} {n}" for n in range(count)]
        before = {key for (key,) in arrivals._database.rows("SELECT key FROM named")}
        arrivals.mark_used(keys)
        for key in keys:
            arrivals.save(key, picture(key.encode() * 5000))
        places = ", ".join("?" * len(before))
        arrivals._database.rows(
            f"UPDATE named SET day = ? WHERE key NOT IN ({places})", (days_ago(used_days_ago), *before)
        )
    return arrivals.path


def test_unused_arrivals_are_counted_and_removed_and_the_others_stay(tmp_path: Path) -> None:
    fill(tmp_path, "old genre", 30, used_days_ago=40)
    path = fill(tmp_path, "genre", 10, used_days_ago=3)
    assert recent_since(tmp_path, 30).isoformat() == days_ago(30)
    (kept,) = usage(tmp_path, recent_since(tmp_path, 30))
    assert (kept.path, kept.works, kept.unused_works) == (path, 40, 30)
    assert kept.bytes > kept.unused_bytes > 30 * 45_000
    before = path.stat().st_size
    remove_unused(tmp_path, recent_since(tmp_path, 30))
    assert path.stat().st_size < before / 2.5
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert len(arrivals) == 10
        assert all(arrivals.load(f"genre {n}") for n in range(10))
    (kept,) = usage(tmp_path, recent_since(tmp_path, 30))
    assert kept.unused_works == 0


def test_arrivals_of_the_last_download_stay_however_long_ago_it_was(tmp_path: Path) -> None:
    fill(tmp_path, "older", 2, used_days_ago=500)
    fill(tmp_path, "last", 3, used_days_ago=400)
    day = recent_since(tmp_path, 30)
    assert day.isoformat() == days_ago(400)
    remove_unused(tmp_path, day)
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert [bool(arrivals.load(f"last {n}")) for n in range(3)] == [True] * 3
        assert arrivals.load("older 0") is None


def test_files_of_earlier_versions_and_damaged_ones_are_removed_by_their_date(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / name for name in ("512.arrivals", "512.v1.damaged", "notes.txt"))
    for path in (old, new, foreign):
        path.write_bytes(bytes(1000))
    for path in (old, foreign):
        os.utime(path, (1.7e9, 1.7e9))
    day = recent_since(tmp_path, 30)
    assert usage(tmp_path, day) == [FileUsage(old, 0, 1000, 0, 1000), FileUsage(new, 0, 1000, 0, 0)]
    remove_unused(tmp_path, day)
    assert sorted(tmp_path.iterdir()) == [new, foreign]


def test_usage_changes_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, "genre", 3, used_days_ago=40)
    before = path.read_bytes()
    (kept,) = usage(tmp_path, recent_since(tmp_path, 30))
    assert kept.works == 3
    assert [(found, found.read_bytes()) for found in tmp_path.iterdir()] == [(path, before)]


def test_the_usage_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert usage(tmp_path / "absent", recent_since(tmp_path / "absent", 30)) == []


def test_a_download_marks_all_works_of_its_catalog_as_used(tmp_path: Path) -> None:
    with lookalike({"genre/marina": offers(6)}) as site, source_of(site) as source:
        works = [work(offer.id, site.url_of(offer)) for offer in offers(6)]
        run_download(tmp_path, source, works)
    with closing(sqlite3.connect(tmp_path / "original.v1.sqlite")) as connection, connection:
        connection.execute("UPDATE named SET day = ?", (days_ago(90),))
    with lookalike({"genre/marina": offers(6)}) as site, source_of(site) as source:
        run_download(tmp_path, source, works[:2])
    (kept,) = usage(tmp_path, recent_since(tmp_path, 30))
    assert (kept.works, kept.unused_works) == (6, 4)
