"""Draw a sheet of pictures that are moved along the generator's strongest directions.

`atelier directions` runs this module as a process: `python -m atelier.film.directions_sheet`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from atelier.canvas.latents import directions_with_shares
from atelier.canvas.paint import artwork_name, load_painter, paint, provenance_of
from atelier.canvas.recipe import Move, Recipe
from atelier.device import pick_deterministic_device
from atelier.errors import run_for_exit_code
from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, fitted, sheet, write_panels
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, Provenance, write_png

COLUMNS = 7  # pictures in a row, the unmoved one in the middle
SHOWN_PX = 128  # longer side of a picture on the sheet, about


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet and print how to use it. Returns the exit code: 1 after a message, 130 or 143 if stopped."""
    arguments = _parse(argv)
    return run_for_exit_code(lambda: _write_directions(arguments), "")


def amounts(most: float) -> list[float]:
    """COLUMNS amounts from −most to most at equal steps, 0 in the middle."""
    half = COLUMNS // 2
    return [most * step / half for step in range(-half, half + 1)]


def move_along(recipe: Recipe, direction: int, amount: float) -> Recipe:
    """The recipe with one more move, after those that it has; the recipe itself if the amount is 0."""
    if not amount:
        return recipe
    return recipe.model_copy(update={"moves": (*recipe.moves, Move(direction=direction, amount=amount))})


def _write_directions(arguments: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(arguments.device)
    generator, model = load_painter(arguments.generator, device)
    shares = directions_with_shares(generator)[1].tolist()[: arguments.count]
    steps = amounts(arguments.amount)
    with Progress("directions", len(shares) * len(steps) * len(arguments.recipes), "pictures") as progress:
        panels = []
        for direction, share in enumerate(shares):
            pictures = []
            for provenance, picture in _rows(generator, model, arguments.recipes, direction, steps):
                if arguments.save:
                    write_png(arguments.save / _file_name(provenance, direction), picture, provenance)
                pictures.append(fitted(picture, SHOWN_PX))
                progress.advance()
            span = f"{steps[0]:+g} to {steps[-1]:+g} standard deviations"
            words = f"{share:.1%} of what the first layer does; {span}"
            panels.append(Panel(f"direction {direction}", (words,), sheet(np.stack(pictures), len(steps))))
        heading = f"The {len(shares)} strongest directions; the middle column is unmoved"
        write_panels(arguments.out, heading, panels, 2)
    print(f"{arguments.out}: `atelier reproduce FILE --move DIRECTION:AMOUNT` moves a picture so")
    return 0


def _rows(
    generator: nn.Module, model: ModelFacts, recipes: Sequence[Recipe], direction: int, steps: Sequence[float]
) -> Iterator[tuple[Provenance, Pixels]]:
    """Each recipe's picture moved by each of the steps, row by row."""
    for recipe in recipes:
        for amount in steps:
            moved = move_along(recipe, direction, amount)
            yield provenance_of(model, moved), paint(generator, moved)


def _file_name(provenance: Provenance, direction: int) -> str:
    """For example 1-00007-d2+1.5.png: the picture's own name, and how it is moved."""
    own, moves = artwork_name(provenance), provenance.latent.moves
    return f"{own}-d{direction}{moves[-1].amount:+g}.png" if moves else f"{own}.png"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.film.directions_sheet")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipes", type=Recipe.model_validate_json, nargs="+", help="of the pictures to move, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, a PNG")
    parser.add_argument("--count", type=int, default=8, help="number of directions, the strongest first")
    parser.add_argument("--amount", type=float, default=3.0, help="standard deviations to either side")
    parser.add_argument("--save", type=Path, help="a folder for every picture of the sheet as a PNG")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
