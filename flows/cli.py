"""`atelier …`: the flows and a few looks around, for a person's fingers. Imports what a command needs when it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from atelier import __version__
from atelier.errors import AtelierError
from flows.commands import explore, ledger, paintings, reproduce, walk
from flows.runtime import process, work_tree
from flows.runtime import process as ending

if TYPE_CHECKING:
    from atelier.data.catalog import DownloadRecord, Work

app = typer.Typer(
    help="An archive of paintings becomes a studio: scrape, download, train a GAN, generate artworks, print them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

nightly = typer.Typer(
    help="Scheduled retraining: a better model is promoted, or the old one stays and the reason is said.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(nightly, name="nightly")
app.add_typer(explore.app, name="explore")
reproduce.add(app)
ledger.add(app)
paintings.add(app)
walk.add(app)

SHARDS = Path("data/images")

Live = Annotated[bool, typer.Option("--live", help="ask WikiArt now instead of the shipped table")]


def main() -> None:
    """The console script: a person's mistake, or what the disk refuses, is a sentence and exit code 1."""

    def work() -> int:
        app()
        return 0

    sys.exit(ending.run_for_exit_code(work, ""))


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
    from atelier.data import unpack
    from atelier.provenance.facts import printable

    here = Path.cwd()
    work_tree.enter()
    folder = here / out if out else Path(".atelier/show")
    works, entries = _archive(ids)
    names = unpack.file_stems(works)
    for id in dict.fromkeys(ids):
        work = works[id]
        print(printable(f"{id}: {work.title}, {work.artist}, {work.year_text or 'undated'}"))
        facts = f"{work.genre or 'no genre'}, {work.style or 'no style'}, {work.rights}, {work.page_url}"
        print(f"  {printable(facts)}")
        if (entry := entries.get(id)) is None:
            print("  not downloaded yet: `dvc repro download`")
            continue
        print(f"  {printable(f'{entry.status}: {entry.reason}') if entry.reason else entry.status}")
        for path in unpack.unpack(SHARDS, folder, [id], names).values():
            print(f"  {path}")


@app.command()
def unpack(
    ids: Annotated[
        list[str] | None, typer.Argument(help="ids of catalog.parquet; all where none is named")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="folder for the files; else .atelier/unpacked")] = None,
    look_alikes: Annotated[
        bool, typer.Option("--look-alikes", help="only pictures that look like another, and those others")
    ] = False,
) -> None:
    """Unpack the shards into files named by id, with a catalog.csv that says what they show."""
    from atelier.data import unpack
    from atelier.data.duplicates import downloaded_pictures, find_look_alikes
    from atelier.progress import Progress
    from atelier.settings.messages import counted

    here = Path.cwd()
    work_tree.enter()
    folder = here / to if to else Path(".atelier/unpacked")
    works, entries = _archive(ids or [])
    arrived = downloaded_pictures([entry for entry in entries.values() if entry.id in works])
    wanted = {picture.id for picture in arrived}
    if look_alikes:
        alike = find_look_alikes(arrived)
        wanted = {*alike, *(other.id for other in alike.values())}
    if ids:
        wanted &= set(ids)
    with Progress("unpack", len(wanted), "pictures") as progress:
        files = unpack.unpack(SHARDS, folder, wanted, unpack.file_stems(works), progress.advance)
    table = unpack.write_csv(folder, files, works)
    print(f"{counted(len(files), 'picture')} in {folder}; {table} says what they show")
    if lacking := sorted(set(ids or ()) - files.keys()):
        print(f"without a picture (`atelier show` says why): {', '.join(lacking)}")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="a generator: .t7 of art-DCGAN, .pth of pytorch/examples; or a model of ours"),
    ],
    discriminator: Annotated[
        Path | None, typer.Option(help="its opponent's file, to train on against")
    ] = None,
    name: Annotated[str | None, typer.Option(help="what to call it; else the file's name")] = None,
) -> None:
    """Make a model in models/ of somebody's DCGAN, or keep one of ours there: something to train on from."""
    here = Path.cwd()
    work_tree.enter()
    command = [sys.executable, "-m", "atelier.importers", str(here / file)]
    command += ["--discriminator", str(here / discriminator)] if discriminator else []
    command += [f"--name={name}"] if name is not None else []
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="which; all are listed where none is named")] = None,
) -> None:
    """Settings for a machine and a size of pictures, put into params.yaml; its comments and other keys stay."""
    from atelier.settings import edit

    if name is None:
        table = Table("preset", "for", box=None)
        for known, described in edit.PRESETS.items():
            table.add_row(known, described.purpose)
        Console().print(table, markup=False)
        return
    work_tree.enter()
    changes = edit.apply_preset(Path("params.yaml"), name)
    for change in changes:
        print(f"{change.key}: {edit.format_value(change.before)} -> {edit.format_value(change.after)}")
    print(
        "`dvc repro` makes what this changes"
        if changes
        else f"params.yaml has the settings of {name} already"
    )


