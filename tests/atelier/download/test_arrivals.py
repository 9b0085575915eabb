"""Arrivals survive kills, damage and full disks, and are judged again by other limits."""

import hashlib
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.download.arrivals import CREATE_TABLES, Arrival, Arrivals
from atelier.errors import AtelierError
from atelier.images.verify import ImageLimits
from tests.downloads import LIMITS, download_site, offers
from tests.lookalike import lookalike
from tests.pictures import jpeg


def test_other_limits_apply_to_arrivals_without_new_requests(tmp_path: Path) -> None:
    tiny = replace(offers(1)[0], id="f" * 24, image=jpeg((9, 99, 199), (40, 20)))
    with lookalike({"genre/marina": [*offers(5), tiny]}) as site:
        assert download_site(tmp_path, site)[tiny.id].status == "too-small"
        site.requests.clear()
        stricter = replace(LIMITS, image=ImageLimits(min_side_px=48, max_pixels=900_000))
        assert Counter(record.status for record in download_site(tmp_path, site, stricter).values()) == {
            "ok": 5,
            "too-small": 1,
        }
        milder = replace(LIMITS, image=ImageLimits(min_side_px=16, max_pixels=1_000_000))
        assert {record.status for record in download_site(tmp_path, site, milder).values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(tiny)}
        site.requests.clear()
        strictest = replace(LIMITS, image=ImageLimits(min_side_px=65, max_pixels=1_000_000))
        assert {record.status for record in download_site(tmp_path, site, strictest).values()} == {"too-small"}


def picture(content: bytes = bytes(1000)) -> Arrival:
    """A picture that all limits allow."""
    return Arrival(
        "ok", extension="jpg", sha256=hashlib.sha256(content).hexdigest(), came_px=(96, 64), original_px=(96, 64),
        content=content,
    )  # fmt: skip


def write_many(directory: Path, name: str, count: int) -> None:
    """Run in a process of its own: its works, then what all processes have in common."""
    with Arrivals(directory, LIMITS) as arrivals:
        for n in range(count):
            arrivals.save(f"{name} {n}", picture(f"{name} {n}".encode()))
            arrivals.save(f"common {n}", picture(f"common {n}".encode()))


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    names, count = ("one", "two", "three"), 40
    forking = multiprocessing.get_context("fork")
    children = [forking.Process(target=write_many, args=(tmp_path, name, count)) for name in names]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert len(arrivals) == (len(names) + 1) * count
        for key in (f"{name} {n}" for name in (*names, "common") for n in range(count)):
            assert arrivals.load(key) == picture(key.encode())


def test_two_open_stores_see_each_others_arrivals(tmp_path: Path) -> None:
    with Arrivals(tmp_path, LIMITS) as one, Arrivals(tmp_path, LIMITS) as other:
        other.save("b", Arrival("missing", "HTTP 404"))
        one.save("a", picture())
        other.save("c", Arrival("missing", "HTTP 404"))
        assert (one.load("a"), other.load("a")) == (picture(), picture())
        assert one.load("b") == other.load("c") == Arrival("missing", "HTTP 404")
        assert one.load("d") is None


def test_a_killed_process_loses_nothing_that_it_saved(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.atelier.download.test_arrivals import LIMITS, Arrivals, picture\n"
        "arrivals = Arrivals(Path(sys.argv[1]), LIMITS)\n"
        "for n in range(50):\n    arrivals.save(f'work {n}', picture())\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -9
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert [arrivals.load(f"work {n}") for n in range(50)] == [picture()] * 50


def test_a_damaged_file_is_renamed_and_its_pictures_are_fetched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lookalike({"genre/marina": offers(4)}) as site:
        first = download_site(tmp_path, site)
        (tmp_path / "original.v1.sqlite").write_bytes(b"<!DOCTYPE html>" * 1000)
        assert download_site(tmp_path, site) == first
    assert "set aside as original.v1.damaged" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(6))
def test_most_pictures_of_a_file_with_one_damaged_page_are_recovered(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with Arrivals(tmp_path, LIMITS) as arrivals:
        for n in range(100):
            arrivals.save(f"work {n}", picture(f"work {n}".encode() * 3000))
    content = bytearray(arrivals.path.read_bytes())
    place = 4096 * random.Random(seed).randrange(5, len(content) // 4096)
    content[place : place + 4096] = b"\xa5" * 4096
    arrivals.path.write_bytes(content)
    with Arrivals(tmp_path, LIMITS) as arrivals:
        kept = [arrivals.load(f"work {n}") for n in range(100)]
        kept = [arrivals.load(f"work {n}") for n in range(100)]  # after the damage was detected
        for n, arrival in enumerate(kept):
            assert arrival is None or arrival == picture(f"work {n}".encode() * 3000)
        assert sum(arrival is not None for arrival in kept) >= 50
        arrivals.save("another", picture())
        assert arrivals.load("another") == picture()


def test_a_picture_whose_bytes_have_changed_on_disk_is_fetched_again(tmp_path: Path) -> None:
    offered = offers(4)
    with lookalike({"genre/marina": offered}) as site:
        first = download_site(tmp_path, site)
        with closing(sqlite3.connect(tmp_path / "original.v1.sqlite")) as connection, connection:
            torn = bytes(len(offered[1].image))
            connection.execute("UPDATE arrivals SET content = ? WHERE content = ?", (torn, offered[1].image))
        site.requests.clear()
        assert download_site(tmp_path, site) == first
        assert [request.path for request in site.requests] == [site.path_of(offered[1])]


def test_a_full_disk_is_an_error_and_loses_nothing_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lookalike({"genre/marina": offers(12)}) as site:
        with monkeypatch.context() as patch:
            tables = (*CREATE_TABLES, "PRAGMA max_page_count = 7")
            patch.setattr("atelier.download.arrivals.CREATE_TABLES", tables)
            with pytest.raises(AtelierError, match=r"disk is full.*free some space"):
                download_site(tmp_path, site)
        with Arrivals(tmp_path, LIMITS) as arrivals:
            kept = len(arrivals)
        assert 0 < kept < 12
        time.sleep(0.3)  # the threads of the run that failed may still be asking
        site.requests.clear()
        assert {record.status for record in download_site(tmp_path, site).values()} == {"ok"}
        assert len(site.requests) == 12 - kept


def test_a_file_without_write_permission_is_an_error_that_says_so(tmp_path: Path) -> None:
    with Arrivals(tmp_path, LIMITS) as arrivals, closing(sqlite3.connect(arrivals.path)) as other:
        arrivals.save("a", picture())
        arrivals._database.rows("PRAGMA query_only = ON")  # as a root-owned file is to others, and to root as well
        with pytest.raises(AtelierError, match=r"original\.v1\.sqlite: you may not write to it"):
            arrivals.save("b", picture())
        assert other.execute("SELECT count(*) FROM arrivals").fetchone() == (1,)


def test_the_space_of_replaced_arrivals_is_reused(tmp_path: Path) -> None:
    with Arrivals(tmp_path, LIMITS) as arrivals:
        for _ in range(30):
            for n in range(20):
                arrivals.save(f"work {n}", picture(bytes(20_000)))
    assert arrivals.path.stat().st_size < 2 * 20 * 20_000
