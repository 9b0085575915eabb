"""A site's works, and one run of the download over them."""

import hashlib
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from atelier.data.catalog import DownloadRecord, Work, write_downloads
from atelier.data.shards import write_shards
from atelier.download.arrivals import Arrivals, Limits
from atelier.download.download import download, kept_items
from atelier.download.engines import Engine, OneByOne, Threads
from atelier.download.fetch import Answer
from atelier.download.sources import Opening, Source
from atelier.download.sources import Site as SiteSource
from atelier.images.verify import ImageLimits
from atelier.progress import Progress
from atelier.web.client import PoliteClient
from tests.lookalike import Offer, Site
from tests.pictures import jpeg

LIMITS = Limits(ImageLimits(min_side_px=32, max_pixels=1_000_000), max_bytes=1_000_000, size_px=None)


def offers(count: int, **changes: Any) -> list[Offer]:
    """Works whose pictures differ."""
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


def bring(
    directory: Path,
    source: Source,
    works: Sequence[Work],
    limits: Limits = LIMITS,
    engine: Engine | None = None,
    opening: Opening | None = None,
) -> dict[str, DownloadRecord]:
    """One run of the download, by threads where no other engine is given, whatever share of the works fails.

    What fails is asked for once more where an opening is given.
    """
    engine = engine or Threads(source, limits, 8)
    second = OneByOne(opening, limits) if opening else Nobody()
    with Progress("download", len(works), "works") as progress, Arrivals(directory, limits) as arrivals:
        entries, _ = download(works, source, arrivals, engine, second, progress, most_passing=1.0)
    assert [entry.id for entry in entries] == sorted(work.id for work in works)
    return {entry.id: entry for entry in entries}


class Nobody:
    """An engine that asks for nothing."""

    def run(self, works: Sequence[Work]) -> Generator[tuple[Work, Answer]]:
        yield from ()


def bring_from(
    directory: Path, site: Site, limits: Limits = LIMITS, **changes: Any
) -> dict[str, DownloadRecord]:
    works = [work(offer.id, site.url_of(offer)) for offer in site.lists["genre/marina"]]
    with source_of(site, **changes) as source:
        return bring(directory, source, works, limits)


def works_of(site: Site) -> Sequence[Work]:
    """The works of its one list."""
    return [work(offer.id, site.url_of(offer)) for offer in site.lists["genre/marina"]]


def outs(place: Path, site: Site, engine: Engine | None = None) -> dict[str, str]:
    """The stage's outs as one download of the site leaves them, by name and sha256."""
    works = works_of(site)
    with source_of(site) as source:
        entries = list(bring(place / "kept", source, works, engine=engine).values())
        with Arrivals(place / "kept", LIMITS) as arrivals:
            write_shards(kept_items(works, entries, source, arrivals), place / "images")
    write_downloads(entries, place / "downloads.parquet")
    paths = [*(place / "images").iterdir(), place / "downloads.parquet"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def kill_a_worker(site: Site, after: int) -> None:
    """SIGKILL to one of our worker processes, when the site has been asked so often."""
    while len(site.requests) < after:
        threading.Event().wait(0.01)
    workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)
