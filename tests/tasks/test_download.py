"""The stage as DVC runs it: resumed after a kill, stopped by signals, with an account of missing pictures."""

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from PIL import Image

from atelier.data.catalog import Work, read_downloads, write_catalog
from atelier.data.shards import find_picture, read_shards
from atelier.download.arrivals import Arrivals, Limits
from atelier.download.engines import WORKS_PER_SHARD
from atelier.download.fetch import arrival_key
from atelier.download.sources import SiteSpec
from atelier.gallery.server import serve, virtual_url
from atelier.images.verify import ImageLimits
from tasks.download import run
from tasks.stage import main
from tests.downloads import offers, work
from tests.lookalike import Offer, Site, lookalike
from tests.stages import started

LIMITS = Limits(ImageLimits(32, 120_000_000), 100_000_000, None)  # as in write_params


@pytest.fixture(autouse=True)
def empty_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty work tree as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_params(source: str, base_url: str = "http://127.0.0.1:9", **download: object) -> None:
    """Write params.yaml with one source and a high rate."""
    section = {
        "rate_per_s": 1000.0,
        "retries": 2,
        "timeout_s": 20.0,
        "size_px": None,
        "min_side_px": 32,
    } | download
    values = "".join(f"  {key}: {'null' if value is None else value}\n" for key, value in section.items())
    Path("params.yaml").write_text(
        f"scrape:\n  source: {source}\n  wikiart:\n    base_url: {base_url}\n  folder:\n    path: mine\n"
        f"  gallery:\n    works: 8\n    size_px: 128\ndownload:\n{values}"
    )


def write_works(works: Sequence[Work]) -> None:
    write_catalog(works, Path("data/catalog.parquet"))


def spec() -> SiteSpec:
    return SiteSpec("http://127.0.0.1:9", "", None, 0, 1.0, 1)


RunStage = Callable[[], tuple[int, str, str]]


@pytest.fixture
def run_stage(capsys: pytest.CaptureFixture[str]) -> Iterator[RunStage]:
    """Runs the stage in this process: its exit code, stdout and stderr."""

    def run_stage() -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            main("download", run)
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    handler = signal.getsignal(signal.SIGTERM)
    yield run_stage
    signal.signal(signal.SIGTERM, handler)


def run_process() -> tuple[int, str, str]:
    with started("download") as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def outs() -> dict[str, str]:
    paths = [*Path("data/images").iterdir(), Path("data/downloads.parquet")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def kept() -> int:
    """The number of arrivals; the stage may be writing."""
    with Arrivals(Path(".atelier/images"), LIMITS) as arrivals:
        return len(arrivals)


def stored(works: Sequence[Work]) -> set[str]:
    """The paths of the works that have arrived."""
    with spec().open() as source, Arrivals(Path(".atelier/images"), LIMITS) as arrivals:
        return {urlsplit(w.image_url).path for w in works if arrivals.load(arrival_key(w, source))}


def wait_until(process: subprocess.Popen[str], true: object) -> None:
    deadline_s = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_download_killed_at_three_moments_resumes_without_repeated_requests(run_stage: RunStage) -> None:
    good = offers(160)
    bad = [Offer(id=f"{500 + n:024x}", behaviour="404") for n in range(10)]
    chance = random.Random(3)
    with lookalike({"genre/marina": [*good, *bad]}) as site:
        write_params("wikiart", site.base_url, rate_per_s=150.0, workers=4)
        works = [work(offer.id, site.url_of(offer)) for offer in (*good, *bad)]
        write_works(works)
        for enough in sorted(chance.sample(range(1, 160), 2)):
            before = stored(works)
            site.requests.clear()
            with started("download") as process:
                wait_until(process, lambda: kept() >= enough)  # noqa: B023
                time.sleep(chance.uniform(0, 0.02))
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.1)  # the site may still be reading what the killed process sent
            asked = pictures_asked(site)
            assert not asked & before
            assert len(asked - stored(works)) <= 8  # under way in four threads, or about to be kept
            assert not Path("data/images").exists()
        before = stored(works)
        site.requests.clear()
        with started("download") as process:
            wait_until(process, lambda: Path("data/images").exists())
            process.send_signal(signal.SIGKILL)  # while the shards are being written
            process.wait()
        assert not pictures_asked(site) & before
        site.requests.clear()
        code, out, err = run_stage()
        assert (code, err) == (0, "")
        assert pictures_asked(site) == set()
        assert "160 pictures of 170 works, 10 without" in out
        resumed = outs()
        assert [item.content for item in read_shards(Path("data/images"))] == [offer.image for offer in good]

        Path(".atelier").rename("set-aside")
        assert run_stage()[0] == 0
        assert outs() == resumed  # the uninterrupted run's bytes


