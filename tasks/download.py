"""Stage download: fetches and verifies the catalog's pictures; writes tar shards and one record for each work."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from atelier.data.catalog import read_catalog, write_downloads
from atelier.data.shards import write_shards
from atelier.download.arrivals import Arrivals, Limits
from atelier.download.download import download, full_disk_explained, print_account, shard_items
from atelier.download.engines import Engine, OneByOne, Processes, Threads
from atelier.download.engines_dask import Cluster
from atelier.download.sources import FolderSpec, SiteSpec, Source, SourceSpec, gallery_version
from atelier.errors import AtelierError, counted
from atelier.gallery.server import serve
from atelier.images.verify import ImageLimits
from atelier.paths import ARRIVALS, CATALOG, DOWNLOADS, SHARDS, STATE
from atelier.settings.load import image_folder
from atelier.settings.schema import Download, Params
from atelier.web.limits import is_loopback
from tasks.stage import Stage, main

FETCH_AGAIN = "`dvc repro -f -s download` requests them again, and nothing else"


def run(stage: Stage) -> str:
    """Fetch the pictures of data/catalog.parquet; write data/images and data/downloads.parquet."""
    section = stage.params.download
    works = read_catalog(CATALOG)
    limits = Limits(ImageLimits(section.min_side_px, section.max_pixels), section.max_bytes, section.size_px)
    with source_spec(stage.params) as spec, spec.open() as source, Arrivals(ARRIVALS, limits) as arrivals:
        engine = new_engine(section, spec, source, limits)
        with stage.progress(len(works), "works") as progress:
            retry_engine = OneByOne(spec, limits)
            records, failed = download(works, source, arrivals, engine, retry_engine, progress)
        print_account(records)
        arrived = sum(record.status == "ok" for record in records)
        if not arrived:
            count = len(works)
            none = f"none of the {count:,} catalogued works gave a" if count > 1 else "the one catalogued work gave no"
            raise AtelierError(
                f"{none} picture (reasons above): check scrape.source and the limits of `download` in params.yaml"
            )
        with full_disk_explained(arrivals.path):
            write_shards(shard_items(works, records, source, arrivals), SHARDS)
            write_downloads(records, DOWNLOADS)
    lacking = len(records) - arrived
    return (
        f"{counted(arrived, 'picture')} of {counted(len(works), 'work')}"
        f"{f', {lacking:,} without (see above)' if lacking else ''}"
        f"{f'; {failed:,} of them failed this time: {FETCH_AGAIN}' if failed else ''}"
    )


@contextmanager
def source_spec(params: Params) -> Iterator[SourceSpec]:
    """The source that `scrape` has catalogued; the built-in gallery's server runs until the block ends."""
    scrape, section = params.scrape, params.download
    site = partial(SiteSpec, retries=section.retries, timeout_s=section.timeout_s, max_bytes=section.max_bytes)
    match scrape.source:
        case "folder":
            yield FolderSpec(image_folder(scrape.folder).absolute(), section.max_bytes)
        case "wikiart":
            wikiart = scrape.wikiart
            yield site(wikiart.base_url, wikiart.contact, section.rate_per_s, may_train=wikiart.may_train)
        case "gallery":
            gallery = scrape.gallery
            version = gallery_version(gallery.seed, gallery.size_px)
            with serve(gallery.seed, gallery.works, gallery.size_px) as base_url:
                yield site(base_url, "", None, gallery_version=version)


def new_engine(section: Download, spec: SourceSpec, source: Source, limits: Limits) -> Engine:
    """The engine of download.engine: threads of this process, processes of this machine, or a Dask cluster."""
    if section.engine == "threads":
        return Threads(source, limits, section.workers)
    if section.engine == "processes":
        return Processes(spec, limits, section.workers)
    address = section.dask_address
    if address and isinstance(spec, SiteSpec) and is_loopback(spec.base_url) and not is_loopback(address):
        raise AtelierError(
            f"other machines cannot reach {spec.base_url}, which is on this one (the built-in gallery always is): "
            "set download.dask_address: null for a Dask cluster of this machine's own, or download.engine: threads"
        )
    return Cluster(spec, limits, section.workers, address, STATE / "dask")


if __name__ == "__main__":
    main("download", run)
