"""The `atelier` command: registers the sub-commands that flows.commands defines."""

import sys
from typing import Annotated

import typer

from atelier import __version__
from atelier.errors import run_for_exit_code
from flows.commands import films, models, paintings, pictures, training
from flows.runtime import work_tree

app = typer.Typer(
    help="An archive of paintings becomes a studio: scrape, download, train a GAN, generate artworks, print them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(f"atelier {__version__}")
        raise typer.Exit


@app.command()
def run(
    stages: Annotated[list[str] | None, typer.Argument(help="run up to these stages; all stages by default")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="open the page in a browser afterwards")] = False,
) -> None:
    """Run the pipeline like `dvc repro`, recorded by Prefect."""
    from flows import studio

    sys.exit(studio.main(stages or [], open_page))


@app.command()
def doctor() -> None:
    """Check Python, torch, GPU, disk, settings, WikiArt, git, the DVC remote and Prefect; change nothing."""
    work_tree.enter()
    from flows.commands import doctor

    sys.exit(doctor.main())


app.add_typer(paintings.app)
app.add_typer(models.app)
app.add_typer(pictures.app)
app.add_typer(films.app)
app.add_typer(training.explore_app, name="explore")
app.add_typer(training.nightly_app, name="nightly")


def main() -> None:
    """Run the console script. An AtelierError or an OSError ends it with a sentence and exit code 1."""

    def work() -> int:
        app()
        return 0

    sys.exit(run_for_exit_code(work, ""))


if __name__ == "__main__":
    main()
