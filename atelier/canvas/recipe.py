"""The recipe of a latent: everything that decides what a generator is given, and how, in the words of a provenance.

A recipe read from a picture is a stranger's claim: each number is bounded here, and what it costs to paint is asked
before anything is allocated (atelier.canvas.paint). Knows no tensor; `atelier.canvas.paint` follows it.

Parts of pictures and of maps of features. Knows no array.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atelier.settings.schema import Layout, Normalise

Natural = Annotated[int, Field(ge=0, lt=2**31)]

Cells = Annotated[int, Field(ge=1, le=4096)]

Canvas = tuple[Cells, Cells]

MAX_MOVES, MAX_VARIATIONS = 16, 16  # that a recipe holds

MAX_STATIONS, MAX_FRAMES = 64, 1_000_000  # of a walk

Easing = Literal["linear", "smooth"]

Grain = Literal["still", "moving"]


class Facts(BaseModel):
    """A part of what a picture says of itself: unknown keys are refused, "3" is no number, NaN is none either."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Variation(Facts):
    """A neighbour in latent space: `number` of it, turned away from the picture by `strength` quarter turns."""

    number: Natural
    strength: Annotated[float, Field(gt=0, le=1)]


class Move(Facts):
    """So many standard deviations along a direction of the generator's first layer (0 is the strongest)."""

    direction: Annotated[int, Field(ge=0, lt=4096)]
    amount: Annotated[float, Field(ge=-100, le=100)]


class Station(Facts):
    """A latent that a walk passes through."""

    seed: Natural
    index: Natural


class Walk(Facts):
    """Which frame of which walk: `frames` in all, at even times, through `stations` in order, back where it loops.

    `grain` says what becomes of the noise for details: "still" keeps the first station's, "moving" passes from each
    station's to the next one's.
    """

    stations: Annotated[tuple[Station, ...], Field(min_length=2, max_length=MAX_STATIONS)]
    frame: Natural
    frames: Annotated[int, Field(ge=2, le=MAX_FRAMES)]
    loop: bool
    easing: Easing
    grain: Grain = "still"

    @model_validator(mode="after")
    def _the_frame_is_one_of_them(self) -> Self:
        if self.frame >= self.frames:
            raise ValueError(f"there is no frame {self.frame} of {self.frames}")
        return self


class Recipe(Facts):
    """What decides a latent, in the order in which it is done.

    The field of `seed` and `index` is drawn at `canvas` as `layout` says, times `truncation`; where `grown_from` is
    set, what that smaller canvas would have been, varied by `grown_varied`, lies in its middle. A walk's frame lies
    between its stations' fields instead. Then it is varied: each of `varied`, which come only before a `variation`,
    gives a neighbour of the one before. Then it is moved. `normalise` and `seamless` say how the generator paints it.
    """

    seed: Natural
    index: Natural
    canvas: Canvas
    truncation: Annotated[float, Field(ge=0, le=2)]
    layout: Layout = "random"
    normalise: Normalise = "overlap"
    seamless: bool = False
    grown_from: Canvas | None = None
    grown_varied: Annotated[tuple[Variation, ...], Field(max_length=MAX_VARIATIONS)] = ()
    varied: Annotated[tuple[Variation, ...], Field(max_length=MAX_VARIATIONS)] = ()
    variation: Variation | None = None
    moves: Annotated[tuple[Move, ...], Field(max_length=MAX_MOVES)] = ()
    walk: Walk | None = None

    @property
    def variations(self) -> tuple[Variation, ...]:
        """All that came after it grew, in order."""
        return self.varied if self.variation is None else (*self.varied, self.variation)

    @model_validator(mode="after")
    def _neighbours_of_neighbours_are_neighbours(self) -> Self:
        if self.varied and self.variation is None:
            raise ValueError("there are neighbours on the way to no neighbour")
        if self.grown_varied and self.grown_from is None:
            raise ValueError("it was varied before it grew, and did not grow")
        return self


@dataclass(frozen=True)
class Rectangle:
    """A part of a picture, or of a map of features."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def divided(self, px: int) -> "Rectangle":
        """The same part where one of these pixels is `px` of those."""
        return Rectangle(self.top // px, self.left // px, self.height // px, self.width // px)

    def within(self, other: "Rectangle") -> bool:
        return (
            other.top <= self.top
            and other.left <= self.left
            and self.top + self.height <= other.top + other.height
            and self.left + self.width <= other.left + other.width
        )


def cut(whole: Rectangle, height: int, width: int) -> Iterator[Rectangle]:
    """A rectangle in pieces of at most this size, row by row."""
    bottom, right = whole.top + whole.height, whole.left + whole.width
    for top in range(whole.top, bottom, height):
        for left in range(whole.left, right, width):
            yield Rectangle(top, left, min(height, bottom - top), min(width, right - left))
