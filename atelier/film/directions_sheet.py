"""`python -m atelier.film.directions_sheet`: a sheet of pictures that are moved along the generator's directions."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from atelier.canvas.latents import directions_with_shares
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Move, Recipe
from atelier.device import pick_deterministic_device, versions
from atelier.errors import run_for_exit_code
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, fitted, sheet, write_panels
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, Provenance, SoftwareFacts, write_png

STEPS = 7  # pictures of a row, the unmoved in the middle
SHOWN_PX = 128  # longer side of one, about


def amounts(most: float) -> list[float]:
    """From −most to most in even steps, 0 in the middle."""
    half = STEPS // 2
    return [most * step / half for step in range(-half, half + 1)]


def along(recipe: Recipe, direction: int, amount: float) -> Recipe:
    """The recipe moved along a direction, after what moved it before; the same one for no amount."""
    if not amount:
        return recipe
    return recipe.model_copy(update={"moves": (*recipe.moves, Move(direction=direction, amount=amount))})


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it and say what is where; 0, 1 with a sentence, 130 or 143 where it was stopped."""
    given = _given(arguments)
    return run_for_exit_code(lambda: _directed(given), "")


def _directed(given: argparse.Namespace) -> int:
    generator, header = load_generator(given.generator)
    shares = directions_with_shares(generator)[1].tolist()[: given.count]
    device, _ = pick_deterministic_device(given.device)
    model, generator = ModelFacts.of(given.generator, header), in_double_precision(generator, device)
    steps = amounts(given.amount)
    with Progress("directions", len(shares) * len(steps) * len(given.recipes), "pictures") as progress:
        panels = []
        for direction, share in enumerate(shares):
            rows = [_row(generator, recipe, direction, steps) for recipe in given.recipes]
            pictures = []
            for recipe, picture in (each for row in rows for each in row):
                if given.save:
                    made = Provenance(
                        model=model,
                        latent=recipe,
                        software=SoftwareFacts(**versions()),
                    )
                    write_png(given.save / _name(recipe, direction), picture, made)
                pictures.append(fitted(picture, SHOWN_PX))
                progress.advance()
            span = f"{steps[0]:+g} to {steps[-1]:+g} standard deviations"
            words = f"{share:.1%} of what the first layer does; {span}"
            panels.append(Panel(f"direction {direction}", (words,), sheet(np.stack(pictures), len(steps))))
        heading = f"The {len(shares)} strongest directions; the middle column is unmoved"
        write_panels(given.out, heading, panels, 2)
    print(f"{given.out}: `atelier reproduce FILE --move DIRECTION:AMOUNT` moves a picture so")
    return 0


def _row(
    generator: nn.Module, recipe: Recipe, direction: int, steps: Sequence[float]
) -> Iterator[tuple[Recipe, Pixels]]:
    for amount in steps:
        there = along(recipe, direction, amount)
        yield there, paint(generator, there)


def _name(recipe: Recipe, direction: int) -> str:
    """1-00007-d2+1.5.png: the picture's own name, and how it is moved."""
    own = f"{recipe.seed}-{recipe.index:05d}"
    return f"{own}-d{direction}{recipe.moves[-1].amount:+g}.png" if recipe.moves else f"{own}.png"


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.film.directions_sheet")
    parser.add_argument("generator", type=Path)
    parser.add_argument(
        "recipes", type=Recipe.model_validate_json, nargs="+", help="of the pictures to move, as JSON"
    )
    parser.add_argument("--out", type=Path, required=True, help="a PNG, the sheet")
    parser.add_argument("--count", type=int, default=8, help="how many directions, the strongest first")
    parser.add_argument("--amount", type=float, default=3.0, help="standard deviations, either way")
    parser.add_argument("--save", type=Path, help="a folder for each picture of the sheet as a PNG")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
