"""Paint pictures with a contact sheet, or a sheet of pictures that are moved along the strongest directions.

`atelier paint` and `atelier directions` run this module as a process: `python -m atelier.film.sheets`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atelier.canvas.artworks import artwork_name, labelled, load_painter, provenance_of, write_artworks
from atelier.canvas.latents import directions
from atelier.canvas.murals import is_mural
from atelier.canvas.paint import paint, size_px
from atelier.canvas.recipe import Move, Recipe
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.networks.latent_field import FieldGenerator
from atelier.pictures.sheets import Panel, fitted, sheet, write_panels
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, write_png

COLUMNS = 7  # pictures in a row of the sheet of directions, the unmoved one in the middle
SHOWN_PX = 128  # longer side of a picture there, about


def main(argv: Sequence[str] | None = None) -> int:
    """Paint, and print where the result is. Returns the exit code: 1 after a message, 130 or 143 if stopped."""
    arguments = _parse(argv)

    def work() -> int:
        device, _ = pick_deterministic_device(arguments.device)
        generator, model = load_painter(arguments.generator, device)
        write = _write_pictures if arguments.command == "paint" else _write_directions
        print(write(arguments, generator, model))
        return 0

    return run_for_exit_code(work, "")


def amounts(most: float) -> list[float]:
    """COLUMNS amounts from −most to most at equal steps, 0 in the middle."""
    half = COLUMNS // 2
    return [most * step / half for step in range(-half, half + 1)]


def _write_pictures(arguments: argparse.Namespace, generator: FieldGenerator, model: ModelFacts) -> str:
    """Paint pictures 0 to `count` − 1 of the recipe's seed into a folder with a contact sheet."""
    (recipe,) = arguments.recipes
    height, width = size_px(generator, recipe)
    if is_mural(height, width):
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is a mural, which stage generate paints: name a smaller --canvas, "
            f"or set generate.canvas and train.init_from in params.yaml and run `dvc repro generate`"
        )
    recipes = (recipe.model_copy(update={"index": index}) for index in range(arguments.count))
    pictures = (provenance_of(generator, model, labelled(generator, each)) for each in recipes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    contact_sheet = arguments.out / "contact_sheet.png"
    with Progress("paint", arguments.count, "pictures") as progress:
        write_artworks(generator, pictures, arguments.out, contact_sheet, progress)
    made = f"{counted(arguments.count, 'picture')} of {width:,} × {height:,} px"
    return f"{made} in {arguments.out}, together in {contact_sheet}"


def _write_directions(arguments: argparse.Namespace, generator: FieldGenerator, model: ModelFacts) -> str:
    """Paint the pictures moved along each of the `count` strongest directions by up to `amount`, onto one sheet."""
    shares = directions(generator)[1].tolist()[: arguments.count]
    recipes = [labelled(generator, recipe) for recipe in arguments.recipes]
    steps = amounts(arguments.amount)
    with Progress("directions", len(shares) * len(steps) * len(arguments.recipes), "pictures") as progress:
        panels = []
        for direction, share in enumerate(shares):
            pictures = []
            for recipe in recipes:
                for amount in steps:
                    moves = (*recipe.moves, Move(direction=direction, amount=amount))
                    moved = recipe.model_copy(update={"moves": moves}) if amount else recipe
                    provenance = provenance_of(generator, model, moved)
                    picture = paint(generator, provenance.latent)
                    if arguments.save:  # for example as 1-00007-d2+1.5.png
                        way = f"-d{direction}{moved.moves[-1].amount:+g}" if moved.moves else ""
                        write_png(arguments.save / f"{artwork_name(provenance)}{way}.png", picture, provenance)
                    pictures.append(fitted(picture, SHOWN_PX))
                    progress.advance()
            span = f"{steps[0]:+g} to {steps[-1]:+g} standard deviations"
            words = f"{share:.1%} of what the first layer does; {span}"
            panels.append(Panel(f"direction {direction}", (words,), sheet(np.stack(pictures), len(steps))))
        heading = f"The {len(shares)} strongest directions; the middle column is unmoved"
        write_panels(arguments.out, heading, panels, 2)
    return f"{arguments.out}: `atelier vary FILE --move DIRECTION:AMOUNT` moves a picture so"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.film.sheets")
    parser.add_argument("command", choices=("paint", "directions"))
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipes", type=Recipe.model_validate_json, nargs="+", help="of the pictures, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="a folder of pictures, or the sheet of directions")
    parser.add_argument("--count", type=int, default=8, help="number of pictures, or of directions, strongest first")
    parser.add_argument("--amount", type=float, default=3.0, help="standard deviations to either side")
    parser.add_argument("--save", type=Path, help="a folder for every picture of the sheet of directions as a PNG")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
