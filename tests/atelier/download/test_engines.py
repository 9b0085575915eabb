"""Engines: the same pictures and records with each, at the set rate, also if a worker dies."""

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
from atelier.download.engines import (
    MAX_FAILURES_IN_A_ROW,
    WORKS_PER_SHARD,
    Processes,
    ShardJob,
    Threads,
    code_digest,
    code_version,
    fetch_shard,
    split_rate,
)
from atelier.download.engines_dask import Cluster
from atelier.download.sources import FolderSpec, SiteSpec
from atelier.errors import AtelierError
from tests.downloads import LIMITS, kill_a_worker, offers, outs, run_download, work, works_of
from tests.lookalike import Site, lookalike
from tests.pictures import encoded, jpeg


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A scheduler and two worker processes."""
    scratch = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
        local_directory=str(scratch), memory_limit=0, silence_logs=50,
    ) as started:  # fmt: skip
        yield started


def cluster(site: Site, dask: LocalCluster, scratch: Path, **changes: Any) -> Cluster:
    settings = {"rate_per_s": None, "retries": 4, "timeout_s": 5.0, **changes}
    spec = SiteSpec(site.base_url, "", max_bytes=LIMITS.max_bytes, **settings)
    return Cluster(spec, LIMITS, 4, dask.scheduler_address, scratch)


def test_a_dask_cluster_gives_the_same_bytes_as_threads(tmp_path: Path, dask: LocalCluster) -> None:
    troubled = [replace(o, faults=("truncate",)) if n == 7 else o for n, o in enumerate(offers(130))]
    lacking = [replace(o, id=f"f{n:023x}", behaviour="404") for n, o in enumerate(offers(5))]
    with lookalike({"genre/marina": [*troubled, *lacking]}) as site:
        expected = outs(tmp_path / "threads", site)
        assert outs(tmp_path / "dask", site, cluster(site, dask, tmp_path)) == expected


def test_a_killed_worker_costs_only_its_shards(tmp_path: Path, dask: LocalCluster) -> None:
    with lookalike({"genre/marina": offers(6 * WORKS_PER_SHARD)}) as site:
        expected = outs(tmp_path / "threads", site)
        site.requests.clear()
        killer = threading.Thread(target=kill_a_worker, args=(site, 2 * WORKS_PER_SHARD))
        killer.start()
        assert outs(tmp_path / "dask", site, cluster(site, dask, tmp_path, rate_per_s=200.0)) == expected
        killer.join()
        asked = Counter(request.path for request in site.requests if "/images/" in request.path)
    assert len(asked) == 6 * WORKS_PER_SHARD
    assert asked.total() - len(asked) <= WORKS_PER_SHARD  # what the killed worker had not returned


def test_all_workers_together_keep_to_the_rate(tmp_path: Path, dask: LocalCluster) -> None:
    with lookalike({"genre/marina": offers(90)}) as site:
        outs(tmp_path, site, cluster(site, dask, tmp_path, rate_per_s=50.0))
        assert 30 <= site.peak_per_s() <= 50


def test_after_many_refusals_in_a_row_all_workers_stop(tmp_path: Path, dask: LocalCluster) -> None:
    offered = [replace(o, behaviour="403") for o in offers(8 * WORKS_PER_SHARD)]
    with lookalike({"genre/marina": offered}) as site:
        with pytest.raises(AtelierError, match=rf"failed {MAX_FAILURES_IN_A_ROW} works in a row.*403"):
            outs(tmp_path, site, cluster(site, dask, tmp_path))
        assert len(site.requests) < 4 * WORKS_PER_SHARD


def test_the_error_for_a_missing_scheduler_says_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_dask, "CONNECT_TIMEOUT_S", 0.5)
    nobody = Cluster(FolderSpec(tmp_path, 1000), LIMITS, 4, "tcp://127.0.0.1:9", tmp_path)
    with pytest.raises(AtelierError, match=r"tcp://127\.0\.0\.1:9.*dask scheduler"):
        next(nobody.run([work("a", "a.jpg")]))


def test_the_error_for_missing_dask_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # importing it raises ImportError
    cluster = Cluster(FolderSpec(tmp_path, 1000), LIMITS, 4, None, tmp_path)
    with pytest.raises(AtelierError, match=r"needs distributed: `uv pip install 'distributed.*extra `dask`"):
        next(cluster.run([work("a", "a.jpg")]))


def test_every_module_of_the_package_is_part_of_the_code_digest(tmp_path: Path) -> None:
    package = Path(atelier.__file__).parent
    copy = tmp_path / "atelier"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    same = code_digest(copy)
    assert same == code_digest(package)
    for name in (
        "images/verify.py",
        "download/fetch.py",
        "download/engines.py",
        "web/client.py",
        "gallery/painter.py",
    ):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content + b"# changed\n")
        assert code_digest(copy) != same, name
        (copy / name).write_bytes(content)
    (copy / "web/limits.py").rename(copy / "web/names.py")
    assert code_digest(copy) != same


@pytest.mark.slow
def test_a_dask_worker_with_other_code_is_an_error(tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(Path(atelier.__file__).parent, copy / "atelier", ignore=shutil.ignore_patterns("__pycache__"))
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
                others = Cluster(FolderSpec(tmp_path, 100_000), LIMITS, 4, scheduler.scheduler_address, tmp_path)
                with pytest.raises(AtelierError, match=r"a worker has other code than the stage"):
                    list(others.run([work("a", "a.jpg")]))
            finally:
                worker.kill()


def test_odd_files_end_no_download_and_have_the_same_status_with_every_engine(tmp_path: Path) -> None:
    grey = np.asarray(Image.linear_gradient("L").resize((96, 64)), np.uint16) * 257
    files = {
        "good": jpeg((1, 2, 250), (96, 64)),
        "deep": Image.frombytes("I;16B", (96, 64), grey.astype(">u2").tobytes()),
        "cut": jpeg((1, 200, 3), (96, 64))[:-30],
        "empty": b"",
    }
    # more in a row than a site may fail: a file of a folder says nothing about the next
    files |= {f"float{n:02d}": Image.fromarray((grey + n).astype(np.float32)) for n in range(MAX_FAILURES_IN_A_ROW + 5)}
    files |= {f"note{n:02d}": f"note {n}".encode() for n in range(MAX_FAILURES_IN_A_ROW + 5)}
    for name, file in files.items():
        content = file if isinstance(file, bytes) else encoded(file, "TIFF")
        (tmp_path / name).write_bytes(content)
    works = [work(name, name) for name in files]
    spec = FolderSpec(tmp_path, 1_000_000)
    with spec.open() as source:
        by_threads = {work.id: outcome for work, outcome in Threads(source, LIMITS, 4).run(works)}
    by_processes = {work.id: outcome for work, outcome in Processes(spec, LIMITS, 2).run(works)}
    job = ShardJob(spec, LIMITS, threads=2, code_version=code_version())
    by_dask = dict(zip(files, fetch_shard(works, job, lambda: False), strict=True))
    assert by_threads == by_processes == by_dask
    statuses = Counter(outcome.arrival.status for outcome in by_threads.values())
    assert statuses == {
        "ok": 2,
        "truncated": 1,
        "not-an-image": MAX_FAILURES_IN_A_ROW + 6,
        "refused": MAX_FAILURES_IN_A_ROW + 5,
    }
    with spec.open() as source:
        records = run_download(tmp_path / "kept", source, works)
    assert Counter(record.status for record in records.values()) == statuses
    assert {outcome.arrival.reason for id, outcome in by_threads.items() if id.startswith("float")} == {
        "TIFF with floating-point samples, whose white is not known"
    }


def test_a_cancelled_shard_ends_after_the_present_work(tmp_path: Path) -> None:
    job = ShardJob(FolderSpec(tmp_path, 100_000), LIMITS, threads=1, code_version=code_version())
    works = [work(f"w{n}", "absent.jpg") for n in range(50)]
    assert len(fetch_shard(works, job, lambda: True)) == 1


@pytest.mark.parametrize("rate_per_s", [0.2, 1.0, 5.0, 7.0, 10.0, 33.3, 1000.0])
@pytest.mark.parametrize("processes", [1, 2, 4, 16])
def test_the_divided_rates_never_exceed_the_rate_in_any_second(rate_per_s: float, processes: int) -> None:
    count, share_per_s = split_rate(rate_per_s, processes)
    assert 1 <= count <= processes
    assert share_per_s is not None
    assert 0.9 * rate_per_s <= count * share_per_s <= rate_per_s
    assert count == 1 or share_per_s == int(share_per_s)  # a rate of 2.5 sends three requests in some seconds


@pytest.mark.parametrize(("workers", "what"), [(0, "has no worker"), (1, "no longer answers")])
def test_a_cluster_without_workers_or_that_ends_is_a_temporary_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, what: str
) -> None:
    monkeypatch.setattr(engines_dask, "NO_WORKERS_TIMEOUT_S", 0.3)
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
        answers = cluster(site, ending, tmp_path, rate_per_s=200.0).run(works_of(site))
        with pytest.raises(AtelierError, match=rf"{what}; what has arrived is kept, and `dvc repro`"):
            for number, _ in enumerate(answers):
                if number == 0:
                    ending.close()
