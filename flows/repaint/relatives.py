"""What a picture may be made into: its neighbours in latent space, the same on a larger canvas, moved along directions.

Turns recipes into recipes; paints nothing.
"""

from dataclasses import dataclass
from typing import Any

from atelier.canvas.recipe import MOST_MOVES, MOST_VARIED, Canvas, Move, Recipe, Variation
from atelier.errors import AtelierError


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
        if len(recipe.moves) + len(changes.moves) > MOST_MOVES:
            raise AtelierError(
                f"it would be moved {len(recipe.moves) + len(changes.moves)} times: at most {MOST_MOVES} are kept"
            )
        recipe = recipe.model_copy(update={"moves": (*recipe.moves, *changes.moves)})
        name += "".join(f"-moved-{move.direction}-{move.amount:g}" for move in changes.moves)
    if not changes.variations:
        return {name: recipe}
    if (times := len(recipe.grown_varied) + len(recipe.variations)) > MOST_VARIED:
        raise AtelierError(
            f"it is a neighbour of a neighbour, {times} times over: at most {MOST_VARIED} are kept, "
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
