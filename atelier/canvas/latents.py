"""The latents and the grain that a recipe describes.

Directions of a recipe's moves are those along which the generator's first layer changes most, by closed-form
factorisation (SeFa, Shen & Zhou, arXiv 2007.06600): they need no pictures, no training and no labels.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from atelier.canvas.interpolation import interpolate, layout_axes, slerp, walk_position
from atelier.canvas.recipe import Canvas, Move, Recipe, Variation
from atelier.device import machine_memory
from atelier.errors import AtelierError
from atelier.networks.latent_field import TRAINED_SIZE, FieldGenerator, Lattice, draw_grain, draw_latents
from atelier.networks.r3gan import R3ganGenerator
from atelier.settings.schema import Layout

# of a smaller canvas's latents, the least share that is kept where the latents around them overlap with them
MIN_OWN_VARIANCE = 0.75
# per number of a field: while it is drawn, and while it is mixed with another
DRAWING_BYTES, MIXING_BYTES = 12, 32
DIRECTION_DECIMALS = 9  # on which builds of LAPACK agree; a change of the sixth changes a picture
MIN_EFFECT = 1e-9  # of the strongest direction's; weaker ones change no picture


def as_field_generator(generator: nn.Module) -> FieldGenerator:
    """The generator itself. Raises TypeError if it does not support fields of latents."""
    if not isinstance(generator, FieldGenerator):
        raise TypeError(f"{type(generator).__name__} has no lattice of latents: it is no FieldGenerator")
    return generator


def latent_field(generator: nn.Module, recipe: Recipe) -> Tensor:
    """The latents of a recipe: (1, nz), or (1, nz, rows, columns) for a larger canvas, float32 on the CPU.

    Raises AtelierError where they do not fit into memory, where a canvas is grown from a larger one, or where they are
    moved along a direction that the generator does not have.
    """
    generator = as_field_generator(generator)
    rows, columns = recipe.canvas
    inner_rows, inner_columns = recipe.grown_from or (1, 1)
    if inner_rows > rows or inner_columns > columns:
        raise AtelierError(
            f"a canvas of {[rows, columns]} cells cannot grow from one of {[inner_rows, inner_columns]}: "
            "name a larger one"
        )
    mixed = recipe.walk or recipe.variation or recipe.grown_varied or recipe.moves
    number_bytes = MIXING_BYTES if mixed else DRAWING_BYTES
    check_memory(recipe.canvas, "a field of latents", number_bytes * generator.nz * rows * columns)
    own = recipe.grown_from or recipe.canvas
    latents = _drawn(recipe, generator.nz, own)
    latents = _varied(recipe, latents, own, (), recipe.grown_varied)
    if own != recipe.canvas:
        around = _drawn(recipe, generator.nz, recipe.canvas).reshape(1, generator.nz, *recipe.canvas)
        inner = latents.reshape(1, generator.nz, *own)
        latents = _grown(around, inner, generator.lattice, recipe.seamless)
    latents = _varied(recipe, latents, recipe.canvas, recipe.grown_varied, recipe.variations)
    return move_latents(latents, generator, recipe.moves)


def grain_function(generator: FieldGenerator, recipe: Recipe) -> Callable[[int, int], Tensor]:
    """A function of a cell's row and column that returns its grain (n,); n is 0 for a generator without grain.

    Variations and moves keep the picture's grain. A grown canvas has the smaller one's grain in its middle. A walk
    keeps the grain of its first station, or with `grain: moving` changes it from one station's to the next one's.
    """
    numbers = generator.inputs - generator.nz
    inner = recipe.grown_from or recipe.canvas
    top, left = (
        _middle(cells, own, generator.lattice, recipe.seamless) for cells, own in zip(recipe.canvas, inner, strict=True)
    )

    def drawn(seed: int, index: int, row: int, column: int) -> Tensor:
        return draw_grain(seed, index, row - top, column - left, numbers)

    walk = recipe.walk
    if walk is None:
        return functools.partial(drawn, recipe.seed, recipe.index)
    start, end, position = walk_position(walk)
    if walk.grain == "still" or start == end:
        station = walk.stations[0] if walk.grain == "still" else start
        return functools.partial(drawn, station.seed, station.index)

    def moving(row: int, column: int) -> Tensor:
        one, other = (drawn(station.seed, station.index, row, column) for station in (start, end))
        return _turned(one, other, position)

    return moving


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

    With the layout "random" every cell has a latent of its own; the other layouts interpolate (see `layout_axes`).
    """
    if layout == "random" or canvas == TRAINED_SIZE:
        return draw_latents(seed, index, nz, canvas, truncation)
    down, across = layout_axes(layout, canvas, seamless)
    shape = (down.anchors, across.anchors)
    anchors = draw_latents(seed, index, nz, shape, truncation).double().reshape(nz, *shape)
    return interpolate(anchors, down, across)


def _drawn(recipe: Recipe, nz: int, canvas: Canvas) -> Tensor:
    """The random field of the recipe's picture at a canvas, or the one between two stations of its walk."""

    def drawn(seed: int, index: int) -> Tensor:
        return draw_field(recipe.layout, seed, index, nz, canvas, recipe.truncation, recipe.seamless)

    if recipe.walk is None:
        return drawn(recipe.seed, recipe.index)
    start, end, position = walk_position(recipe.walk)
    return slerp(drawn(start.seed, start.index), drawn(end.seed, end.index), position)


def _turned(one: Tensor, other: Tensor, quarters: float) -> Tensor:
    """One turned towards the other by `quarters` · 90°, in float32. Mixed normal numbers stay normal."""
    angle = quarters * math.pi / 2
    return (math.cos(angle) * one.double() + math.sin(angle) * other.double()).float()


