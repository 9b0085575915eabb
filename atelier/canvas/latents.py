"""The latents and the grain that a recipe describes.

Interpolated latents keep the length of those that they lie between: a linear mixture of two normal latents is shorter
than any latent that the generator saw in training. The directions of a recipe's moves are those along which the
generator's first layer changes most, by closed-form factorisation (SeFa, Shen & Zhou, arXiv 2007.06600): they need no
pictures, no training and no labels.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Canvas, Move, Recipe, Station, Variation, Walk
from atelier.device import machine_memory
from atelier.errors import AtelierError
from atelier.networks.labels import NONE
from atelier.networks.latent_field import TRAINED_SIZE, FieldGenerator, draw_grain, draw_latents, slerp, with_length
from atelier.networks.r3gan import R3ganGenerator
from atelier.settings.schema import Layout

# of a smaller canvas's latents, the least share that is kept where the latents around them overlap with them
MIN_OWN_VARIANCE = 0.75
# per number of a field: while it is drawn, and while it is mixed with another
DRAWING_BYTES, MIXING_BYTES = 12, 32
# cells between two anchors of a smooth field, about: with fewer the picture is restless, with more the grid shows
ANCHOR_SPACING_CELLS = 3
DIRECTION_DECIMALS = 9  # on which builds of LAPACK agree; a change of the sixth changes a picture
MIN_EFFECT = 1e-9  # of the strongest direction's; weaker ones change no picture


def latent_field(generator: FieldGenerator, recipe: Recipe) -> Tensor:
    """The latents of a recipe: (1, nz), or (1, nz, rows, columns) for a larger canvas, float32 on the CPU.

    Raises AtelierError where they do not fit into memory, where a canvas is grown from a larger one, or where they are
    moved along a direction that the generator does not have.
    """
    canvas, own = recipe.canvas, recipe.grown_from or recipe.canvas
    if own[0] > canvas[0] or own[1] > canvas[1]:
        raise AtelierError(f"a canvas of {list(canvas)} cells cannot grow from one of {list(own)}: name a larger one")
    mixed = recipe.walk or recipe.variation or recipe.grown_varied or recipe.moves
    number_bytes = MIXING_BYTES if mixed else DRAWING_BYTES
    check_memory(canvas, "a field of latents", number_bytes * generator.nz * canvas[0] * canvas[1])
    latents = _drawn(recipe, generator.nz, own)
    latents = _varied(recipe, latents, own, (), recipe.grown_varied)
    if own != canvas:
        overhangs = [lattice.overhang for lattice in generator.lattices]
        around = _drawn(recipe, generator.nz, canvas).reshape(1, -1, *canvas)
        latents = _grown(around, latents.reshape(1, -1, *own), overhangs, recipe.seamless)
    latents = _varied(recipe, latents, canvas, recipe.grown_varied, recipe.variations)
    return move_latents(latents, generator, recipe.moves)


def grain_function(generator: FieldGenerator, recipe: Recipe) -> Callable[[int, int], Tensor]:
    """A function of a cell's row and column that returns its grain (n,); n is 0 for a generator without grain.

    Variations and moves keep the picture's grain. A grown canvas has the smaller one's grain in its middle. A walk
    keeps the grain of its first station, or with `grain: moving` changes it from one station's to the next one's.
    """
    sizes = zip(recipe.canvas, recipe.grown_from or recipe.canvas, generator.lattices, strict=True)
    top, left = (_middle(cells, own, lattice.overhang, recipe.seamless) for cells, own, lattice in sizes)

    def drawn(station: Station, row: int, column: int) -> Tensor:
        numbers = generator.grain_numbers
        return draw_grain(station.seed, station.index, row - top, column - left, numbers)

    if recipe.walk is None:
        picture = Station(seed=recipe.seed, index=recipe.index)
        return lambda row, column: drawn(picture, row, column)
    start, end, position = walk_position(recipe.walk)
    if recipe.walk.grain == "still":
        start = end = recipe.walk.stations[0]
    if start == end:
        return lambda row, column: drawn(start, row, column)
    return lambda row, column: _turned(drawn(start, row, column), drawn(end, row, column), position)


def label_weights(generator: FieldGenerator, recipe: Recipe) -> Tensor:
    """The weights (classes,) of the recipe's label, or of a walk's frame, float32; empty for a model without labels.

    Raises AtelierError for a label that the model does not have.
    """
    start = end = Station(seed=0, index=0)
    position = 0.0
    if recipe.walk:
        start, end, position = walk_position(recipe.walk)
    one, other = (station.label or recipe.label for station in (start, end))
    labels = generator.labels
    if labels is None:
        for label in {one, other} - {None, NONE}:
            raise AtelierError(
                f"the model has no labels, and {label!r} is asked for: set generate.label to null, or train with "
                "train.labels"
            )
        return torch.empty(0)
    return torch.lerp(labels.weights(one).double(), labels.weights(other).double(), position).float()


def check_memory(canvas: Canvas, what: str, needed_bytes: int) -> None:
    """Raise AtelierError where something of a canvas needs more memory than the machine has."""
    there_bytes = machine_memory()
    if needed_bytes > there_bytes:
        raise AtelierError(
            f"a canvas of {list(canvas)} cells means {what}, which needs about {needed_bytes / 2**30:,.1f} GiB; "
            f"there are {there_bytes / 2**30:,.1f} GiB: make generate.canvas smaller"
        )


def draw_field(
    layout: Layout, seed: int, index: int, nz: int, canvas: Canvas, truncation: float, seamless: bool
) -> Tensor:
    """Draw the latents of picture `index`: (1, nz) for one cell, (1, nz, rows, columns) for more; float32 on the CPU.

    - random: every cell has a latent of its own.
    - line: from one latent to a second along the longer side; seamless: and back.
    - smooth: latents every few cells, interpolated between them in both directions.
    - panorama: like smooth along the width; all rows are equal.

    A seamless field continues from its last cell to its first.
    """
    if layout == "random" or canvas == TRAINED_SIZE:
        return draw_latents(seed, index, nz, canvas, truncation)
    rows, columns = canvas
    match layout:
        case "line" if rows > columns:
            down, across = _from_one_to_another(rows, seamless), _constant(columns)
        case "line":
            down, across = _constant(rows), _from_one_to_another(columns, seamless)
        case "smooth":
            down, across = _through_anchors(rows, seamless), _through_anchors(columns, seamless)
        case "panorama":
            down, across = _constant(rows), _through_anchors(columns, seamless)
    shape = (down.anchors, across.anchors)
    anchors = draw_latents(seed, index, nz, shape, truncation).double().reshape(nz, *shape)
    lengths: Tensor = torch.linalg.vector_norm(anchors, dim=0, keepdim=True)

    def mixed(values: Tensor, row: int) -> Tensor:
        """Interpolate (n, a, b) between two rows of anchors, then along the row: (n, columns)."""
        line = torch.lerp(values[:, down.before[row]], values[:, down.after[row]], down.weight[row])
        return torch.lerp(line[:, across.before], line[:, across.after], across.weight)

    field = torch.empty(1, nz, rows, columns)
    for row in range(rows):  # because a mural has a million cells
        field[0, :, row] = with_length(mixed(anchors, row), mixed(lengths, row), dim=0).float()
    return field


def walk_position(walk: Walk) -> tuple[Station, Station, float]:
    """The stations before and after the walk's frame, and its position between them, eased, from 0 to 1.

    All stretches between stations take equally long. The first frame is the first station. The last frame is the last
    station; in a loop it is one step before the first station, so that no frame repeats when the film does.
    """
    stops = (*walk.stations, walk.stations[0]) if walk.loop else walk.stations
    stretches, steps = len(stops) - 1, walk.frames if walk.loop else walk.frames - 1
    stretch = min(walk.frame * stretches // steps, stretches - 1)
    position = (walk.frame * stretches - stretch * steps) / steps  # integers until here: the same on every machine
    if walk.easing == "smooth":
        position = position * position * (3 - 2 * position)
    return stops[stretch], stops[stretch + 1], position


def move_latents(field: Tensor, generator: FieldGenerator, moves: Sequence[Move]) -> Tensor:
    """Move every latent of a field (1, nz) or (1, nz, rows, columns), float32.

    A latent's coordinate along a direction is standard normal, so an amount of 1 is one standard deviation. Raises
    AtelierError for a direction that the generator does not have.
    """
    if not moves:
        return field
    known, _ = directions(generator)
    way = torch.zeros(field.shape[1], dtype=torch.float64)
    for move in moves:
        if move.direction >= len(known):
            raise AtelierError(
                f"direction {move.direction} does not exist: the model has {len(known)}, from 0 to {len(known) - 1} "
                "(`atelier directions` draws them)"
            )
        way += move.amount * known[move.direction]
    return (field.double() + way.view(1, -1, *(1,) * (field.ndim - 2))).float()


def directions(generator: FieldGenerator) -> tuple[Tensor, Tensor]:
    """At most nz unit rows (k, nz), float64 on the CPU, and the share of each in the effect of the first layer (k,).

    The one that changes the first features most comes first. Equal weights give equal rows on every machine: the
    largest number of each row is positive, and the last digits are rounded away.
    """
    weight = first_layer_weight(generator)
    # the eigenvectors are the unit vectors whose images under the layer are longest
    effects, columns = torch.linalg.eigh(weight @ weight.T)
    effects, rows = effects.flip(0), columns.T.flip(0)
    known = effects > MIN_EFFECT * effects[0]
    rows = rows[known]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).round(decimals=DIRECTION_DECIMALS), effects[known] / effects.sum()


def first_layer_weight(generator: FieldGenerator) -> Tensor:
    """The matrix (nz, features) of all up to the first non-linearity, a batch norm's scale included; float64 on CPU."""

    def exact(weights: Tensor) -> Tensor:
        return weights.detach().to("cpu", torch.float64)

    weight = exact(generator.project.weight)  # type: ignore[union-attr, arg-type]
    if isinstance(generator, R3ganGenerator):
        return (weight[:, :, 0, 0].T[:, :, None, None] * exact(generator.basis)).flatten(1)
    norm = generator.layers[0]
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise ValueError(f"{type(generator).__name__} has a first layer of an unknown kind")
    scale = exact(norm.weight) / (exact(norm.running_var) + norm.eps).sqrt()
    return (weight * scale.view(1, -1, 1, 1)).flatten(1)