@app.command()
def compare(
    champion: Annotated[Path, typer.Argument(help="a generator.safetensors, of an earlier training, say")],
    challenger: Annotated[
        Path | None, typer.Argument(help="another; the present training's where none is named")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="a PNG to make, of pictures of both from the same seeds")
    ] = None,
) -> None:
    """Which of two models is better, and whether by more than chance, on the paintings that neither has seen."""
    from atelier.settings.load import load_params
    from flows.night import report as judging

    here = Path.cwd()
    work_tree.enter()
    params = load_params(Path("params.yaml"))
    second = here / challenger if challenger else Path("data/model/generator.safetensors")
    command = judging.command(here / champion, second, params, sheet=here / sheet if sheet else None)
    sys.exit(process.foreground(command, work_tree.environment()))


@nightly.command("run")
def nightly_run(
    night: Annotated[str | None, typer.Option(help="a date like 2026-11-30; else today's")] = None,
) -> None:
    """One night, now."""
    from flows.commands import nightly

    sys.exit(nightly.run(night))


@nightly.command("serve")
def nightly_serve(
    cron: Annotated[str, typer.Option(help="when: minute, hour, day, month, weekday")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="where that is, Europe/Paris say")] = "UTC",
) -> None:
    """A night at each of these times, for as long as this runs; needs a Prefect server."""
    from flows.commands import nightly

    sys.exit(nightly.serve(cron, timezone))


@nightly.command("status")
def nightly_status() -> None:
    """Which model is the champion, where it is, what the last night came to."""
    from flows.commands import nightly

    sys.exit(nightly.status())


@app.command()
def doctor() -> None:
    """Look at Python, torch, GPU, disk, settings, WikiArt, git, the DVC remote and Prefect; changes nothing."""
    work_tree.enter()
    from flows.commands import doctor as report

    sys.exit(report.main())


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


def _archive(ids: list[str]) -> "tuple[dict[str, Work], dict[str, DownloadRecord]]":
    """The catalog and the account by id. Raises AtelierError where `ids` are not in the catalog."""
    from atelier.data import catalog
    from atelier.data import catalog as account

    works = {work.id: work for work in catalog.read_catalog(Path("data/catalog.parquet"))}
    if unknown := [id for id in ids if id not in works]:
        raise AtelierError(
            f"data/catalog.parquet has no {', '.join(unknown)}: its column id lists what it has"
        )
    return works, {entry.id: entry for entry in account.read_downloads(Path("data/downloads.parquet"))}


def _print_slugs(kind: Literal["genre", "style"], live: bool) -> None:
    from atelier.settings.load import load_params
    from atelier.wikiart.slugs import read_slugs

    if live:
        work_tree.enter()
        wikiart = load_params(Path("params.yaml")).scrape.wikiart
        slugs = read_slugs(kind, live=True, base_url=wikiart.base_url, contact=wikiart.contact)
    else:
        slugs = read_slugs(kind)
    table = Table(f"{kind} (for params.yaml)", "title", "works")
    table.columns[2].justify = "right"
    for entry in slugs:
        table.add_row(entry.slug, entry.title, "?" if entry.count is None else f"{entry.count:,}")
    Console().print(table, markup=False)


if __name__ == "__main__":
    main()
