"""Threads or a Dask cluster: the same pictures and the same account, at the set rate, whatever becomes of a worker."""

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from PIL import Image

import atelier
from atelier.download import engines_dask
from atelier.download.engines import PATIENCE, Order, Processes, Threads, code, digest_of_package, shares
from atelier.download.engines import bring as bring_shard
from atelier.download.engines_dask import WORKS_PER_SHARD, Cluster
from atelier.download.sources import FolderOpening, SiteOpening
from atelier.errors import AtelierError
from tests.downloads import LIMITS, bring, kill_a_worker, offers, outs, work, works_of
from tests.lookalike import Site, lookalike
from tests.pictures import encoded, jpeg


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A scheduler and two worker processes, as other machines would have them."""
    scratch = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
        local_directory=str(scratch), memory_limit=0, silence_logs=50,
    ) as started:  # fmt: skip
        yield started


def engine(site: Site, dask: LocalCluster, scratch: Path, **changes: Any) -> Cluster:
    settings = {"rate_per_s": None, "retries": 4, "timeout_s": 5.0, **changes}
    opening = SiteOpening(site.base_url, "", max_bytes=LIMITS.max_bytes, **settings)
    return Cluster(opening, LIMITS, 4, dask.scheduler_address, scratch)


def test_a_dask_cluster_downloads_the_same_set_byte_for_byte(tmp_path: Path, dask: LocalCluster) -> None:
    troubled = [replace(o, faults=("truncate",)) if n == 7 else o for n, o in enumerate(offers(130))]
    lacking = [replace(o, id=f"f{n:023x}", behaviour="404") for n, o in enumerate(offers(5))]
    with lookalike({"genre/marina": [*troubled, *lacking]}) as site:
        expected = outs(tmp_path / "threads", site)
        assert outs(tmp_path / "dask", site, engine(site, dask, tmp_path)) == expected


def test_a_worker_that_is_killed_half_way_costs_nothing_but_its_shards(
    tmp_path: Path, dask: LocalCluster
) -> None:
    with lookalike({"genre/marina": offers(6 * WORKS_PER_SHARD)}) as site:
        expected = outs(tmp_path / "threads", site)
        site.requests.clear()
        killer = threading.Thread(target=kill_a_worker, args=(site, 2 * WORKS_PER_SHARD))
        killer.start()
        assert outs(tmp_path / "dask", site, engine(site, dask, tmp_path, rate_per_s=200.0)) == expected
        killer.join()
        asked = Counter(request.path for request in site.requests if "/images/" in request.path)
    assert len(asked) == 6 * WORKS_PER_SHARD
    assert asked.total() - len(asked) <= WORKS_PER_SHARD  # what the lost worker had not handed over


def test_all_workers_together_keep_to_the_set_rate(tmp_path: Path, dask: LocalCluster) -> None:
    with lookalike({"genre/marina": offers(90)}) as site:
        outs(tmp_path, site, engine(site, dask, tmp_path, rate_per_s=50.0))
        assert 30 <= site.peak_per_s() <= 50


def test_a_site_that_refuses_everyone_is_left_alone_by_all_workers(
    tmp_path: Path, dask: LocalCluster
) -> None:
    offered = [replace(o, behaviour="403") for o in offers(8 * WORKS_PER_SHARD)]
    with lookalike({"genre/marina": offered}) as site:
        with pytest.raises(AtelierError, match=rf"failed {PATIENCE} works in a row.*403"):
            outs(tmp_path, site, engine(site, dask, tmp_path))
        assert len(site.requests) < 4 * WORKS_PER_SHARD


def test_where_no_scheduler_answers_the_error_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_dask, "CONNECT_WITHIN_S", 0.5)
    nobody = Cluster(FolderOpening(tmp_path, 1000), LIMITS, 4, "tcp://127.0.0.1:9", tmp_path)
    with pytest.raises(AtelierError, match=r"tcp://127\.0\.0\.1:9.*dask scheduler"):
        next(nobody.run([work("a", "a.jpg")]))


def test_every_module_of_the_package_is_part_of_the_code_that_workers_must_share(tmp_path: Path) -> None:
    package = Path(atelier.__file__).parent
    copy = tmp_path / "atelier"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    same = digest_of_package(copy)
    assert same == digest_of_package(package)
    for name in (
        "images/verify.py",
        "download/fetch.py",
        "download/engines.py",
        "web/client.py",
        "gallery/scenery.py",
    ):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content + b"# changed\n")
        assert digest_of_package(copy) != same, name
        (copy / name).write_bytes(content)
    (copy / "web/hosts.py").rename(copy / "web/names.py")
    assert digest_of_package(copy) != same


@pytest.mark.slow
def test_a_dask_worker_with_other_code_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(
        Path(atelier.__file__).parent, copy / "atelier", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (copy / "atelier/download/fetch.py").open("a") as file:
        file.write("# as another version would have it\n")
    (tmp_path / "a.jpg").write_bytes(jpeg((1, 2, 250), (96, 64)))
    with LocalCluster(
        n_workers=0,
        processes=True,
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path),
        silence_logs=50,
    ) as scheduler:
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            scheduler.scheduler_address,
            "--no-nanny",
        ]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as worker:
            try:
                others = Cluster(
                    FolderOpening(tmp_path, 100_000), LIMITS, 4, scheduler.scheduler_address, tmp_path
                )
                with pytest.raises(AtelierError, match=r"a worker has other code than the stage"):
                    list(others.run([work("a", "a.jpg")]))
            finally:
                worker.kill()


def test_no_odd_file_ends_a_download_and_every_engine_gives_the_same_verdicts(tmp_path: Path) -> None:
    grey = np.asarray(Image.linear_gradient("L").resize((96, 64)), np.uint16) * 257
    files = {
        "good": jpeg((1, 2, 250), (96, 64)),
        "deep": Image.frombytes("I;16B", (96, 64), grey.astype(">u2").tobytes()),
        "cut": jpeg((1, 200, 3), (96, 64))[:-30],
        "empty": b"",
    }
    # more in a row than a site may fail: these are the pictures' own faults
    files |= {f"float{n:02d}": Image.fromarray((grey + n).astype(np.float32)) for n in range(PATIENCE + 5)}
    files |= {f"note{n:02d}": f"note {n}".encode() for n in range(PATIENCE + 5)}
    for name, file in files.items():
        content = file if isinstance(file, bytes) else encoded(file, "TIFF")
        (tmp_path / name).write_bytes(content)
    works = [work(name, name) for name in files]
    opening = FolderOpening(tmp_path, 1_000_000)
    with opening.opened() as source:
        by_threads = {asked.id: answer for asked, answer in Threads(source, LIMITS, 4).run(works)}
    by_processes = {asked.id: answer for asked, answer in Processes(opening, LIMITS, 2).run(works)}
    order = Order(opening, LIMITS, threads=2, code=code())
    by_dask = dict(zip(files, bring_shard(works, order, lambda: False), strict=True))
    assert by_threads == by_processes == by_dask
    statuses = Counter(answer.arrival.status for answer in by_threads.values())
    assert statuses == {"ok": 2, "truncated": 1, "not-an-image": PATIENCE + 6, "refused": PATIENCE + 5}
    with opening.opened() as source:
        entries = bring(tmp_path / "kept", source, works)
    assert Counter(entry.status for entry in entries.values()) == statuses
    assert {answer.arrival.reason for id, answer in by_threads.items() if id.startswith("float")} == {
        "TIFF with floating-point samples, whose white is not known"
    }


def test_a_shard_that_nobody_wants_any_more_is_given_up(tmp_path: Path) -> None:
    order = Order(FolderOpening(tmp_path, 100_000), LIMITS, threads=1, code=code())
    works = [work(f"w{n}", "absent.jpg") for n in range(50)]
    assert len(bring_shard(works, order, lambda: True)) == 1


@pytest.mark.parametrize("rate_per_s", [0.2, 1.0, 5.0, 7.0, 10.0, 33.3, 1000.0])
@pytest.mark.parametrize("processes", [1, 2, 4, 16])
def test_the_shares_of_a_rate_never_exceed_it_in_any_second(rate_per_s: float, processes: int) -> None:
    lanes, share_per_s = shares(rate_per_s, processes)
    assert 1 <= lanes <= processes
    assert share_per_s is not None
    assert 0.9 * rate_per_s <= lanes * share_per_s <= rate_per_s
    assert lanes == 1 or share_per_s == int(share_per_s)  # a lane of 2.5 a second sends three in some seconds


@pytest.mark.parametrize(("workers", "what"), [(0, "has no worker"), (1, "has gone")])
def test_a_cluster_without_workers_or_that_ends_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, what: str
) -> None:
    monkeypatch.setattr(engines_dask, "WITHOUT_WORKERS_S", 0.3)
    with (
        lookalike({"genre/marina": offers(4 * WORKS_PER_SHARD)}) as site,
        LocalCluster(
            n_workers=workers,
            processes=False,
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as ending,
    ):
        answers = engine(site, ending, tmp_path, rate_per_s=200.0).run(works_of(site))
        with pytest.raises(AtelierError, match=rf"{what}; what has arrived is kept, and `dvc repro`"):
            for number, _ in enumerate(answers):
                if number == 0:
                    ending.close()
