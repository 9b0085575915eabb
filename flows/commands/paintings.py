"""Commands about paintings: show, unpack, clean, and the genres and styles that can be scraped."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from atelier.errors import AtelierError, counted, format_size
from atelier.paths import ARRIVALS, CATALOG, DOWNLOADS, PARAMS, SHARDS, SHOWN, UNPACKED
from flows.runtime import work_tree

if TYPE_CHECKING:
    from atelier.data.catalog import DownloadRecord, Work

app = typer.Typer()

Live = Annotated[bool, typer.Option("--live", help="ask WikiArt now instead of reading the built-in table")]


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(help="ids of data/catalog.parquet")],
    out: Annotated[Path | None, typer.Option(help="folder for the pictures; .atelier/show by default")] = None,
) -> None:
    """Extract paintings from the shards, and print what the catalog says of them and how their download went."""
    from atelier.data import shards
    from atelier.text import printable

    here = work_tree.enter()
    folder = here / out if out else SHOWN
    works, entries = _works_and_entries(ids)
    names = shards.file_stems(works)
    for id in dict.fromkeys(ids):
        work = works[id]
        print(printable(f"{id}: {work.title}, {work.artist}, {work.year_text or 'undated'}"))
        facts = f"{work.genre or 'no genre'}, {work.style or 'no style'}, {work.rights}, {work.page_url}"
        print(f"  {printable(facts)}")
        if (entry := entries.get(id)) is None:
            print("  not downloaded yet: `dvc repro download`")
            continue
        print(f"  {printable(f'{entry.status}: {entry.reason}') if entry.reason else entry.status}")
        for path in shards.unpack(SHARDS, folder, [id], names).values():
            print(f"  {path}")


@app.command()
def unpack(
    ids: Annotated[list[str] | None, typer.Argument(help="ids of data/catalog.parquet; all by default")] = None,
    to: Annotated[Path | None, typer.Option(help="folder for the files; .atelier/unpacked by default")] = None,
    look_alikes: Annotated[bool, typer.Option("--look-alikes", help="only pictures that look alike")] = False,
) -> None:
    """Extract the shards into files named by id, with a catalog.csv that describes them."""
    from atelier.data import shards
    from atelier.data.duplicates import downloaded_pictures, find_look_alikes
    from atelier.data.folder import write_csv
    from atelier.progress import Progress

    here = work_tree.enter()
    folder = here / to if to else UNPACKED
    works, entries = _works_and_entries(ids or [])
    arrived = downloaded_pictures([entry for entry in entries.values() if entry.id in works])
    wanted = {picture.id for picture in arrived}
    if look_alikes:
        alike = find_look_alikes(arrived)
        wanted = {*alike, *(other.id for other in alike.values())}
    if ids:
        wanted &= set(ids)
    with Progress("unpack", len(wanted), "pictures") as progress:
        files = shards.unpack(SHARDS, folder, wanted, shards.file_stems(works), progress.advance)
    table = write_csv(folder, files, works)
    print(f"{counted(len(files), 'picture')} in {folder}, described in {table}")
    if lacking := sorted(set(ids or ()) - files.keys()):
        print(f"without a picture (`atelier show` says why): {', '.join(lacking)}")


@app.command()
def clean(
    days: Annotated[
        int | None, typer.Option(min=0, help="keep what a download's catalog named in the last DAYS; default 30")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove them; without this, only list them")] = False,
) -> None:
    """List downloaded pictures in .atelier/images that no recent catalog names, or remove them with --yes.

    They are left from other genres, sizes and sources.
    """
    from atelier.download import arrivals

    work_tree.enter()
    try:
        since = arrivals.recent_since(ARRIVALS, arrivals.RECENT_DAYS if days is None else days)
        unused = [file for file in arrivals.usage(ARRIVALS, since) if file.unused_bytes or file.unused_works]
        for file in unused:
            works = f"{file.unused_works:,} of {file.works:,} works, " if file.works else ""
            print(f"{file.path}: {works}{format_size(file.unused_bytes) or '0 B'}")
        total = format_size(sum(file.unused_bytes for file in unused)) or "0 B"
        if not unused:
            print(f"nothing to drop: a catalog since {since} names all that is kept in {ARRIVALS}")
        elif yes:
            arrivals.remove_unused(ARRIVALS, since)
            print(f"dropped {total} that no catalog since {since} names")
        else:
            print(f"{total} that no catalog since {since} names; `atelier clean --yes` drops it")
    except sqlite3.Error as error:
        raise AtelierError(f"{ARRIVALS}: {error}: make it readable and writable") from None


@app.command()
def genres(live: Live = False) -> None:
    """List the values of scrape.wikiart.genre, with WikiArt's counts."""
    _print_slugs("genre", live)


@app.command()
def styles(live: Live = False) -> None:
    """List the values of scrape.wikiart.style, with WikiArt's counts."""
    _print_slugs("style", live)


def _works_and_entries(ids: list[str]) -> "tuple[dict[str, Work], dict[str, DownloadRecord]]":
    """The catalog's works and the downloads' entries by id. Raises AtelierError if the catalog lacks one of `ids`."""
    from atelier.data.catalog import read_catalog, read_downloads

    works = {work.id: work for work in read_catalog(CATALOG)}
    if unknown := [id for id in ids if id not in works]:
        raise AtelierError(f"data/catalog.parquet has no {', '.join(unknown)}: its column id lists what it has")
    return works, {entry.id: entry for entry in read_downloads(DOWNLOADS)}


def _print_slugs(kind: Literal["genre", "style"], live: bool) -> None:
    from atelier.settings.load import load_params
    from atelier.wikiart.pages import read_slugs

    if live:
        work_tree.enter()
        wikiart = load_params(PARAMS).scrape.wikiart
        slugs = read_slugs(kind, live=True, base_url=wikiart.base_url, contact=wikiart.contact)
    else:
        slugs = read_slugs(kind)
    table = Table(f"{kind} (for params.yaml)", "title", Column("works", justify="right"))
    for entry in slugs:
        table.add_row(entry.slug, entry.title, "?" if entry.count is None else f"{entry.count:,}")
    Console().print(table, markup=False)