def _varied(
    recipe: Recipe,
    latents: Tensor,
    canvas: Canvas,
    before: Sequence[Variation],
    variations: Sequence[Variation],
) -> Tensor:
    """The latents after each of the variations, which turn them towards other random fields of the same layout.

    The other fields depend on the picture and on all variations `before`, so every picture has its own neighbours.
    """
    for place, variation in enumerate(variations):
        numbers = (v.number for v in (*before, *variations[:place]))
        key = ":".join(map(str, ("atelier-variation/1", recipe.seed, recipe.index, *numbers)))
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1
        nz, number = latents.shape[1], variation.number
        other = draw_field(recipe.layout, seed, number, nz, canvas, recipe.truncation, recipe.seamless)
        latents = _turned(latents, other, variation.strength)
    return latents


def _grown(around: Tensor, inner: Tensor, lattice: Lattice, seamless: bool) -> Tensor:
    """A field (1, nz, rows, columns) with a smaller one in its middle.

    Where cells overlap in the picture, as a DCGAN's do, the smaller field is amplified and its neighbours are
    attenuated: the variance of the sum stays as it was, and the smaller picture keeps a share of MIN_OWN_VARIANCE.
    """
    rows, columns = inner.shape[2:]
    reach, overlap = lattice.overhang, (lattice.overhang + 1) ** 2
    inside = min(rows, reach + 1) * min(columns, reach + 1)  # how many of the overlapping cells are the inner field's
    own = max(MIN_OWN_VARIANCE * overlap, inside)
    quieter = math.sqrt((overlap - own) / (overlap - inside)) if overlap > inside else 1.0
    starts = [_middle(*lengths, lattice, seamless) for lengths in zip(around.shape[2:], inner.shape[2:], strict=True)]
    block = _cells(starts, (rows, columns), around, seamless)
    wider = _cells([start - reach for start in starts], (rows + 2 * reach, columns + 2 * reach), around, seamless)
    field = around.clone()
    field[wider] *= quieter
    field[block] = math.sqrt(own / inside) * inner
    return field


def _middle(cells: int, inner: int, lattice: Lattice, seamless: bool) -> int:
    """The first of the inner cells along an axis. A seamless picture cuts off the overhang: half of it earlier."""
    return (cells - inner - (lattice.overhang if seamless else 0)) // 2


def _cells(
    starts: Sequence[int], lengths: Sequence[int], field: Tensor, seamless: bool
) -> tuple[slice, slice, Tensor, Tensor]:
    """The index of a block of cells: cut off at the field's edges, or continued at the other edge if seamless."""
    rows, columns = (
        torch.arange(start, start + length) % cells
        if seamless
        else torch.arange(max(start, 0), min(start + length, cells))
        for start, length, cells in zip(starts, lengths, field.shape[2:], strict=True)
    )
    return slice(None), slice(None), rows[:, None], columns


def move_latents(field: Tensor, generator: nn.Module, moves: Sequence[Move]) -> Tensor:
    """Move every latent of a field (1, nz) or (1, nz, rows, columns), float32.

    A latent's coordinate along a direction is standard normal, so an amount of 1 is one standard deviation.
    Raises AtelierError for a direction that the generator does not have.
    """
    if not moves:
        return field
    known = directions(generator)
    way = torch.zeros(field.shape[1], dtype=torch.float64)
    for move in moves:
        if move.direction >= len(known):
            raise AtelierError(
                f"direction {move.direction} is not there: the model has {len(known)}, from 0 to {len(known) - 1} "
                "(`atelier directions` draws them)"
            )
        way += move.amount * known[move.direction]
    return (field.double() + way.view(1, -1, *(1,) * (field.ndim - 2))).float()


def directions(generator: nn.Module) -> Tensor:
    """At most nz unit rows (k, nz), float64 on the CPU; the one that changes the first features most comes first.

    Equal weights give equal rows on every machine: the largest number of each row is positive, and the last digits are
    rounded away.
    """
    return directions_with_shares(generator)[0]


def directions_with_shares(generator: nn.Module) -> tuple[Tensor, Tensor]:
    """`directions`, and the share of each in the whole effect of the first layer, (k,)."""
    weight = first_layer_weight(generator)
    # the eigenvectors are the unit vectors whose images under the layer are longest
    effects, columns = torch.linalg.eigh(weight @ weight.T)
    effects, rows = effects.flip(0), columns.T.flip(0)
    known = effects > MIN_EFFECT * effects[0]
    rows = rows[known]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).round(decimals=DIRECTION_DECIMALS), effects[known] / effects.sum()


def first_layer_weight(generator: nn.Module) -> Tensor:
    """The matrix (nz, features) of the generator's first layer up to its first non-linearity, float64 on the CPU.

    It includes the scale of a batch norm, or the learned features that the latent multiplies.
    """
    weight = _in_float64(generator.project.weight)  # type: ignore[union-attr, arg-type]
    if isinstance(generator, R3ganGenerator):
        return (weight[:, :, 0, 0].T[:, :, None, None] * _in_float64(generator.basis)).flatten(1)
    norm = generator.layers[0]  # type: ignore[index]
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise ValueError(f"{type(generator).__name__} has a first layer of an unknown kind")
    scale = _in_float64(norm.weight) / (_in_float64(norm.running_var) + norm.eps).sqrt()
    return (weight * scale.view(1, -1, 1, 1)).flatten(1)


def _in_float64(weights: Tensor) -> Tensor:
    return weights.detach().to("cpu", torch.float64)
