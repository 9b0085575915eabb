"""Only what no recent catalog names is dropped, and its space is given back."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atelier.download.arrivals import Arrivals, Kept, drop, since, survey
from tests.atelier.download.test_arrivals import some
from tests.downloads import LIMITS, bring, offers, source_of, work
from tests.lookalike import lookalike

TODAY = datetime.now(UTC).date()


def days_ago(days: int) -> str:
    return (TODAY - timedelta(days)).isoformat()


def fill(directory: Path, name: str, count: int, named_days_ago: int) -> Path:
    """So many pictures of 50 kB that a catalog named so many days ago."""
    with Arrivals(directory, LIMITS) as arrivals:
        keys = [f"{name} {n}" for n in range(count)]
        before = {key for (key,) in arrivals._database.rows("SELECT key FROM named")}
        arrivals.name(keys)
        for key in keys:
            arrivals.save(key, some(key.encode() * 5000))
        places = ", ".join("?" * len(before))
        arrivals._database.rows(
            f"UPDATE named SET day = ? WHERE key NOT IN ({places})", (days_ago(named_days_ago), *before)
        )
    return arrivals.path


def test_what_no_recent_catalog_names_is_counted_and_dropped_and_the_rest_stays(tmp_path: Path) -> None:
    fill(tmp_path, "old genre", 30, named_days_ago=40)
    path = fill(tmp_path, "genre", 10, named_days_ago=3)
    assert since(tmp_path, 30).isoformat() == days_ago(30)
    (kept,) = survey(tmp_path, since(tmp_path, 30))
    assert (kept.path, kept.works, kept.unnamed_works) == (path, 40, 30)
    assert kept.bytes > kept.unnamed_bytes > 30 * 45_000
    before = path.stat().st_size
    drop(tmp_path, since(tmp_path, 30))
    assert path.stat().st_size < before / 2.5
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert len(arrivals) == 10
        assert all(arrivals.load(f"genre {n}") for n in range(10))
    (kept,) = survey(tmp_path, since(tmp_path, 30))
    assert kept.unnamed_works == 0


def test_the_last_downloads_pictures_stay_however_long_ago_it_was(tmp_path: Path) -> None:
    fill(tmp_path, "older", 2, named_days_ago=500)
    fill(tmp_path, "last", 3, named_days_ago=400)
    day = since(tmp_path, 30)
    assert day.isoformat() == days_ago(400)
    drop(tmp_path, day)
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert [bool(arrivals.load(f"last {n}")) for n in range(3)] == [True] * 3
        assert arrivals.load("older 0") is None


def test_old_files_of_earlier_versions_and_damaged_ones_are_dropped_by_their_date(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / name for name in ("512.arrivals", "512.v1.damaged", "notes.txt"))
    for path in (old, new, foreign):
        path.write_bytes(bytes(1000))
    for path in (old, foreign):
        os.utime(path, (1.7e9, 1.7e9))
    day = since(tmp_path, 30)
    assert survey(tmp_path, day) == [Kept(old, 0, 1000, 0, 1000), Kept(new, 0, 1000, 0, 0)]
    drop(tmp_path, day)
    assert sorted(tmp_path.iterdir()) == [new, foreign]


def test_a_survey_changes_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, "genre", 3, named_days_ago=40)
    before = path.read_bytes()
    (kept,) = survey(tmp_path, since(tmp_path, 30))
    assert kept.works == 3
    assert [(found, found.read_bytes()) for found in tmp_path.iterdir()] == [(path, before)]


def test_a_survey_of_nothing_finds_nothing(tmp_path: Path) -> None:
    assert survey(tmp_path / "absent", since(tmp_path / "absent", 30)) == []


def test_a_download_names_all_works_of_its_catalog_those_kept_before_as_well(tmp_path: Path) -> None:
    with lookalike({"genre/marina": offers(6)}) as site, source_of(site) as source:
        works = [work(offer.id, site.url_of(offer)) for offer in offers(6)]
        bring(tmp_path, source, works)
    with closing(sqlite3.connect(tmp_path / "original.v1.sqlite")) as connection, connection:
        connection.execute("UPDATE named SET day = ?", (days_ago(90),))
    with lookalike({"genre/marina": offers(6)}) as site, source_of(site) as source:
        bring(tmp_path, source, works[:2])
    (kept,) = survey(tmp_path, since(tmp_path, 30))
    assert (kept.works, kept.unnamed_works) == (6, 4)
