import pytest

from atelier.canvas.recipe import Move, Recipe, Station, Variation, Walk
from atelier.provenance import facts as telling
from atelier.provenance.facts import SoftwareFacts, UpscaleFacts

PLAIN = Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0)
STATIONS = (Station(seed=3, index=0), Station(seed=14, index=2))
WALK = Walk(stations=STATIONS, frame=11, frames=1200, loop=True, easing="smooth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "picture 7 of seed 1"),
        ({"canvas": (3, 5), "layout": "smooth"}, "picture 7 of seed 1, on 3 × 5 cells, layout smooth"),
        ({"normalise": "batch", "seamless": True}, "picture 7 of seed 1, normalise batch, seamless"),
        (
            {"truncation": 0.7, "moves": (Move(direction=2, amount=-1.5),)},
            "0.7, moved -1.5 along direction 2",
        ),
        ({"canvas": (3, 5), "grown_from": (1, 2)}, "on 3 × 5 cells, grown from 1 × 2"),
        ({"variation": Variation(number=4, strength=0.3)}, "its neighbour 4, 0.3 quarter turns away"),
        (
            {"varied": (Variation(number=4, strength=0.3),), "variation": Variation(number=1, strength=1)},
            "its neighbour 4, 0.3 quarter turns away, its neighbour 1, 1 quarter turns away",
        ),
        ({"walk": WALK}, "frame 12 of 1,200 of a walk through 3-0 → 14-2 and back, eased"),
    ],
)
def test_a_recipe_in_words_says_what_is_unusual_in_the_order_in_which_it_is_done(changes, words) -> None:
    assert telling.describe_recipe(PLAIN.model_copy(update=changes)).endswith(words)


def test_an_enlargement_in_words_names_its_network() -> None:
    software = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
    upscale = UpscaleFacts(
        method="learned",
        scale=4,
        upscaler_sha256="2" * 64,
        settings={"passes": 2, "bits": 16},
        software=software,
    )
    told = "×4 learned, by the network of SHA-256 222222222222…; bits 16, passes 2"
    assert telling.describe_enlargement(upscale) == told


def test_strangers_texts_are_told_on_one_line() -> None:
    assert telling.printable("a\n\x1b[2J \u202e b") == r"a [2J \u202e b"