def test_a_killed_stage_with_dask_leaves_no_process_and_goes_on_from_its_shards(run_stage: RunStage) -> None:
    good = offers(5 * WORKS_PER_SHARD)
    with lookalike({"genre/marina": good}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in good]
        write_works(works)
        write_params("wikiart", site.base_url, rate_per_s=200.0, workers=4, engine="dask")
        with started("download") as process:
            wait_until(process, lambda: kept() >= WORKS_PER_SHARD)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(family) >= 2
        _, left = psutil.wait_procs(family, timeout=5)
        assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
        before = stored(works)
        site.requests.clear()
        code, _, err = run_process()
        assert (code, err) == (0, "")
        assert pictures_asked(site) == {site.path_of(offer) for offer in good} - before
        resumed = outs()
        assert {path.name for path in Path().iterdir()} == {"params.yaml", "data", ".atelier"}

        Path(".atelier").rename("set-aside")
        write_params("wikiart", site.base_url, workers=4)
        assert run_stage()[0] == 0
        assert outs() == resumed  # the other engine's bytes


def test_a_remote_cluster_with_the_gallery_is_an_error(run_stage: RunStage) -> None:
    write_params("gallery", engine="dask", dask_address="tcp://10.0.0.5:8786")
    write_works([work("a", "gallery:/images/a.jpg")])
    code, _, err = run_stage()
    assert code == 1
    assert "other machines cannot reach" in err
    assert "dask_address: null" in err


def pictures_asked(site: Site) -> set[str]:
    """Paths of the requested pictures, none of them twice."""
    paths = [request.path for request in list(site.requests) if request.path.startswith("/images/")]
    assert len(paths) == len(set(paths))
    return set(paths)


@pytest.mark.parametrize(
    ("engine", "number", "code"),
    [
        ("threads", signal.SIGTERM, 143),
        ("threads", signal.SIGINT, 130),
        ("processes", signal.SIGTERM, 143),
        ("processes", signal.SIGKILL, -9),
        ("dask", signal.SIGINT, 130),
    ],
)
def test_a_stopped_download_ends_within_seconds(engine: str, number: int, code: int) -> None:
    slow = [Offer(id=f"{n:024x}", behaviour="drip") for n in range(30)]
    with lookalike({"genre/marina": slow}) as site:
        write_params("wikiart", site.base_url, workers=6, engine=engine)
        write_works([work(offer.id, site.url_of(offer)) for offer in slow])
        with started("download") as process:
            wait_until(process, lambda: len(site.requests) >= 6)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)  # a picture drips for minutes
            _, left = psutil.wait_procs(family, timeout=5)
            assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
            assert process.returncode == code
            assert "Traceback" not in err


def test_missing_pictures_are_counted_with_examples(run_stage: RunStage) -> None:
    bad = ["404", "404", "404", "html-200", "truncated-jpeg", "placeholder"]
    works = [
        *offers(3),
        *(Offer(id=f"f{n:023x}", behaviour=b, image=offers(1)[0].image) for n, b in enumerate(bad)),
    ]
    with lookalike({"genre/marina": works}) as site:
        write_params("wikiart", site.base_url)
        write_works([work(offer.id, site.url_of(offer)) for offer in works])
        code, out, _ = run_stage()
    assert code == 0
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert {"missing 3", "not-an-image 1", "truncated 1", "placeholder 1"} <= set(words)
    assert any(line.startswith("ok 3 ") and line.endswith(" kB") for line in words)
    assert f"f{0:023x}: HTTP 404" in words
    assert "download: 3 pictures of 9 works, 6 without (see above)" in out
    assert len(read_downloads(Path("data/downloads.parquet"))) == 9


def test_no_picture_at_all_is_an_error_with_the_reasons(run_stage: RunStage) -> None:
    with lookalike({"genre/marina": [Offer(id="a", behaviour="404")]}) as site:
        write_params("wikiart", site.base_url)
        write_works([work("a", site.url_of(Offer(id="a")))])
        code, out, err = run_stage()
    assert code == 1
    assert "HTTP 404" in out
    assert "the one catalogued work gave no picture" in err
    assert "Traceback" not in err
    assert not Path("data/downloads.parquet").exists()


@pytest.mark.parametrize(
    ("behaviour", "status", "said"),
    [
        ("500", os.EX_TEMPFAIL, "2 of 2 works failed"),
        ("403", 1, "none of the 2 catalogued works gave a picture"),
    ],
)
def test_a_failing_site_is_a_temporary_error_and_a_refusing_one_is_not(
    behaviour: str, status: int, said: str, run_stage: RunStage
) -> None:
    with lookalike({"genre/marina": [Offer(id="a", behaviour=behaviour)]}) as site:
        write_params("wikiart", site.base_url, retries=0, workers=1)
        write_works([work(str(n), site.url_of(Offer(id="a", behaviour=behaviour))) for n in range(2)])
        code, _, err = run_stage()
    assert code == status, err
    assert said in err


