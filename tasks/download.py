"""Stage download: every catalogued painting, verified, in tar shards; one counted status a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atelier.account import account_lines, write_account
from atelier.arrivals import Arrivals, Limits
from atelier.catalog import read_catalog
from atelier.download import download, full_disk_explained, kept_items
from atelier.errors import AtelierError
from atelier.gallery.server import serve
from atelier.images import ImageLimits
from atelier.params import Params
from atelier.polite import PoliteClient
from atelier.shards import write_shards
from atelier.sources import Folder, Site, Source, gallery_edition
from tasks.stage import DATA, STATE, Stage, main


def run(stage: Stage) -> str:
    """params `download`; data/catalog.parquet → data/images, data/downloads.parquet."""
    section = stage.params.download
    works = read_catalog(DATA / "catalog.parquet")
    limits = Limits(ImageLimits(section.min_side_px, section.max_pixels), section.max_bytes, section.size_px)
    with opened_source(stage.params) as source, Arrivals(STATE / "images", limits) as arrivals:
        with stage.progress(len(works), "works") as progress:
            entries = download(works, source, arrivals, section.workers, progress)
        for line in account_lines(entries):
            print(line)
        arrived = sum(entry.status == "ok" for entry in entries)
        if not arrived:
            raise AtelierError(
                f"none of the {len(works):,} catalogued works gave a picture (reasons above): "
                "check scrape.source and the limits of `download` in params.yaml"
            )
        with full_disk_explained(arrivals.path):
            write_shards(kept_items(works, entries, source, arrivals), DATA / "images")
            write_account(entries, DATA / "downloads.parquet")
    failed = len(entries) - arrived
    return (
        f"{arrived:,} pictures of {len(works):,} works{f', {failed:,} without (see above)' if failed else ''}"
    )


@contextmanager
def opened_source(params: Params) -> Iterator[Source]:
    """The source that `scrape` catalogued: for the gallery, a server of our own for as long as the block lasts."""
    scrape, section = params.scrape, params.download
    match scrape.source:
        case "folder":
            yield Folder(Path(scrape.folder.path).expanduser(), section.max_bytes)
        case "wikiart":
            with PoliteClient(
                scrape.wikiart.base_url,
                contact=scrape.wikiart.contact,
                rate_per_s=section.rate_per_s,
                retries=section.retries,
                timeout_s=section.timeout_s,
            ) as client:
                yield Site(client, section.max_bytes)
        case "gallery":
            gallery = scrape.gallery
            with (
                serve(gallery.seed, gallery.works, gallery.size_px) as base_url,
                PoliteClient(
                    base_url,
                    contact="",
                    rate_per_s=None,
                    retries=section.retries,
                    timeout_s=section.timeout_s,
                ) as client,
            ):
                yield Site(client, section.max_bytes, gallery_edition(gallery.seed, gallery.size_px))


if __name__ == "__main__":
    main("download", run)
