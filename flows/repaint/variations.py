"""Variations of a picture: its neighbours in latent space, the same on a larger canvas, or moved along directions.

A picture's recipe is changed, and the present code paints the changed recipes, all in one process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atelier.canvas.recipe import MAX_MOVES, MAX_VARIATIONS, Canvas, Move, Recipe, Variation
from atelier.errors import AtelierError
from atelier.pictures import Samples
from atelier.provenance.facts import Provenance
from flows.repaint.job import NO_REASON, Workspace, load_pixels, painted_now
from flows.repaint.picture import Picture


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change, all at once: for example neighbours of the moved picture on the larger canvas.

    `neighbours` is how many to paint, `strength` in (0, 1] how far they are away, `canvas` the larger canvas.
    """

    neighbours: int = 0
    strength: float = 0.3
    canvas: Canvas | None = None
    moves: tuple[Move, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.neighbours or self.canvas or self.moves)


@dataclass(frozen=True, slots=True)
class Variations:
    """The files that were written of a picture's variations, and why some are missing."""

    picture: Picture
    written: tuple[Path, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Variation:
    """A changed recipe, and what is appended to the picture's name. `last` marks a picture's last one."""

    picture: Picture
    suffix: str
    recipe: Recipe
    last: bool

    @property
    def provenance(self) -> Provenance:
        """The provenance of an artwork (also if the picture is a print), without its pixels."""
        artwork: dict[str, Any] = {"print": None, "pick": None, "pixels": None, "latent": self.recipe}
        return self.picture.provenance.model_copy(update=artwork)


def change_recipe(recipe: Recipe, changes: Changes) -> dict[str, Recipe]:
    """The changed recipes, each by what to append to the picture's name.

    Raises AtelierError if a recipe cannot express a change: growing twice, growing to a canvas that is not larger, or
    more moves or neighbours of neighbours than it can hold.
    """
    suffix = ""
    if changes.canvas is not None:
        rows, columns = changes.canvas
        recipe = _grow(recipe, changes.canvas)
        suffix += f"-{rows}x{columns}"
    if changes.moves:
        if (moves := len(recipe.moves) + len(changes.moves)) > MAX_MOVES:
            raise AtelierError(f"it would be moved {moves} times: at most {MAX_MOVES} are kept")
        recipe = recipe.model_copy(update={"moves": (*recipe.moves, *changes.moves)})
        suffix += "".join(f"-moved-{move.direction}-{move.amount:g}" for move in changes.moves)
    if not changes.neighbours:
        return {suffix: recipe}
    if (times := len(recipe.grown_varied) + len(recipe.variations)) > MAX_VARIATIONS:
        raise AtelierError(
            f"it is a neighbour of a neighbour, {times} times over: at most {MAX_VARIATIONS} are kept, "
            f"so ask for neighbours of an earlier one, or of picture {recipe.index} of seed {recipe.seed}"
        )
    if recipe.variation is not None:  # otherwise the key stays unset, because earlier code rejects it
        recipe = recipe.model_copy(update={"varied": recipe.variations})
    return {
        f"{suffix}-variation-{number}": recipe.model_copy(
            update={"variation": Variation(number=number, strength=changes.strength)}
        )
        for number in range(changes.neighbours)
    }


def paint_variations(workspace: Workspace, pictures: Sequence[Picture], changes: Changes) -> Iterator[Variations]:
    """Paint the variations of every picture; yields one result for each."""
    jobs: dict[str, _Variation] = {}
    for number, picture in enumerate(pictures):
        try:
            recipes = change_recipe(picture.provenance.latent, changes)
        except AtelierError as error:
            yield Variations(picture, (), str(error))
            continue
        for place, (suffix, recipe) in enumerate(recipes.items()):
            last = place == len(recipes) - 1
            jobs[f"{number}-{place}"] = _Variation(picture, suffix, recipe, last)
    if not jobs:
        return
    left = {variation.picture.name: variation.picture for variation in jobs.values()}
    reason = NO_REASON
    try:
        for variations in _paint(workspace, jobs, changes):
            del left[variations.picture.name]
            yield variations
    except AtelierError as error:
        reason = str(error)
    yield from (Variations(picture, (), reason) for picture in left.values())


def _paint(workspace: Workspace, jobs: Mapping[str, _Variation], changes: Changes) -> Iterator[Variations]:
    """Yield each picture's variations when the last of them is painted. Raises AtelierError if the process fails."""
    written: list[Path] = []
    shown: list[tuple[str, Samples]] = []
    failure = ""
    named = [workspace.job(name, variation.provenance, None) for name, variation in jobs.items()]
    with workspace.start(named, None) as process:
        for answer in process.answers(workspace.log):
            variation, path = jobs[answer.name], workspace.array_path(answer.name, None)
            stem = variation.picture.path.stem
            if answer.pixels is None:
                failure = answer.refused or NO_REASON
            else:
                provenance = painted_now(variation.provenance, answer)
                try:
                    name = f"{stem}{variation.suffix}"
                    written.append(workspace.output.write_picture(name, path, provenance))
                except AtelierError as error:
                    failure = str(error)
                shown.append((variation.suffix.rpartition("-")[2], load_pixels(path)))
                path.unlink()  # the memory map stays readable
            if variation.last:
                if changes.neighbours and shown:
                    heading = f"{stem}, and neighbours of it at strength {changes.strength:g}"
                    panels = [*_own_panel(variation.picture), *shown]
                    try:
                        written.append(workspace.output.write_sheet(f"{stem}-variations", heading, panels))
                    except AtelierError as error:
                        failure = str(error)
                yield Variations(variation.picture, tuple(written), failure)
                written, shown, failure = [], [], ""


def _own_panel(picture: Picture) -> list[tuple[str, Samples]]:
    return [("the picture", np.concatenate([*picture.bands()]))] if picture.pixels else []


def _grow(recipe: Recipe, canvas: Canvas) -> Recipe:
    """The recipe on a larger canvas, with the present canvas in its middle."""
    if recipe.grown_from is not None:
        raise AtelierError(
            f"it was grown from a canvas of {list(recipe.grown_from)} itself: grow the picture that it was grown from"
        )
    if canvas[0] < recipe.canvas[0] or canvas[1] < recipe.canvas[1] or canvas == recipe.canvas:
        raise AtelierError(
            f"its canvas is {list(recipe.canvas)}, and {list(canvas)} is no larger: name more rows, columns, or both"
        )
    grown: dict[str, Any] = {"canvas": canvas, "grown_from": recipe.canvas}
    if recipe.variation is not None:  # otherwise these keys stay unset, because earlier code rejects them
        grown |= {"grown_varied": recipe.variations, "varied": (), "variation": None}
    return recipe.model_copy(update=grown)
