"""Commands that paint pictures: of any model, near a photograph, and again from their files, as they are or changed."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import AtelierError
from atelier.paths import GENERATOR, PAINTED, PARAMS, PROJECTED
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from atelier.canvas.recipe import Move, Recipe, Station

app = typer.Typer()

Model = Annotated[Path | None, typer.Option(help="a generator.safetensors; by default the present training's")]
CanvasSize = Annotated[str | None, typer.Option(help="rows x columns, for example 2x3; by default generate.canvas")]
Files = Annotated[list[Path], typer.Argument(help="artworks and prints: PNG files that Atelier made")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; pictures are the same bytes on the cpu only")]
Json = Annotated[bool, typer.Option("--json", help="print a JSON object for each picture")]


@app.command()
def paint(
    model: Annotated[str, typer.Option("--from", help="base, or a generator.safetensors, or its folder")] = "base",
    count: Annotated[int, typer.Option(min=1, max=100_000, help="how many pictures")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="each seed gives other pictures")] = 1,
    canvas: CanvasSize = None,
    label: Annotated[str | None, typer.Option(help="of a model with labels: what all pictures show; or none")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures; else one in .atelier/painted")] = None,
) -> None:
    """Paint pictures with a model, without data or training. `atelier reproduce` paints them again."""
    from atelier.canvas.recipe import Station
    from atelier.model_store import BASE_MODEL

    here = work_tree.enter()
    path = BASE_MODEL if model == "base" else here / model
    if path == BASE_MODEL and not path.is_dir():
        raise AtelierError(f"{path}, the base model, is missing: `git checkout -- {path}` brings it back")
    if out and (here / out).is_dir() and any((here / out).iterdir()):
        raise AtelierError(f"--out {out} holds files, which pictures might replace: name a new folder")
    generator = path / GENERATOR.name if path.is_dir() or path == BASE_MODEL else path
    folder = here / out if out else PAINTED / f"{'base' if model == 'base' else path.stem}-{seed}"
    recipe, device = recipe_of([Station(seed=seed, index=0)], canvas)
    recipe = recipe.model_copy(update={"label": label})  # generate.label is of the present training's labels
    options = (f"--count={count}", f"--out={folder}", f"--device={device}")
    sys.exit(run_module("atelier.film.sheets", "paint", str(generator), recipe.model_dump_json(), *options))


@app.command()
def reproduce(
    files: Files,
    out: Annotated[
        Path | None, typer.Option(help="folder for all pictures; else those that differ are in .atelier/reproduced")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="print each picture's whole lineage")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Paint pictures again from the provenance inside them, and compare every pixel.

    Exit code 0 if all are identical or within 1/255, 1 if one differs or cannot be painted.
    """
    from flows.reproduce import Request, main

    sys.exit(main(Request(tuple(files), out, explain=explain, device=device, as_json=as_json)))


