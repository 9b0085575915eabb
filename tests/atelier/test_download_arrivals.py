"""What has arrived outlives kills, power cuts, full disks and other limits."""

import errno
import hashlib
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.download.arrivals import Arrival, Arrivals
from atelier.errors import AtelierError
from atelier.images import ImageLimits
from tests.downloads import LIMITS, bring_from, offers
from tests.lookalike import lookalike
from tests.pictures import jpeg


def test_other_limits_judge_what_has_arrived_without_asking_again(tmp_path: Path) -> None:
    tiny = replace(offers(1)[0], id="f" * 24, image=jpeg((9, 99, 199), (40, 20)))
    with lookalike({"genre/marina": [*offers(5), tiny]}) as site:
        assert bring_from(tmp_path, site)[tiny.id].status == "too-small"
        site.requests.clear()
        stricter = replace(LIMITS, image=ImageLimits(min_side_px=48, max_pixels=900_000))
        assert Counter(e.status for e in bring_from(tmp_path, site, stricter).values()) == {
            "ok": 5,
            "too-small": 1,
        }
        milder = replace(LIMITS, image=ImageLimits(min_side_px=16, max_pixels=1_000_000))
        assert {entry.status for entry in bring_from(tmp_path, site, milder).values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(tiny)}
        site.requests.clear()
        strictest = replace(LIMITS, image=ImageLimits(min_side_px=65, max_pixels=1_000_000))
        assert {entry.status for entry in bring_from(tmp_path, site, strictest).values()} == {"too-small"}


@pytest.mark.parametrize("lost", [1, 200, 900])
def test_an_arrival_that_a_kill_cut_short_is_asked_for_again(tmp_path: Path, lost: int) -> None:
    with lookalike({"genre/marina": offers(4)}) as site:
        first = bring_from(tmp_path, site)
        kept = next(tmp_path.iterdir())
        kept.write_bytes(kept.read_bytes()[:-lost])
        for asked in (1, 0):
            site.requests.clear()
            assert bring_from(tmp_path, site) == first
            assert len(site.requests) == asked


def test_bytes_that_a_power_cut_tore_are_asked_for_again(tmp_path: Path) -> None:
    offered = offers(4)
    with lookalike({"genre/marina": offered}) as site:
        first = bring_from(tmp_path, site)
        kept = next(tmp_path.iterdir())
        kept.write_bytes(kept.read_bytes().replace(offered[1].image, bytes(len(offered[1].image))))
        site.requests.clear()
        assert bring_from(tmp_path, site) == first
        assert [request.path for request in site.requests] == [site.path_of(offered[1])]


def test_another_versions_arrivals_are_no_arrivals(tmp_path: Path) -> None:
    (tmp_path / "original.arrivals").write_bytes(b'{"version": 0}\n' + bytes(5000))
    with lookalike({"genre/marina": offers(4)}) as site:
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"ok"}


def test_a_full_disk_is_a_sentence_and_what_was_kept_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lookalike({"genre/marina": offers(12)}) as site:
        pwrite, room = os.pwrite, [5000]

        def fills_up(file: int, content: bytes, offset: int) -> int:
            part = content[: room[0]]
            if not part:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= len(part)
            return pwrite(file, part, offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fills_up)
            with pytest.raises(AtelierError, match=r"disk is full.*free some space"):
                bring_from(tmp_path, site)
        with Arrivals(tmp_path, LIMITS) as arrivals:
            kept = len(arrivals)
        assert 0 < kept < 12
        time.sleep(0.3)  # the threads of the run that failed may still be asking
        site.requests.clear()
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"ok"}
        assert len(site.requests) == 12 - kept


def test_a_file_that_is_mostly_replaced_records_is_made_smaller_and_loses_nothing(tmp_path: Path) -> None:
    arrival = Arrival(
        "ok", extension="jpg", sha256=hashlib.sha256(bytes(1000)).hexdigest(), content=bytes(1000)
    )
    arrival = replace(arrival, came_px=(96, 64), original_px=(96, 64))
    with Arrivals(tmp_path, LIMITS) as arrivals:
        for _ in range(30):
            for n in range(100):
                arrivals.save(f"work {n}", arrival)
        (tmp_path / ".original.arrivals.left.tmp").write_bytes(b"what a kill left")
        before = arrivals.path.stat().st_size
        arrivals.compact()
        assert arrivals.path.stat().st_size < before / 20
        arrivals.save("another", arrival)
    with Arrivals(tmp_path, LIMITS) as arrivals:
        assert len(arrivals) == 101
        assert {arrivals.load(key) for key in (*(f"work {n}" for n in range(100)), "another")} == {arrival}
        left = arrivals.path.stat().st_size
        arrivals.compact()
        assert arrivals.path.stat().st_size == left
    assert [path.name for path in tmp_path.iterdir()] == ["original.arrivals"]


def test_where_there_is_no_room_to_make_it_smaller_the_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Arrivals(tmp_path, LIMITS) as arrivals:
        for _ in range(3000):
            arrivals.save("a work", Arrival("missing", "HTTP 404" * 100))
        before = arrivals.path.read_bytes()

        def full(file: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        arrivals.compact()
        assert arrivals.path.read_bytes() == before
        assert arrivals.load("a work") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["original.arrivals"]
