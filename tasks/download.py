"""Stage download: every catalogued painting, verified, in tar shards; one counted status a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from atelier.data.catalog import read_catalog, write_downloads
from atelier.data.shards import write_shards
from atelier.download.arrivals import Arrivals, Limits
from atelier.download.download import download, full_disk_explained, kept_items
from atelier.download.engines import Engine, OneByOne, Processes, Threads
from atelier.download.engines_dask import Cluster
from atelier.download.report import tell_account
from atelier.download.sources import FolderOpening, Opening, SiteOpening, Source, gallery_edition
from atelier.errors import AtelierError
from atelier.gallery.server import serve
from atelier.images.verify import ImageLimits
from atelier.settings.load import image_folder
from atelier.settings.messages import counted
from atelier.settings.schema import Download, Params
from atelier.web.hosts import is_loopback
from tasks.stage import DATA, STATE, Stage, main

ASK_AGAIN = "`dvc repro -f -s download` asks for them again, and for nothing else"


def run(stage: Stage) -> str:
    """params `download`; data/catalog.parquet → data/images, data/downloads.parquet."""
    section = stage.params.download
    works = read_catalog(DATA / "catalog.parquet")
    limits = Limits(ImageLimits(section.min_side_px, section.max_pixels), section.max_bytes, section.size_px)
    with (
        opening_of(stage.params) as opening,
        opening.opened() as source,
        Arrivals(STATE / "images", limits) as arrivals,
    ):
        engine = engine_of(section, opening, source, limits)
        with stage.progress(len(works), "works") as progress:
            second = OneByOne(opening, limits)
            entries, left = download(works, source, arrivals, engine, second, progress)
        tell_account(entries)
        arrived = sum(entry.status == "ok" for entry in entries)
        if not arrived:
            none = (
                f"none of the {len(works):,} catalogued works gave a"
                if works[1:]
                else "the one catalogued work gave no"
            )
            raise AtelierError(
                f"{none} picture (reasons above): "
                "check scrape.source and the limits of `download` in params.yaml"
            )
        with full_disk_explained(arrivals.path):
            write_shards(kept_items(works, entries, source, arrivals), DATA / "images")
            write_downloads(entries, DATA / "downloads.parquet")
    lacking = len(entries) - arrived
    return (
        f"{counted(arrived, 'picture')} of {counted(len(works), 'work')}"
        f"{f', {lacking:,} without (see above)' if lacking else ''}"
        f"{f'; {left:,} of them failed this time: {ASK_AGAIN}' if left else ''}"
    )


@contextmanager
def opening_of(params: Params) -> Iterator[Opening]:
    """The source that `scrape` catalogued: for the gallery, a server of our own for as long as the block lasts."""
    scrape, section = params.scrape, params.download
    site = partial(
        SiteOpening, retries=section.retries, timeout_s=section.timeout_s, max_bytes=section.max_bytes
    )
    match scrape.source:
        case "folder":
            yield FolderOpening(image_folder(scrape.folder).absolute(), section.max_bytes)
        case "wikiart":
            wikiart = scrape.wikiart
            yield site(wikiart.base_url, wikiart.contact, section.rate_per_s, may_train=wikiart.may_train)
        case "gallery":
            gallery = scrape.gallery
            edition = gallery_edition(gallery.seed, gallery.size_px)
            with serve(gallery.seed, gallery.works, gallery.size_px) as base_url:
                yield site(base_url, "", None, edition=edition)


def engine_of(section: Download, opening: Opening, source: Source, limits: Limits) -> Engine:
    """Who asks: the threads of this process, processes of this machine, or a Dask cluster."""
    if section.engine == "threads":
        return Threads(source, limits, section.workers)
    if section.engine == "processes":
        return Processes(opening, limits, section.workers)
    address = section.dask_address
    if (
        address
        and isinstance(opening, SiteOpening)
        and is_loopback(opening.base_url)
        and not is_loopback(address)
    ):
        raise AtelierError(
            f"other machines cannot reach {opening.base_url}, which is on this one (the built-in gallery always is): "
            "set download.dask_address: null for a Dask cluster of this machine's own, or download.engine: threads"
        )
    return Cluster(opening, limits, section.workers, address, STATE / "dask")


if __name__ == "__main__":
    main("download", run)