@app.command()
def vary(
    files: Files,
    count: Annotated[int, typer.Option(min=0, max=1000, help="how many neighbours of each in latent space")] = 0,
    strength: Annotated[float, typer.Option(min=0.001, max=1, help="how far away; 1 is an unrelated picture")] = 0.3,
    canvas: Annotated[str | None, typer.Option(help="the picture on a larger canvas, in rows x columns: 3x5")] = None,
    move: Annotated[
        list[str] | None, typer.Option(help="direction:amount, as `atelier directions` numbers directions: 2:1.5")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures; else .atelier/reproduced")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Paint variations of pictures: neighbours in latent space, a larger canvas, or moved along directions.

    The present code paints, and first the picture itself, to show whether it still paints the same.
    """
    from flows.repaint.session import Changes
    from flows.reproduce import Request, main

    size = rows_by_columns(canvas, "--canvas") if canvas else None
    changes = Changes(count, strength, size, tuple(map(_move, move or ())))
    if not changes:
        raise AtelierError("say what to change: --count 8, --canvas 3x5 or --move 2:1.5")
    sys.exit(main(Request(tuple(files), out, changes, device=device, as_json=as_json)))


@app.command()
def project(
    photo: Annotated[Path, typer.Argument(help="a photograph or painting; its middle is used")],
    steps: Annotated[int, typer.Option(min=0, max=100_000, help="steps of gradients; with 0 the best drawn one")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="each seed searches from other pictures")] = 1,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="a PNG; by default in .atelier/projected")] = None,
) -> None:
    """Find the picture of a model that is nearest to a photo. `atelier walk` and `vary` can start from it."""
    from atelier.canvas.recipe import Recipe
    from atelier.settings.load import load_params

    here = work_tree.enter()
    path = here / out if out else PROJECTED / f"{photo.stem}.png"
    if path.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: the picture is a .png")
    original = here / photo
    for written in (path, path.with_name(f"{path.stem}-beside.png")):
        if written.exists() and original.exists() and written.samefile(original):
            raise AtelierError(f"--out {out or path} would replace {photo}: name another file")
    recipe = Recipe(seed=seed, index=0, canvas=(1, 1), truncation=1.0)
    options = (f"--out={path}", f"--steps={steps}", f"--device={load_params(PARAMS).generate.device}")
    generator = here / model if model else GENERATOR
    sys.exit(run_module("atelier.projection", str(generator), str(original), recipe.model_dump_json(), *options))


def recipe_of(stations: "Sequence[Station]", canvas: str | None, of_settings: bool = True) -> "tuple[Recipe, str]":
    """The recipe of the first picture with the settings of params.yaml's `generate`, and that section's device.

    `of_settings` says whether the model is the one that the settings make: generate.label is of its labels. Projections
    have one cell, whatever the settings say: raises AtelierError where `canvas` asks for more.
    """
    from atelier.canvas.recipe import Recipe
    from atelier.settings.load import load_params

    generate = load_params(PARAMS).generate
    cells = rows_by_columns(canvas, "--canvas") if canvas else None
    if any(station.latent for station in stations):
        if cells not in (None, (1, 1)):
            raise AtelierError(f"--canvas {canvas}: `atelier project` makes pictures of one cell; leave --canvas out")
        cells = (1, 1)
    first = stations[0]
    recipe = Recipe.of(generate, first.seed, first.index, cells)
    # in a walk each station has its own label, if any
    label = (first.label if len(stations) == 1 else None) or (recipe.label if of_settings else None)
    return recipe.model_copy(update={"latent": first.latent, "label": label}), generate.device


def run_module(module: str, *words: str) -> int:
    """Run a module in a child process, because it imports torch. Returns its exit code."""
    return process.foreground([sys.executable, "-m", module, *words], work_tree.environment())


def rows_by_columns(words: str, option: str) -> tuple[int, int]:
    """Parse `3x5` as 3 rows of 5."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", words)
    if match is None:
        raise AtelierError(f"{option} {words!r} is no size: say rows x columns, 3x5")
    return int(match[1]), int(match[2])


def _move(words: str) -> "Move":
    """Parse `2:1.5`."""
    from atelier.canvas.recipe import Move

    direction, _, amount = words.partition(":")
    try:
        return Move(direction=int(direction), amount=float(amount or 1))
    except ValueError:  # pydantic's ValidationError is one, too
        raise AtelierError(
            f"--move {words!r} is not a direction and an amount: say 2:1.5, with a direction from 0 on and an amount "
            "of up to 100 either way"
        ) from None


def station_of(word: str, here: Path, model: Path) -> "Station":
    """Parse `3`, the first picture of seed 3; `1:7`, picture 7 of seed 1; or a file that `model` painted."""
    from atelier.canvas.recipe import Station

    if not word.lower().endswith(".png"):
        match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", word)
        seed, index = (int(number or 0) for number in match.groups()) if match else (2**31, 0)
        if max(seed, index) < 2**31:
            return Station(seed=seed, index=index)
        raise AtelierError(
            f"{word!r} names no picture: say a seed, 3, or a picture of a seed, 3:7, with numbers below {2**31:,}, or "
            "a PNG that Atelier made"
        )
    from atelier.files import digest
    from atelier.provenance.facts import read_provenance

    path = here / word
    made = read_provenance(path)
    latent = made.latent
    if latent.walk or latent.variation or latent.grown_varied or latent.moves:
        raise AtelierError(
            f"{path} is a walk's frame, a variation or a moved picture, of which no walk is made: name a seed and a "
            "number, 3:7"
        )
    if made.model.sha256 != digest(model):
        raise AtelierError(f"{path} was painted by another model than {model}: name that one with --model")
    return Station(seed=latent.seed, index=latent.index, latent=latent.latent, label=latent.label)
