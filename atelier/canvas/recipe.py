"""The recipe of a picture, as its provenance stores it, and rectangles, the parts of a picture.

A recipe that is read from a picture is untrusted input: every number is bounded here, and `atelier.canvas.paint` checks
how much memory a recipe takes before it allocates any. Nothing here loads torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from atelier.settings.schema import Generate, Layout, Normalise

MAX_MOVES = 16
MAX_VARIATIONS = 16
MAX_STATIONS = 64  # of a walk
MAX_FRAMES = 1_000_000  # of a walk
MAX_LATENT = 4096  # numbers

MAX_MIXED = 64  # labels in a mixture


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it contains characters that cannot be printed")
    return text


Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Cells = Annotated[int, Field(ge=1, le=4096)]
Canvas = tuple[Cells, Cells]  # rows and columns of latents
Latent = Annotated[tuple[Annotated[float, Field(ge=-100, le=100)], ...], Field(min_length=1, max_length=MAX_LATENT)]
Weight = Annotated[float, Field(gt=0, le=1)]
# a class, "none", or several classes and their weights
Label = Name | Annotated[tuple[tuple[Name, Weight], ...], Field(min_length=1, max_length=MAX_MIXED)]
Easing = Literal["linear", "smooth"]
Grain = Literal["still", "moving"]


class Facts(BaseModel):
    """Base class of the parts of a provenance: no unknown keys, no conversions ("3" is not a number), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Variation(Facts):
    """A neighbour in latent space: the `number`-th one, turned away from the picture by `strength` · 90°."""

    number: Natural
    strength: Annotated[float, Field(gt=0, le=1)]


class Move(Facts):
    """A shift of the latent by `amount` standard deviations along a direction, 0 for the strongest (`directions`)."""

    direction: Annotated[int, Field(ge=0, lt=4096)]
    amount: Annotated[float, Field(ge=-100, le=100)]


class Station(Facts):
    """A picture that a walk passes through; `latent` takes the place of the one that is drawn.

    `label` is None where it is the recipe's. In files, a label that is None is left out.
    """

    seed: Natural
    index: Natural
    latent: Latent | None = None
    label: Label | None = Field(None, exclude_if=lambda label: label is None)


class Walk(Facts):
    """One frame of a walk: `frames` frames at equal intervals pass through `stations` in order.

    With `loop` the walk returns to its first station. `grain` "still" keeps the first station's noise for details in
    all frames; "moving" changes it from each station's to the next one's.
    """

    stations: Annotated[tuple[Station, ...], Field(min_length=2, max_length=MAX_STATIONS)]
    frame: Natural
    frames: Annotated[int, Field(ge=2, le=MAX_FRAMES)]
    loop: bool
    easing: Easing
    grain: Grain = "still"

    @model_validator(mode="after")
    def _check_frame(self) -> Self:
        if self.frame >= self.frames:
            raise ValueError(f"there is no frame {self.frame} of {self.frames}")
        return self


class Recipe(Facts):
    """All that decides a picture, besides the generator.

    The latents are made in this order:

    1. The field of picture `index` of `seed` is drawn at `canvas` with `layout`, and multiplied by `truncation`.
       In a walk, the fields of two stations are drawn and interpolated. A `latent`, which `atelier project` found,
       takes the place of a field of one cell.
    2. If `grown_from` is set, the field of that smaller canvas, varied by `grown_varied`, replaces the middle.
    3. The field is varied: by each of `varied`, then by `variation`.
    4. The field is moved by each of `moves`.

    `normalise` and `seamless` decide how the generator paints them, and `label` what, if it has labels: the same in all
    cells. In a walk the weights of labels change linearly from station to station. None is no label.
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
    latent: Latent | None = None
    label: Label | None = Field(None, exclude_if=lambda label: label is None)

    @classmethod
    def of(cls, settings: Generate, seed: int, index: int, canvas: Sequence[int] | None = None) -> Self:
        """The recipe of a picture with the settings in params.yaml's `generate`; `canvas` replaces theirs."""
        rows, columns = canvas or settings.canvas
        names = ("truncation", "layout", "normalise", "seamless", "label")
        chosen = {name: getattr(settings, name) for name in names}
        return cls(seed=seed, index=index, canvas=(rows, columns), **chosen)

    @property
    def variations(self) -> tuple[Variation, ...]:
        """The variations of step 3, in order."""
        return self.varied if self.variation is None else (*self.varied, self.variation)

    @model_validator(mode="after")
    def _check_variations(self) -> Self:
        if self.varied and self.variation is None:
            raise ValueError("varied is set without a variation")
        if self.grown_varied and self.grown_from is None:
            raise ValueError("grown_varied is set without grown_from")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        for label in (self.label, *(station.label for station in (self.walk.stations if self.walk else ()))):
            if isinstance(label, tuple) and sum(weight for _, weight in label) > 1 + 1e-6:
                raise ValueError("the weights of a label add up to more than 1")
        return self

    @model_validator(mode="after")
    def _check_latent(self) -> Self:
        if self.latent and (self.walk or (self.grown_from or self.canvas) != (1, 1)):
            raise ValueError("latent is set for a walk or for a canvas of several cells")
        if self.walk and self.canvas != (1, 1) and any(station.latent for station in self.walk.stations):
            raise ValueError("a station has a latent, but the canvas has several cells")
        return self


@dataclass(frozen=True)
class Rectangle:
    """A part of a picture, or of a feature map."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of its rows and of its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def within(self, other: "Rectangle") -> bool:
        """Whether all of it is inside the other rectangle."""
        rows_are = other.top <= self.top and self.top + self.height <= other.top + other.height
        return rows_are and other.left <= self.left and self.left + self.width <= other.left + other.width


def cut(whole: Rectangle, height: int, width: int) -> Iterator[Rectangle]:
    """Cut a rectangle into pieces of at most this size, row by row."""
    bottom, right = whole.top + whole.height, whole.left + whole.width
    for top in range(whole.top, bottom, height):
        for left in range(whole.left, right, width):
            yield Rectangle(top, left, min(height, bottom - top), min(width, right - left))
