"""Recipes become pixels: the field of latents that a recipe means, and the picture, or any part of it, in pieces.

Networks here are convolutions, so a piece needs only the latents around it and is exact: no part of a picture depends
on which parts it was painted in. Reads and writes no picture.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atelier.canvas.batch_statistics import base, by_own_statistics, refuse_without_statistics, uneven
from atelier.canvas.latents import draw_field, move_latents, slerp, walk_position
from atelier.canvas.recipe import Canvas, Recipe, Rectangle, Variation, cut
from atelier.canvas.tiling import Plane
from atelier.canvas.tiling import size as size_on
from atelier.device import machine_memory
from atelier.errors import AtelierError
from atelier.networks.latent_field import FieldGenerator, Lattice, draw_grain, render
from atelier.pictures import Pixels
from atelier.progress import ProgressCallback, ignore_progress

PIECE_BYTES = 1 << 29  # what painting a piece may take; the same on every machine, so that it decides nothing
WORKSPACE = 3  # a convolution's buffers beside what it reads and writes, at worst
SMALL_PX = 256  # pictures of this side are one piece, without asking what it takes
MIN_OWN_VARIANCE = (
    3 / 4
)  # of a picture's strength (squared) at least so much stays where a larger canvas reaches into it
DRAWING, MIXING = 12, 32  # bytes a number of a field: while it is drawn, and while it is mixed with another


def latent_field(generator: nn.Module, recipe: Recipe) -> Tensor:
    """The latents of a recipe: (1, nz), or (1, nz, rows, columns) for a larger canvas, float32 on the CPU.

    Raises AtelierError where it does not fit into memory, where a canvas is to grow from a larger one, or where it is
    to be moved along a direction that the generator has not.
    """
    generator = _known(generator)
    rows, columns = recipe.canvas
    inner_rows, inner_columns = recipe.grown_from or (1, 1)
    if inner_rows > rows or inner_columns > columns:  # before anything of its size is drawn
        raise AtelierError(
            f"a canvas of {[rows, columns]} cells cannot grow from one of {[inner_rows, inner_columns]}: "
            "name a larger one"
        )
    mixed = recipe.walk or recipe.variation or recipe.grown_varied or recipe.moves
    needed = (MIXING if mixed else DRAWING) * generator.nz * rows * columns
    _refuse_what_does_not_fit(recipe.canvas, "a field of latents", needed)
    own = recipe.grown_from or recipe.canvas
    latents = _varied(recipe, _drawn(recipe, generator.nz, own), own, (), recipe.grown_varied)
    if own != recipe.canvas:
        around = _drawn(recipe, generator.nz, recipe.canvas).reshape(1, generator.nz, *recipe.canvas)
        inner = latents.reshape(1, generator.nz, *own)
        latents = _grown(around, inner, generator.lattice, recipe.seamless)
    latents = _varied(recipe, latents, recipe.canvas, recipe.grown_varied, recipe.variations)
    return move_latents(latents, generator, recipe.moves)


def size_px(generator: nn.Module, recipe: Recipe) -> tuple[int, int]:
    """Height and width of the picture in pixels, without painting it."""
    return size_on(recipe.canvas, _known(generator).lattice, recipe.seamless)


def paint(generator: nn.Module, recipe: Recipe) -> Pixels:
    """The whole picture, uint8 (H, W, 3), painted alone, in the arithmetic of the generator's weights (canvas.exact).

    Raises AtelierError where it does not fit into memory, before anything is allocated, where the generator paints no
    numbers, and as `field` and `Painting` do.
    """
    height, width = size_px(generator, recipe)
    _refuse_what_does_not_fit(recipe.canvas, f"a picture of {width:,} × {height:,} px", 3 * height * width)
    return Painting(generator, recipe).region(0, 0, height, width)


class Painting:
    """A picture that is painted where one looks: any part of it is that part of the whole, in bounded memory.

    A seamless picture has parts at any offset, negative ones too: the plane that it covers is endless.
    Where the recipe asks for the canvas's own statistics, they are taken before the first part; `told` hears what share
    of them is, and the file `kept` holds it (`normalising`). Raises AtelierError where there are none to take.
    """

    height: int
    width: int

    def __init__(
        self,
        generator: nn.Module,
        recipe: Recipe,
        told: ProgressCallback = ignore_progress,
        kept: Path | None = None,
    ) -> None:
        self._generator, self._normalise = _known(generator), recipe.normalise
        self._told, self._kept = told, kept
        if recipe.normalise == "batch":
            refuse_without_statistics(self._generator, recipe.canvas)
        latents = latent_field(generator, recipe).reshape(1, -1, *recipe.canvas)
        grain = grain_function(self._generator, recipe)
        self._plane = Plane(latents, self._generator.lattice, recipe.seamless, grain)
        self.height, self.width = self._plane.whole.height, self._plane.whole.width
        self._side_px = _piece_px(self._generator, max(self.height, self.width))

    def region(self, top: int, left: int, height: int, width: int) -> Pixels:
        """This part of the picture, uint8 (height, width, 3)."""
        part = Rectangle(top, left, height, width)
        if height < 1 or width < 1 or not (self._plane.seamless or part.within(self._plane.whole)):
            raise ValueError(f"{part} is no part of a picture of {self.height} × {self.width} px")
        picture = np.empty((height, width, 3), np.uint8)
        for piece in cut(part, self._side_px, self._side_px):
            rows, columns = piece.top - top, piece.left - left
            picture[rows : rows + piece.height, columns : columns + piece.width] = self._painted(piece)
        return picture

    @cached_property
    def _painter(self) -> FieldGenerator:
        match self._normalise:
            case "overlap":
                return self._generator
            case "none":
                return uneven(self._generator)
            case "batch":
                return by_own_statistics(self._generator, self._plane, self._side_px, self._told, self._kept)

    def _painted(self, piece: Rectangle) -> Pixels:
        window = self._plane.window(piece)
        part = window.part
        pixels = render(self._painter.layers, base(self._painter, window))
        return pixels[part.top : part.top + part.height, part.left : part.left + part.width]


def _drawn(recipe: Recipe, nz: int, canvas: Canvas) -> Tensor:
    """The field that chance gives: of the recipe's picture, or between a walk's stations."""

    def drawn(seed: int, index: int) -> Tensor:
        return draw_field(recipe.layout, seed, index, nz, canvas, recipe.truncation, recipe.seamless)

    if recipe.walk is None:
        return drawn(recipe.seed, recipe.index)
    start, end, position = walk_position(recipe.walk)
    return slerp(drawn(start.seed, start.index), drawn(end.seed, end.index), position)


def grain_function(generator: FieldGenerator, recipe: Recipe) -> Callable[[int, int], Tensor]:
    """The grain (n,) of the cell at a row and a column of the recipe's canvas; n is 0 for a generator without.

    It is the picture's own, whatever its latent is varied or moved to. A canvas that grew has the smaller one's grain
    in its middle. A walk keeps the grain of its first station, or with `grain: moving` passes from one to the next.
    """
    numbers = generator.inputs - generator.nz
    inner = recipe.grown_from or recipe.canvas
    top, left = (
        _middle(cells, own, generator.lattice, recipe.seamless)
        for cells, own in zip(recipe.canvas, inner, strict=True)
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
    angle = position * math.pi / 2

    def moving(row: int, column: int) -> Tensor:
        one, other = (drawn(station.seed, station.index, row, column) for station in (start, end))
        return (math.cos(angle) * one.double() + math.sin(angle) * other.double()).float()

    return moving


def _grown(around: Tensor, inner: Tensor, lattice: Lattice, seamless: bool) -> Tensor:
    """A field with a smaller one in its middle.

    Where cells overlap in the picture, as a DCGAN's do, the smaller field is made louder and its neighbours quieter: so
    the sum is as loud as before, and the smaller picture is still heard in it.
    """
    rows, columns = inner.shape[2:]
    reach, overlap = lattice.overhang, (lattice.overhang + 1) ** 2
    inside = min(rows, reach + 1) * min(columns, reach + 1)  # how many of those that overlap are its own
    own = max(MIN_OWN_VARIANCE * overlap, inside)
    quieter = math.sqrt((overlap - own) / (overlap - inside)) if overlap > inside else 1.0
    starts = [
        _middle(*lengths, lattice, seamless)
        for lengths in zip(around.shape[2:], inner.shape[2:], strict=True)
    ]
    block = _cells(starts, (rows, columns), around, seamless)
    wider = _cells(
        [start - reach for start in starts], (rows + 2 * reach, columns + 2 * reach), around, seamless
    )
    field = around.clone()
    field[wider] *= quieter
    field[block] = math.sqrt(own / inside) * inner
    return field


def _middle(cells: int, inner: int, lattice: Lattice, seamless: bool) -> int:
    """Where the inner cells begin. A seamless picture shows no overhang, so they begin earlier by half of it."""
    return (cells - inner - (lattice.overhang if seamless else 0)) // 2


def _cells(
    starts: Sequence[int], lengths: Sequence[int], field: Tensor, seamless: bool
) -> tuple[slice, slice, Tensor, Tensor]:
    """The index of a block of cells, as far as the field has them; in a seamless one they go on at the other edge."""
    rows, columns = (
        torch.arange(start, start + length) % cells
        if seamless
        else torch.arange(max(start, 0), min(start + length, cells))
        for start, length, cells in zip(starts, lengths, field.shape[2:], strict=True)
    )
    return slice(None), slice(None), rows[:, None], columns


def _varied(
    recipe: Recipe,
    latents: Tensor,
    canvas: Canvas,
    before: Sequence[Variation],
    variations: Sequence[Variation],
) -> Tensor:
    """The latents turned towards others that are drawn like them, one variation after the other.

    By a quarter turn they are those others. Each picture has neighbours of its own, so what came `before` counts.
    """
    for place, variation in enumerate(variations):
        way = (*before, *variations[:place])
        key = ":".join(map(str, ("atelier-variation/1", recipe.seed, recipe.index, *(v.number for v in way))))
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1
        drawn = (recipe.layout, seed, variation.number, latents.shape[1], canvas)
        others = draw_field(*drawn, recipe.truncation, recipe.seamless)
        angle = variation.strength * math.pi / 2
        latents = (math.cos(angle) * latents.double() + math.sin(angle) * others.double()).float()
    return latents


def _known(generator: nn.Module) -> FieldGenerator:
    if not isinstance(generator, FieldGenerator):
        raise TypeError(f"{type(generator).__name__} does not say how its latents lie")
    return generator


def _piece_px(generator: FieldGenerator, longer_px: int) -> int:
    """The side of a piece, in whole base cells, that is painted in PIECE_BYTES, by what the trained size takes."""
    if longer_px <= max(generator.resolution, SMALL_PX):
        return longer_px
    lattice = generator.lattice
    bytes_a_px = WORKSPACE * _peak(generator) / generator.resolution**2
    cells = int(math.sqrt(PIECE_BYTES / bytes_a_px)) // lattice.px
    return lattice.px * max(cells - 2 * lattice.context, 1)


@torch.inference_mode()
def _peak(generator: FieldGenerator) -> int:
    """Bytes that a layer reads and writes at most when one picture of the trained size is painted."""
    peak = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal peak
        if not list(module.children()):
            both = output.numel() + sum(tensor.numel() for tensor in inputs)
            peak = max(peak, both * output.element_size())

    weight = next(generator.parameters())
    hooks = [module.register_forward_hook(count) for module in generator.modules()]
    try:
        generator(torch.zeros(1, generator.inputs, device=weight.device, dtype=weight.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return peak


def _refuse_what_does_not_fit(canvas: Canvas, what: str, needed: int) -> None:
    there = machine_memory()
    if needed > there:
        raise AtelierError(
            f"a canvas of {list(canvas)} cells means {what}, which needs about {needed / 2**30:,.1f} GiB; there are "
            f"{there / 2**30:,.1f} GiB: make generate.canvas smaller"
        )