def test_after_too_many_failures_there_is_no_data_set_and_the_next_run_requests_only_those(run_stage: RunStage) -> None:
    offered = offers(60)
    with lookalike({"genre/marina": offered}) as site:
        write_params("wikiart", site.base_url, retries=0)
        write_works([work(offer.id, site.url_of(offer)) for offer in offered])
        for offer in offered[::3]:
            site.fail(site.path_of(offer), *["500"] * 9)
        code, _, err = run_stage()
        assert code == os.EX_TEMPFAIL
        assert "20 of 60 works failed, even after a second attempt" in err
        assert "The 40 pictures that have arrived are kept" in err
        assert "Traceback" not in err
        assert not Path("data/images").exists() and not Path("data/downloads.parquet").exists()
        site._faults.clear()
        site.requests.clear()
        code, out, err = run_stage()
        assert (code, err) == (0, "")
        assert "60 pictures of 60 works" in out
        assert pictures_asked(site) == {site.path_of(offer) for offer in offered[::3]}


def test_works_that_fail_at_first_are_requested_once_more_at_the_end(run_stage: RunStage) -> None:
    offered = offers(60)
    with lookalike({"genre/marina": offered}) as site:
        write_params("wikiart", site.base_url, retries=0)
        write_works([work(offer.id, site.url_of(offer)) for offer in offered])
        for offer in offered[::3]:
            site.fail(site.path_of(offer), "500")
        code, out, err = run_stage()
        asked = [request.path for request in site.requests if request.path.startswith("/images/")]
    assert (code, err) == (0, "")
    assert "download: 60 pictures of 60 works (" in out
    assert asked[60:] == [site.path_of(offer) for offer in offered[::3]]  # in order, after all others


@pytest.mark.parametrize(("failing", "status"), [(2, 0), (3, os.EX_TEMPFAIL)])
def test_one_work_of_a_hundred_may_fail_and_the_summary_says_how_to_fetch_it(
    failing: int, status: int, run_stage: RunStage
) -> None:
    offered = offers(200)
    with lookalike({"genre/marina": offered}) as site:
        write_params("wikiart", site.base_url, retries=0)
        write_works([work(offer.id, site.url_of(offer)) for offer in offered])
        for offer in offered[:failing]:
            site.fail(site.path_of(offer), *["500"] * 9)
        code, out, err = run_stage()
    assert code == status, err
    if status == 0:
        assert "198 pictures of 200 works, 2 without (see above); 2 of them failed this time: " in out
        assert "`dvc repro -f -s download` requests them again" in out


def test_any_number_of_refused_works_still_gives_a_data_set(run_stage: RunStage) -> None:
    offered = [replace(offer, behaviour="403" if n % 3 else "good") for n, offer in enumerate(offers(180))]
    with lookalike({"genre/marina": offered}) as site:
        write_params("wikiart", site.base_url, retries=0)
        write_works([work(offer.id, site.url_of(offer)) for offer in offered])
        code, out, err = run_stage()
    assert code == 0, err
    assert "60 pictures of 180 works, 120 without (see above); 120 of them failed this time" in out


def test_a_folder_needs_no_network_and_its_path_is_relative_to_the_repository(run_stage: RunStage) -> None:
    Path("mine/sea").mkdir(parents=True)
    for n in range(3):
        Image.linear_gradient("L").rotate(90 * n).save(f"mine/sea/{n}.png")
    write_params("folder")
    write_works([work(f"w{n}", f"sea/{n}.png") for n in range(4)])
    code, out, _ = run_stage()
    assert code == 0
    assert "3 pictures of 4 works" in out
    assert find_picture(Path("data/images"), "w1") == ("w1", "png", Path("mine/sea/1.png").read_bytes())


def test_the_built_in_gallery_is_painted_and_kept(run_stage: RunStage) -> None:
    write_params("gallery")
    with serve(1, 8, 128) as base_url:
        listed = requests.get(f"{base_url}/en/paintings-by-genre/marina?json=2&page=1", timeout=30).json()
    write_works([work(record["id"], virtual_url(record["image"], base_url)) for record in listed["Paintings"]])
    code, out, err = run_stage()
    assert (code, err) == (0, "")
    assert "8 pictures of 8 works" in out
    first = outs()
    assert run_stage()[0] == 0
    assert outs() == first
    assert kept() == 8
