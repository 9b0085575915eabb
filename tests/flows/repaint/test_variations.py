"""The recipes of a picture's variations."""

import pytest

from atelier.canvas.recipe import Move, Recipe, Station, Variation, Walk
from atelier.errors import AtelierError
from flows.repaint.session import Changes, change_recipe

RECIPE = Recipe(seed=3, index=7, canvas=(1, 1), truncation=0.8)
NEAR = Variation(number=0, strength=0.3)
STATIONS = (Station(seed=3, index=7), Station(seed=1, index=0, latent=(0.5, -1.0)))
PROJECTED = Walk(stations=STATIONS, frame=0, frames=9, loop=True, easing="smooth")


def test_changes_are_false_if_nothing_is_to_be_changed() -> None:
    assert not Changes()
    assert Changes(neighbours=1) and Changes(canvas=(2, 2)) and Changes(moves=(Move(direction=0, amount=1),))


def test_neighbours_are_numbered_from_the_same_picture() -> None:
    made = change_recipe(RECIPE, Changes(neighbours=2, strength=0.25))
    assert list(made) == ["-variation-0", "-variation-1"]
    assert made["-variation-1"] == RECIPE.model_copy(update={"variation": Variation(number=1, strength=0.25)})
    assert "varied" not in made["-variation-1"].model_dump(exclude_unset=True)  # a key that earlier code rejects


def test_a_neighbour_can_have_neighbours() -> None:
    first = change_recipe(RECIPE, Changes(neighbours=3, strength=0.25))["-variation-2"]
    (second,) = change_recipe(first, Changes(neighbours=1, strength=0.5)).values()
    ways = [(near.number, near.strength) for near in second.variations]
    assert ways == [(2, 0.25), (0, 0.5)]
    assert Recipe.model_validate_json(second.model_dump_json()) == second
    with pytest.raises(ValueError, match="varied is set without a variation"):
        Recipe.model_validate(RECIPE.model_dump() | {"varied": second.varied})


def test_a_grown_neighbour_stays_that_neighbour() -> None:
    near = change_recipe(RECIPE, Changes(neighbours=1))["-variation-0"]
    (grown,) = change_recipe(near, Changes(canvas=(3, 3))).values()
    assert (grown.grown_from, grown.grown_varied, grown.variations) == ((1, 1), near.variations, ())
    (further,) = change_recipe(grown, Changes(neighbours=1)).values()
    assert (further.grown_varied, len(further.variations)) == (near.variations, 1)
    assert "grown_varied" not in change_recipe(RECIPE, Changes(canvas=(3, 3)))["-3x3"].model_dump(exclude_unset=True)


def test_all_changes_are_made_together() -> None:
    move = Move(direction=2, amount=-1.5)
    made = change_recipe(RECIPE, Changes(neighbours=1, canvas=(2, 3), moves=(move,)))
    (recipe,) = made.values()
    assert list(made) == ["-2x3-moved-2--1.5-variation-0"]
    assert (recipe.canvas, recipe.grown_from, recipe.moves) == ((2, 3), (1, 1), (move,))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_moves_are_added_to_earlier_moves() -> None:
    once = change_recipe(RECIPE, Changes(moves=(Move(direction=0, amount=1),)))["-moved-0-1"]
    (twice,) = change_recipe(once, Changes(moves=(Move(direction=0, amount=1),))).values()
    assert [move.amount for move in twice.moves] == [1, 1]


@pytest.mark.parametrize(
    ("recipe", "changes", "sentence"),
    [
        (
            {"varied": (NEAR,) * 16, "variation": NEAR},
            Changes(neighbours=1),
            "17 times over: at most 16 are possible, .*picture 7 of seed 3",
        ),
        ({"canvas": (2, 2), "grown_from": (1, 1)}, Changes(canvas=(3, 3)), "grown from a canvas"),
        ({"canvas": (2, 3)}, Changes(canvas=(3, 2)), "no larger"),
        ({}, Changes(canvas=(1, 1)), "no larger"),
        ({}, Changes(moves=(Move(direction=0, amount=1),) * 17), "at most 16"),
        ({"walk": PROJECTED}, Changes(canvas=(2, 2)), "whose latent has one cell"),
    ],
)
def test_changes_that_a_recipe_cannot_express_raise_an_error(recipe: dict, changes: Changes, sentence: str) -> None:
    with pytest.raises(AtelierError, match=sentence):
        change_recipe(RECIPE.model_copy(update=recipe), changes)
