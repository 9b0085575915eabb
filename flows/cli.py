"""`atelier …`: the flows and a few looks around, for a person's fingers. Imports what a command needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from atelier import __version__
from atelier.errors import AtelierError
from flows import tree

app = typer.Typer(
    help="An archive of paintings becomes a studio: scrape, download, train a GAN, generate artworks, print them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Live = Annotated[bool, typer.Option("--live", help="ask WikiArt now instead of the shipped table")]


def main() -> None:
    """The console script: a person's mistake is a sentence and exit code 1."""
    try:
        app()
    except AtelierError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


@app.command()
def run(
    stages: Annotated[list[str] | None, typer.Argument(help="up to these; all where none is named")] = None,
) -> None:
    """Run the pipeline: what `dvc repro` does, watched and recorded by Prefect."""
    from flows import studio

    sys.exit(studio.main(stages or []))


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(help="ids of catalog.parquet")],
    out: Annotated[
        Path | None, typer.Option(help="folder to put the pictures into; else .atelier/show")
    ] = None,
) -> None:
    """Take paintings out of the shards to look at: where each went, what is known of it, how its download went."""
    from atelier import account, catalog, files, shards

    here = Path.cwd()
    tree.enter()
    folder = here / out if out else Path(".atelier/show")
    works = {work.id: work for work in catalog.read_catalog(Path("data/catalog.parquet"))}
    entries = {entry.id: entry for entry in account.read_account(Path("data/downloads.parquet"))}
    unknown = [id for id in ids if id not in works]
    if unknown:
        raise AtelierError(
            f"data/catalog.parquet has no {', '.join(unknown)}: its column id lists what it has"
        )
    for id in ids:
        work = works[id]
        print(f"{id}: {work.title}, {work.artist}, {work.year_text or 'undated'}")
        print(f"  {work.genre or 'no genre'}, {work.style or 'no style'}, {work.rights}, {work.page_url}")
        if (entry := entries.get(id)) is None:
            print("  not downloaded yet: `dvc repro download`")
            continue
        print(f"  {entry.status}{': ' + entry.reason if entry.reason else ''}")
        if found := shards.find(Path("data/images"), id):
            name, content = found
            files.write_bytes(folder / name, content)
            print(f"  {folder / name}")


@app.command()
def genres(live: Live = False) -> None:
    """What scrape.wikiart.genre may hold, with WikiArt's counts."""
    _print_slugs("genre", live)


@app.command()
def styles(live: Live = False) -> None:
    """What scrape.wikiart.style may hold, with WikiArt's counts."""
    _print_slugs("style", live)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="say which version this is")] = False,
) -> None:
    if version:
        print(f"atelier {__version__}")
        raise typer.Exit


def _print_slugs(kind: Literal["genre", "style"], live: bool) -> None:
    from atelier.params import load_params
    from atelier.wikiart import index

    if live:
        tree.enter()
        wikiart = load_params(Path("params.yaml")).scrape.wikiart
        slugs = index.table(kind, live=True, base_url=wikiart.base_url, contact=wikiart.contact)
    else:
        slugs = index.table(kind)
    table = Table(f"{kind} (for params.yaml)", "title", "works")
    table.columns[2].justify = "right"
    for entry in slugs:
        table.add_row(entry.slug, entry.title, "?" if entry.count is None else f"{entry.count:,}")
    Console().print(table)
