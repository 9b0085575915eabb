"""A picture as somebody gave it: what it says of itself, and whether its pixels are those that it names.

What a picture may be made into: its neighbours in latent space, the same on a larger canvas, moved along directions.

Turns recipes into recipes; paints nothing.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atelier.canvas.recipe import MAX_MOVES, MAX_VARIATIONS, Canvas, Move, Recipe, Variation
from atelier.errors import AtelierError
from atelier.images.verify import read_rgb
from atelier.pictures import Samples
from atelier.pictures.compare import pixels_sha256
from atelier.pictures.untrusted import escaped
from atelier.provenance import facts
from atelier.provenance.facts import PixelFacts, Provenance
from flows.records import ledger

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Given:
    """`name` is what a person called it; `pixels` are its own, None where they cannot be read: `trouble` says why.

    `made` is what the file carries or, where it carries nothing and `from_ledger`, what the ledger knows of its pixels.
    """

    name: str
    path: Path
    made: Provenance
    pixels: PixelFacts | None
    trouble: str = ""
    from_ledger: bool = False

    @property
    def named(self) -> PixelFacts:
        assert self.made.pixels is not None  # provenance.read refuses it
        return self.made.pixels

    def bands(self) -> Iterator[Samples]:
        """The file's own pixels."""
        if self.from_ledger:  # of whatever format
            yield np.asarray(read_rgb(self.path.read_bytes()))
        else:
            yield from facts.read_bands(self.path)


def look(files: Mapping[str, Path], say: Say) -> dict[str, Given | str]:
    """Each file by its name: a picture that says what made it, or that the ledger knows; else a sentence why not."""
    looked: dict[str, Given | str] = {}
    bare: dict[str, str] = {}
    for name, path in files.items():
        try:
            looked[name] = _look(name, path)
        except AtelierError as error:
            looked[name] = _film(name, path) or str(error)
            with contextlib.suppress(AtelierError):  # no picture at all: then that is the sentence
                bare[name] = pixels_sha256(path)
    if bare:
        with ledger.opened(say) as book:
            for name, sha256 in bare.items():
                if known := book.of_pixels(sha256):
                    made = known[0].provenance
                    looked[name] = Given(name, files[name], made, made.pixels, from_ledger=True)
    return looked


def _film(name: str, path: Path) -> str | None:
    from atelier.film.encode import FORMATS  # and with it PyAV, which no picture needs

    named_so = path.suffix.lower() in FORMATS
    return (
        f"{escaped(name)} is a film: `atelier refilm` makes films again, or a frame of them"
        if named_so
        else None
    )


def _look(name: str, path: Path) -> Given:
    made = facts.read_provenance(path)
    try:
        return Given(name, path, made, PixelFacts.of_bands(facts.read_bands(path)))
    except AtelierError as error:
        return Given(name, path, made, None, str(error).replace(escaped(path), "it", 1))


@dataclass(frozen=True, slots=True)
class Changes:
    """What a person asked for; all of it at once: neighbours of the moved picture on the larger canvas."""

    variations: int = 0
    strength: float = 0.3
    canvas: Canvas | None = None
    moves: tuple[Move, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.variations or self.canvas or self.moves)


def relatives(recipe: Recipe, changes: Changes) -> dict[str, Recipe]:
    """The recipes that the changes make of one, by what to add to the picture's name.

    Raises AtelierError for what a recipe has no words for: to grow twice, or no larger, and more than it holds.
    """
    name = ""
    if changes.canvas is not None:
        rows, columns = changes.canvas
        recipe = _grown(recipe, changes.canvas)
        name += f"-{rows}x{columns}"
    if changes.moves:
        if len(recipe.moves) + len(changes.moves) > MAX_MOVES:
            raise AtelierError(
                f"it would be moved {len(recipe.moves) + len(changes.moves)} times: at most {MAX_MOVES} are kept"
            )
        recipe = recipe.model_copy(update={"moves": (*recipe.moves, *changes.moves)})
        name += "".join(f"-moved-{move.direction}-{move.amount:g}" for move in changes.moves)
    if not changes.variations:
        return {name: recipe}
    if (times := len(recipe.grown_varied) + len(recipe.variations)) > MAX_VARIATIONS:
        raise AtelierError(
            f"it is a neighbour of a neighbour, {times} times over: at most {MAX_VARIATIONS} are kept, "
            f"so ask for neighbours of an earlier one, or of picture {recipe.index} of seed {recipe.seed}"
        )
    if recipe.variation is not None:  # else the key is not named, as in `_grown`
        recipe = recipe.model_copy(update={"varied": recipe.variations})
    return {
        f"{name}-variation-{number}": recipe.model_copy(
            update={"variation": Variation(number=number, strength=changes.strength)}
        )
        for number in range(changes.variations)
    }


def _grown(recipe: Recipe, canvas: Canvas) -> Recipe:
    if recipe.grown_from is not None:
        raise AtelierError(
            f"it was grown from a canvas of {list(recipe.grown_from)} itself: grow the picture that it was grown from"
        )
    if canvas[0] < recipe.canvas[0] or canvas[1] < recipe.canvas[1] or canvas == recipe.canvas:
        raise AtelierError(
            f"its canvas is {list(recipe.canvas)}, and {list(canvas)} is no larger: name more rows, columns, or both"
        )
    grown: dict[str, Any] = {"canvas": canvas, "grown_from": recipe.canvas}
    if recipe.variation is not None:  # else keys are not named that earlier code does not know
        grown |= {"grown_varied": recipe.variations, "varied": (), "variation": None}
    return recipe.model_copy(update=grown)