class _Axis(NamedTuple):
    """For each cell along an axis: the anchors before and after it, and the weight of the second, 0 to 1."""

    anchors: int  # how many there are
    before: Tensor
    after: Tensor
    weight: Tensor


def _constant(cells: int) -> _Axis:
    """One anchor for all cells."""
    zeros = torch.zeros(cells, dtype=torch.long)
    return _Axis(1, zeros, zeros, zeros.double())


def _from_one_to_another(cells: int, seamless: bool) -> _Axis:
    """Two anchors, at the ends; seamless: the second is in the middle, and the last cells return to the first."""
    zeros = torch.zeros(cells, dtype=torch.long)
    place = torch.arange(cells, dtype=torch.float64)
    weight = 1 - (2 * place / cells - 1).abs() if seamless else place / max(cells - 1, 1)
    return _Axis(2, zeros, zeros + 1, weight)


def _through_anchors(cells: int, seamless: bool) -> _Axis:
    """Anchors about ANCHOR_SPACING_CELLS apart; seamless: the cells after the last anchor lead to the first."""
    if cells == 1:
        return _constant(cells)
    steps = cells if seamless else cells - 1
    anchors = max(round(steps / ANCHOR_SPACING_CELLS), 1 + seamless) + (not seamless)
    place = torch.arange(cells) * (anchors if seamless else anchors - 1)
    before, rest = place // steps, place % steps  # integers: the same on every machine
    after = (before + 1) % anchors if seamless else (before + 1).clamp_max(anchors - 1)
    return _Axis(anchors, before, after, rest.double() / steps)


