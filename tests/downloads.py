"""Works of the look-alike server, and one run of the download over them."""

import hashlib
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from atelier.data.catalog import DownloadRecord, Work, write_downloads
from atelier.data.shards import write_shards
from atelier.download.arrivals import Arrivals, Limits
from atelier.download.download import download, shard_items
from atelier.download.engines import Engine, OneByOne, Threads
from atelier.download.fetch import Outcome
from atelier.download.sources import SiteSource, Source, SourceSpec
from atelier.images.verify import ImageLimits
from atelier.progress import Progress
from atelier.web.client import PoliteClient
from tests.lookalike import Offer, Site
from tests.pictures import jpeg

LIMITS = Limits(ImageLimits(min_side_px=32, max_pixels=1_000_000), max_bytes=1_000_000, size_px=None)


def offers(count: int, **changes: Any) -> list[Offer]:
    """Offers with different pictures."""
    return [
        Offer(id=f"{n:024x}", image=jpeg((n * 37 % 256, n * 91 % 256, 255 - n % 256), (96, 64)), **changes)
        for n in range(count)
    ]


def work(id: str, image_url: str) -> Work:
    return Work(
        id=id, title="The Sea", artist="Anna Ancher", artist_slug="anna-ancher", year_text="1887", year=1887,
        genre="marina", style="", width=None, height=None, image_url=image_url, page_url="", rights="unknown",
        source="wikiart",
    )  # fmt: skip


@contextmanager
def source_of(site: Site, **changes: Any) -> Iterator[SiteSource]:
    settings = {"rate_per_s": None, "retries": 4, "timeout_s": 5.0, "backoff_s": 0.02, **changes}
    with PoliteClient(site.base_url, contact="", **settings) as client:
        yield SiteSource(client, LIMITS.max_bytes)


def run_download(
    directory: Path,
    source: Source,
    works: Sequence[Work],
    limits: Limits = LIMITS,
    engine: Engine | None = None,
    spec: SourceSpec | None = None,
) -> dict[str, DownloadRecord]:
    """Run the download, by default with threads, however many works fail; returns the records by id.

    With `spec`, works that failed are fetched once more.
    """
    engine = engine or Threads(source, limits, 8)
    retry_engine = OneByOne(spec, limits) if spec else NoEngine()
    with (
        patch("atelier.download.download.MAX_FAILED_RATIO", 1.0),
        Progress("download", len(works), "works") as progress,
        Arrivals(directory, limits) as arrivals,
    ):
        records, _ = download(works, source, arrivals, engine, retry_engine, progress)
    assert [record.id for record in records] == sorted(work.id for work in works)
    return {record.id: record for record in records}


class NoEngine:
    """An engine that fetches nothing."""

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Outcome]]:
        yield from ()


def download_site(directory: Path, site: Site, limits: Limits = LIMITS, **changes: Any) -> dict[str, DownloadRecord]:
    works = [work(offer.id, site.url_of(offer)) for offer in site.lists["genre/marina"]]
    with source_of(site, **changes) as source:
        return run_download(directory, source, works, limits)


def works_of(site: Site) -> Sequence[Work]:
    """The works of the site's list of marinas."""
    return [work(offer.id, site.url_of(offer)) for offer in site.lists["genre/marina"]]


def outs(place: Path, site: Site, engine: Engine | None = None) -> dict[str, str]:
    """Download the site and write the stage's outputs; returns their SHA-256 by file name."""
    works = works_of(site)
    with source_of(site) as source:
        records = list(run_download(place / "kept", source, works, engine=engine).values())
        with Arrivals(place / "kept", LIMITS) as arrivals:
            write_shards(shard_items(works, records, source, arrivals), place / "images")
    write_downloads(records, place / "downloads.parquet")
    paths = [*(place / "images").iterdir(), place / "downloads.parquet"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def kill_a_worker(site: Site, after: int) -> None:
    """Send SIGKILL to a worker process when the site has received `after` requests."""
    while len(site.requests) < after:
        threading.Event().wait(0.01)
    workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)
