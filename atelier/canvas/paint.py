"""Paint the picture of a recipe, whole or any part of it, in pieces of bounded memory; write pictures as PNGs.

The networks are convolutions, so a piece needs only the latents around it, and is exact: the pixels do not depend on
how the picture is cut.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atelier.canvas.batch_statistics import (
    check_has_statistics,
    with_canvas_statistics,
    without_normalised_overlap,
)
from atelier.canvas.latents import as_field_generator, check_memory, grain_function, latent_field
from atelier.canvas.recipe import Canvas, Recipe, Rectangle, cut
from atelier.device import versions
from atelier.networks import load_generator
from atelier.networks.latent_field import FieldGenerator, Lattice, in_double_precision, render
from atelier.pictures import Pixels
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.progress import Progress, ProgressCallback, ignore_progress
from atelier.provenance.facts import ModelFacts, PickFacts, Provenance, SoftwareFacts, write_png

PIECE_BYTES = 1 << 29  # memory for painting a piece; a constant, so that every machine cuts pictures alike
WORKSPACE_RATIO = 3  # bytes that a convolution takes, by those that it reads and writes, in the worst case
SMALL_PX = 256  # pictures with sides up to this are one piece, whatever they take
SHEET_PICTURES = 64  # on a contact sheet, at most
SHEET_PICTURE_PX = 256  # longer side of one there, at most


def load_painter(path: Path, device: torch.device) -> tuple[nn.Module, ModelFacts]:
    """Load a generator to paint with, in double precision, and what a provenance stores of it.

    Raises AtelierError where the file is absent, damaged, or not one of Atelier's.
    """
    generator, header = load_generator(path)
    return in_double_precision(generator, device), ModelFacts.of(path, header)


def provenance_of(model: ModelFacts, recipe: Recipe, pick: PickFacts | None = None) -> Provenance:
    """The provenance of a picture that is painted now; its pixels' digest is added when it is written."""
    return Provenance(model=model, latent=recipe, software=SoftwareFacts(**versions()), pick=pick)


def write_artworks(
    generator: nn.Module, pictures: Iterable[Provenance], directory: Path, sheet: Path, progress: Progress
) -> None:
    """Paint each picture into `directory` as `<seed>-<index>.png`, and the first 64 onto one contact sheet."""
    shown: list[Pixels] = []
    for provenance in pictures:
        picture = paint(generator, provenance.latent)
        write_png(directory / f"{artwork_name(provenance)}.png", picture, provenance)
        if len(shown) < SHEET_PICTURES:
            shown.append(thumbnail(picture, SHEET_PICTURE_PX))
        progress.advance()
    write_sheet(sheet, np.stack(shown))
    progress.show_picture(sheet)


def artwork_name(provenance: Provenance) -> str:
    """A picture's file name without its extension."""
    return f"{provenance.latent.seed}-{provenance.latent.index:05d}"


def paint(generator: nn.Module, recipe: Recipe) -> Pixels:
    """Paint the whole picture: uint8 (H, W, 3), in the precision of the generator's weights (`load_painter`).

    Raises AtelierError where it does not fit into memory, before any is allocated, where the generator returns NaN, and
    as `latent_field` and `Painting` do.
    """
    height, width = size_px(generator, recipe)
    check_memory(recipe.canvas, f"a picture of {width:,} × {height:,} px", 3 * height * width)
    return Painting(generator, recipe).region(0, 0, height, width)


def size_px(generator: nn.Module, recipe: Recipe) -> tuple[int, int]:
    """Height and width of the picture, without painting it."""
    return _size_px(recipe.canvas, as_field_generator(generator).lattice, recipe.seamless)