def _drawn(recipe: Recipe, nz: int, canvas: Canvas) -> Tensor:
    """The field of the recipe's picture at a canvas, drawn or its latent, or the one between two stations of a walk."""

    def drawn(picture: Recipe | Station) -> Tensor:
        if picture.latent is None or canvas != TRAINED_SIZE:
            seed, index = picture.seed, picture.index
            return draw_field(recipe.layout, seed, index, nz, canvas, recipe.truncation, recipe.seamless)
        if len(picture.latent) != nz:
            raise AtelierError(f"the recipe's latent has {len(picture.latent)} numbers; this model takes {nz}")
        return torch.tensor([picture.latent])

    if recipe.walk is None:
        return drawn(recipe)
    start, end, position = walk_position(recipe.walk)
    return slerp(drawn(start), drawn(end), position)


def _turned(one: Tensor, other: Tensor, quarters: float) -> Tensor:
    """One turned towards the other by `quarters` · 90°, in float32. Mixed normal numbers stay normal."""
    angle = quarters * math.pi / 2
    return (math.cos(angle) * one.double() + math.sin(angle) * other.double()).float()


def _varied(
    recipe: Recipe, latents: Tensor, canvas: Canvas, before: Sequence[Variation], variations: Sequence[Variation]
) -> Tensor:
    """The latents turned by each variation towards a random field that depends on the picture and all `before`."""
    for place, variation in enumerate(variations):
        numbers = (v.number for v in (*before, *variations[:place]))
        key = ":".join(map(str, ("atelier-variation/1", recipe.seed, recipe.index, *numbers)))
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1
        nz, number = latents.shape[1], variation.number
        other = draw_field(recipe.layout, seed, number, nz, canvas, recipe.truncation, recipe.seamless)
        latents = _turned(latents, other, variation.strength)
    return latents


