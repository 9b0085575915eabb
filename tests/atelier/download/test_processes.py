"""The engine of processes: the same bytes as with threads, at the set rate, and no process left behind."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from atelier.download.engines import WORKS_PER_SHARD, Processes
from atelier.download.sources import SiteSpec
from atelier.errors import AtelierError
from tests.downloads import LIMITS, kill_a_worker, offers, outs, works_of
from tests.lookalike import Site, lookalike


def engine(site: Site, workers: int, **changes: Any) -> Processes:
    settings = {"rate_per_s": None, "retries": 4, "timeout_s": 5.0, **changes}
    return Processes(SiteSpec(site.base_url, "", max_bytes=LIMITS.max_bytes, **settings), LIMITS, workers)


@pytest.mark.parametrize("workers", [2, 6])
def test_processes_give_the_same_bytes_as_threads(tmp_path: Path, workers: int) -> None:
    with lookalike({"genre/marina": offers(3 * WORKS_PER_SHARD)}) as site:
        expected = outs(tmp_path / "threads", site)
        assert outs(tmp_path / "processes", site, engine(site, workers)) == expected


def test_all_processes_together_keep_to_the_rate(tmp_path: Path) -> None:
    with lookalike({"genre/marina": offers(60)}) as site:
        outs(tmp_path, site, engine(site, 8, rate_per_s=40.0))
        assert 20 <= site.peak_per_s() <= 40


def test_a_killed_process_is_an_error_and_ends_the_others() -> None:
    slow = [replace(offer, behaviour="drip") for offer in offers(20)]
    with lookalike({"genre/marina": slow}) as site:
        before = set(psutil.Process().children())
        threading.Thread(target=kill_a_worker, args=(site, 3)).start()
        with pytest.raises(AtelierError, match="died; what has arrived is kept"):
            list(engine(site, 2, rate_per_s=40.0).run(works_of(site)))
        children = set(psutil.Process().children()) - before
        _, left = psutil.wait_procs(children, timeout=5)
        assert all("resource_tracker" in " ".join(child.cmdline()) for child in left)  # Python's own, which stays
