"""Paint pictures into a folder: for stage generate, and for `atelier paint`, which runs this module as a process."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from atelier.canvas.murals import is_mural
from atelier.canvas.paint import paint, size
from atelier.canvas.recipe import Recipe
from atelier.canvas.render import Pixels, exact
from atelier.device import deterministic
from atelier.ending import with_words
from atelier.errors import AtelierError
from atelier.networks import load_generator
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, Provenance, write_png
from atelier.provenance.versions import software
from atelier.settings.messages import counted

SHOWN = 64  # pictures on the contact sheet, at most
SHOWN_PX = 256  # longer side there, at most


def write_artworks(
    generator: nn.Module, pictures: Iterable[Provenance], directory: Path, sheet: Path, progress: Progress
) -> None:
    """Paint each picture into `directory` as `<seed>-<index>.png`, and the first 64 onto one contact sheet."""
    shown: list[Pixels] = []
    for each in pictures:
        picture = paint(generator, each.latent)
        write_png(directory / f"{name(each)}.png", picture, each)
        if len(shown) < SHOWN:
            shown.append(thumbnail(picture, SHOWN_PX))
        progress.advance()
    write_sheet(sheet, np.stack(shown))
    progress.shows(sheet)


def name(made: Provenance) -> str:
    """A picture's file name without its ending."""
    return f"{made.latent.seed}-{made.latent.index:05d}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Paint and print where the pictures are; the exit code, 1 with a sentence for a user's mistake."""
    given = _given(arguments)
    return with_words(lambda: _painted(given), "")


def _painted(given: argparse.Namespace) -> int:
    generator, header = load_generator(given.generator)
    device, _ = deterministic(given.device)
    generator, model = exact(generator, device), ModelFacts.of(given.generator, header)
    height, width = size(generator, given.recipe)
    if is_mural(height, width):
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is a mural, which stage generate paints: name a smaller --canvas, "
            f"or set generate.canvas and train.init_from in params.yaml and run `dvc repro generate`"
        )
    pictures = (
        Provenance(model=model, latent=given.recipe.model_copy(update={"index": index}), software=software())
        for index in range(given.count)
    )
    given.out.mkdir(parents=True, exist_ok=True)
    sheet = given.out / "contact_sheet.png"
    with Progress("paint", given.count, "pictures") as progress:
        write_artworks(generator, pictures, given.out, sheet, progress)
    print(
        f"{counted(given.count, 'picture')} of {width:,} × {height:,} px in {given.out}, together in {sheet}"
    )
    return 0


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.canvas.artworks")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the first picture, as JSON")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