def _grown(around: Tensor, inner: Tensor, overhangs: Sequence[int], seamless: bool) -> Tensor:
    """A field (1, nz, rows, columns) with a smaller one in its middle.

    Where cells overlap in the picture, as a DCGAN's do, the smaller field is amplified and its neighbours are
    attenuated: the variance of the sum stays as it was, and the smaller picture keeps a share of MIN_OWN_VARIANCE.
    """
    overlap = math.prod(overhang + 1 for overhang in overhangs)
    inside = math.prod(min(side, overhang + 1) for side, overhang in zip(inner.shape[2:], overhangs, strict=True))
    own = max(MIN_OWN_VARIANCE * overlap, inside)
    quieter = math.sqrt((overlap - own) / (overlap - inside)) if overlap > inside else 1.0

    def cells(margins: Sequence[int]) -> tuple[slice, slice, Tensor, Tensor]:
        """The index of the inner cells and margins: cut off at the edges, or continued at the others if seamless."""
        axes = []
        for length, part, overhang, margin in zip(around.shape[2:], inner.shape[2:], overhangs, margins, strict=True):
            start = _middle(length, part, overhang, seamless) - margin
            end = start + part + 2 * margin
            axes.append(
                torch.arange(start, end) % length if seamless else torch.arange(max(start, 0), min(end, length))
            )
        return slice(None), slice(None), axes[0][:, None], axes[1]

    field = around.clone()
    field[cells(overhangs)] *= quieter
    field[cells((0, 0))] = math.sqrt(own / inside) * inner
    return field


def _middle(cells: int, inner: int, overhang: int, seamless: bool) -> int:
    """The first of the inner cells along an axis. A seamless picture cuts off the overhang: half of it earlier."""
    return (cells - inner - (overhang if seamless else 0)) // 2
