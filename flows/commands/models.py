"""Commands about models: import one, compare two, and choose the settings that train one."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from atelier.paths import GENERATOR, PARAMS
from flows.runtime import process, work_tree

app = typer.Typer()


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="a generator: .t7 of art-DCGAN, .pth of pytorch/examples, or a model of Atelier's"),
    ],
    discriminator: Annotated[
        Path | None, typer.Option(help="the file of its discriminator, to continue training against")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the model; by default that of the file")] = None,
) -> None:
    """Convert a DCGAN, or copy a model of Atelier's, into models/, so that training can start from it."""
    here = Path.cwd()
    work_tree.enter()
    command = [sys.executable, "-m", "atelier.importers", str(here / file)]
    command += ["--discriminator", str(here / discriminator)] if discriminator else []
    command += [f"--name={name}"] if name is not None else []
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="name of a preset; without one, all presets are listed")] = None,
) -> None:
    """Write settings for a machine and a picture size into params.yaml; comments and other keys stay."""
    from atelier.settings import edit

    if name is None:
        table = Table("preset", "for", box=None)
        for known, described in edit.PRESETS.items():
            table.add_row(known, described.purpose)
        Console().print(table, markup=False)
        return
    work_tree.enter()
    changes = edit.apply_preset(PARAMS, name)
    for change in changes:
        print(f"{change.key}: {edit.format_value(change.before)} -> {edit.format_value(change.after)}")
    print(
        "`dvc repro` runs the stages that this changes"
        if changes
        else f"params.yaml has the settings of {name} already"
    )


@app.command()
def compare(
    champion: Annotated[Path, typer.Argument(help="a generator.safetensors, for example of an earlier training")],
    challenger: Annotated[
        Path | None, typer.Argument(help="another one; by default that of the current training")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file to write, with pictures of both models from the same seeds")
    ] = None,
) -> None:
    """Compare two models on held-out paintings: which is better, and whether by more than chance."""
    from atelier.settings.load import load_params
    from flows.night.report import compare_command

    here = Path.cwd()
    work_tree.enter()
    params = load_params(PARAMS)
    second = here / challenger if challenger else GENERATOR
    command = compare_command(here / champion, second, params, sheet=here / sheet if sheet else None)
    sys.exit(process.foreground(command, work_tree.environment()))