class Painting:
    """A picture of which any part can be painted, in bounded memory.

    A seamless picture has parts at any offset, also negative ones: it repeats without end.

    With `normalise: batch` the statistics of the whole canvas are computed before the first part is painted:
    `on_progress` receives the share that is done, and `statistics_file` stores it so that another process can continue
    (`batch_statistics`). Raises AtelierError where the network or the canvas has no such statistics.
    """

    height: int
    width: int

    def __init__(
        self,
        generator: nn.Module,
        recipe: Recipe,
        on_progress: ProgressCallback = ignore_progress,
        statistics_file: Path | None = None,
    ) -> None:
        self._generator, self._normalise = as_field_generator(generator), recipe.normalise
        self._on_progress, self._statistics_file = on_progress, statistics_file
        if recipe.normalise == "batch":
            check_has_statistics(self._generator, recipe.canvas)
        latents = latent_field(generator, recipe).reshape(1, -1, *recipe.canvas)
        grain = grain_function(self._generator, recipe)
        self._plane = _Plane(latents, self._generator.lattice, recipe.seamless, grain)
        self.height, self.width = self._plane.whole.height, self._plane.whole.width
        self._side_px = _piece_px(self._generator, max(self.height, self.width))

    def region(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Paint this part of the picture, in pixels: uint8 (height, width, 3)."""
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
        """The generator, with the batch statistics that the recipe asks for."""
        match self._normalise:
            case "overlap":
                return self._generator
            case "none":
                return without_normalised_overlap(self._generator)
            case "batch":
                pieces = [*cut(self._plane.whole, self._side_px, self._side_px)]
                return with_canvas_statistics(
                    self._generator, pieces, self._plane.base, self._on_progress, self._statistics_file
                )

    def _painted(self, piece: Rectangle) -> Pixels:
        features, part = self._plane.base(self._painter, piece)
        return render(self._painter.layers, features)[part.slices]


@dataclass(frozen=True)
class _Plane:
    """A field of latents (1, nz, rows, columns), and the picture above it. A seamless one repeats without end.

    `grain` returns the grain (n,) of the cell at a row and a column.
    """

    field: Tensor
    lattice: Lattice
    seamless: bool
    grain: Callable[[int, int], Tensor]

    @property
    def whole(self) -> Rectangle:
        """The picture in pixels; of a seamless one the part that repeats."""
        rows, columns = self.field.shape[2:]
        return Rectangle(0, 0, *_size_px((rows, columns), self.lattice, self.seamless))

    @torch.inference_mode()
    def base(self, generator: FieldGenerator, part: Rectangle) -> tuple[Tensor, Rectangle]:
        """The base features that a part of the picture needs, (1, features, h, w), and the part's place above them.

        They end at an edge of the field, so that the part ends there as the whole picture does.
        """
        rows, down = self._needed(part.top, part.height, self.field.shape[2])
        columns, across = self._needed(part.left, part.width, self.field.shape[3])
        weight = next(generator.parameters())
        latents, grain = (
            cells.to(weight.device, weight.dtype)
            for cells in (self.field[:, :, rows][:, :, :, columns], self._grain(rows, columns))
        )
        complete = Rectangle(down.base, across.base, down.bases, across.bases)
        features = generator.with_grain(generator.base(latents), grain)[..., *complete.slices]
        return features, Rectangle(down.start_px, across.start_px, part.height, part.width)

    def _grain(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The grain (1, n, rows, columns) of these cells."""
        cells = [torch.stack([self.grain(row, column) for column in columns.tolist()]) for row in rows.tolist()]
        return torch.stack(cells).permute(2, 0, 1)[None]

    def _needed(self, start_px: int, length_px: int, latents: int) -> tuple[Tensor, "_Needed"]:
        """The indices of the latents that a part needs along one axis, and where it is above them."""
        lattice = self.lattice
        first = start_px // lattice.px - lattice.context
        last = -(-(start_px + length_px) // lattice.px) + lattice.context
        if not self.seamless:
            first, last = max(first, 0), min(last, latents * lattice.cells + lattice.overhang)
        start = first // lattice.cells - lattice.before
        end = -(-last // lattice.cells) + lattice.after
        if not self.seamless:
            start, end = max(start, 0), min(end, latents)
        needed = _Needed(first - start * lattice.cells, last - first, start_px - first * lattice.px)
        return torch.arange(start, end) % latents, needed


@dataclass(frozen=True)
class _Needed:
    """Along one axis: the first base cell, how many, and where the part begins above them."""

    base: int
    bases: int
    start_px: int


def _size_px(canvas: Canvas, lattice: Lattice, seamless: bool) -> tuple[int, int]:
    """Height and width: what overhangs the last cell of a seamless picture is its beginning."""
    overhang = 0 if seamless else lattice.overhang
    rows, columns = canvas
    return (rows * lattice.cells + overhang) * lattice.px, (columns * lattice.cells + overhang) * lattice.px


def _piece_px(generator: FieldGenerator, longer_px: int) -> int:
    """The side of a piece that is painted in PIECE_BYTES, in whole base cells, by what the trained size takes."""
    if longer_px <= max(generator.resolution, SMALL_PX):
        return longer_px
    lattice = generator.lattice
    bytes_per_px = WORKSPACE_RATIO * _peak_bytes(generator) / generator.resolution**2
    cells = int(math.sqrt(PIECE_BYTES / bytes_per_px)) // lattice.px
    return lattice.px * max(cells - 2 * lattice.context, 1)


@torch.inference_mode()
def _peak_bytes(generator: FieldGenerator) -> int:
    """The most bytes that one layer reads and writes when a picture of the trained size is painted."""
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
