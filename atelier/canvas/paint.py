"""Paint the picture of a recipe, whole or any part of it, in pieces of bounded memory.

The networks are convolutions, so a piece needs only the latents around it: the pixels do not depend on the cuts.

With `normalise: batch` the generator's learned batch statistics are replaced by those of the whole canvas, as Torch's
generate.lua did in 2018, which never left training mode. They are computed once, in pieces and layer by layer.
"""

import copy
import math
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from atelier.canvas.latents import check_memory, grain_function, label_weights, latent_field
from atelier.canvas.recipe import Recipe, Rectangle, cut
from atelier.errors import AtelierError
from atelier.networks import read_weights, save_weights
from atelier.networks.latent_field import TRAINED_SIZE, FieldGenerator, Lattice, render
from atelier.pictures import Pixels
from atelier.progress import ProgressCallback, ignore_progress

PIECE_BYTES = 1 << 29  # memory for painting a piece; a constant, so that every machine cuts pictures alike
WORKSPACE_RATIO = 3  # bytes that a convolution takes, by those that it reads and writes, in the worst case
SMALL_PX = 256  # pictures with sides up to this are one piece, whatever they take
STATISTICS_FORMAT = "atelier-statistics/1"


def paint(generator: FieldGenerator, recipe: Recipe) -> Pixels:
    """Paint the whole picture: uint8 (H, W, 3), in the precision of the generator's weights.

    Raises AtelierError where it does not fit into memory, before any is allocated, where the generator returns NaN, and
    as `latent_field` and `Painting` do.
    """
    height, width = size_px(generator, recipe)
    check_memory(recipe.canvas, f"a picture of {width:,} × {height:,} px", 3 * height * width)
    return Painting(generator, recipe).region(0, 0, height, width)


def size_px(generator: FieldGenerator, recipe: Recipe) -> tuple[int, int]:
    """Height and width of the picture. A seamless one has no margin beyond its cells: it continues at its beginning."""
    height, width = (
        (latents * lattice.cells + (0 if recipe.seamless else lattice.overhang)) * lattice.px
        for latents, lattice in zip(recipe.canvas, generator.lattices, strict=True)
    )
    return height, width


class Painting:
    """A picture of which any part can be painted, in bounded memory.

    A seamless picture has parts at any offset, also negative ones: it repeats without end.

    With `normalise: batch` the statistics of the whole canvas are computed before the first part is painted:
    `on_progress` receives the share that is done, and `statistics_file` stores it so that another process can continue.
    Raises AtelierError where the network or the canvas has no such statistics.
    """

    def __init__(
        self, generator: FieldGenerator, recipe: Recipe, on_progress: ProgressCallback = ignore_progress,
        statistics_file: Path | None = None,
    ) -> None:  # fmt: skip
        self._generator, self._recipe = generator, recipe
        self._on_progress, self._statistics_file = on_progress, statistics_file
        if recipe.normalise == "batch" and recipe.canvas == TRAINED_SIZE:
            raise AtelierError(
                "normalise holds batch, but a canvas of one cell is too small for statistics of its own: "
                "make generate.canvas larger, or set generate.normalise to overlap"
            )
        if recipe.normalise == "batch" and not _batch_norms(generator):
            raise AtelierError(
                "normalise holds batch, but this model has no batch norms: set generate.normalise to overlap or none"
            )
        self._latents = latent_field(generator, recipe).reshape(1, -1, *recipe.canvas)
        self._label = label_weights(generator, recipe)
        self._grain = grain_function(generator, recipe)
        self.height, self.width = size_px(generator, recipe)
        self._whole = Rectangle(0, 0, self.height, self.width)  # of a seamless picture, the part that repeats
        self._side_px = _piece_px(generator, max(self.height, self.width))

    def region(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Paint this part of the picture, in pixels: uint8 (height, width, 3)."""
        part = Rectangle(top, left, height, width)
        if height < 1 or width < 1 or not (self._recipe.seamless or part.within(self._whole)):
            raise ValueError(f"{part} is no part of a picture of {self.height} × {self.width} px")
        picture = np.empty((height, width, 3), np.uint8)
        for piece in cut(part, self._side_px, self._side_px):
            features, place = self._base(self._painter, piece)
            rows, columns = piece.top - top, piece.left - left
            painted = render(self._painter.layers, features)[place.slices]
            picture[rows : rows + piece.height, columns : columns + piece.width] = painted
        return picture

    @cached_property
    def _painter(self) -> FieldGenerator:
        """The generator, with the batch statistics that the recipe asks for."""
        if self._recipe.normalise == "overlap":
            return self._generator
        # parameters are shared, buffers are copied
        other = copy.deepcopy(self._generator, {id(weight): weight for weight in self._generator.parameters()})
        other.normalise_overlap = False
        if self._recipe.normalise == "batch":
            self._set_canvas_statistics(other)
        return other

    @torch.inference_mode()
    def _base(self, generator: FieldGenerator, part: Rectangle) -> tuple[Tensor, Rectangle]:
        """The base features that a part of the picture needs, (1, features, h, w), and the part's place above them."""
        rows, down = self._needed(part.top, part.height, self._latents.shape[2], generator.lattices[0])
        columns, across = self._needed(part.left, part.width, self._latents.shape[3], generator.lattices[1])
        grain = [torch.stack([self._grain(row, column) for column in columns.tolist()]) for row in rows.tolist()]
        weight = next(generator.parameters())
        label = self._label[None, :, None, None].expand(1, -1, len(rows), len(columns))
        latents, noise = (
            cells.to(weight.device, weight.dtype)
            for cells in (
                torch.cat([self._latents[:, :, rows][:, :, :, columns], label], 1),
                torch.stack(grain).permute(2, 0, 1)[None],
            )
        )
        complete = Rectangle(down.base, across.base, down.bases, across.bases)
        features = generator.with_grain(generator.base(latents), noise)[..., *complete.slices]
        return features, Rectangle(down.start_px, across.start_px, part.height, part.width)

    def _needed(self, start_px: int, length_px: int, latents: int, lattice: Lattice) -> tuple[Tensor, "_Needed"]:
        """The indices of the latents that a part needs along one axis, and where it is above them."""
        seamless = self._recipe.seamless
        first = start_px // lattice.px - lattice.context
        last = -(-(start_px + length_px) // lattice.px) + lattice.context
        if not seamless:  # the features end at an edge of the field, so that the part ends there as the picture does
            first, last = max(first, 0), min(last, latents * lattice.cells + lattice.overhang)
        start = first // lattice.cells - lattice.before
        end = -(-last // lattice.cells) + lattice.after
        if not seamless:
            start, end = max(start, 0), min(end, latents)
        needed = _Needed(first - start * lattice.cells, last - first, start_px - first * lattice.px)
        return torch.arange(start, end) % latents, needed

    @torch.inference_mode()
    def _set_canvas_statistics(self, generator: FieldGenerator) -> None:
        """Set the generator's batch statistics to those of the whole picture.

        The statistics file is written after every piece, and what it has of an earlier run is not computed again.
        """
        file, norms = self._statistics_file, _batch_norms(generator)
        pieces = [*cut(self._whole, self._side_px, self._side_px)]
        state: dict[str, Tensor] = {}
        with suppress(AtelierError):  # the file is absent or damaged
            saved = read_weights(file, STATISTICS_FORMAT, set(), "generate")[1] if file else {}
            state = {name: tensor.to(next(generator.parameters()).device) for name, tensor in saved.items()}
        begun, counted = state["at"].tolist() if state else (0, 0)
        for place, norm in enumerate(norms):  # the inputs of each depend on the statistics of those before it
            for number in range(counted, len(pieces)) if place >= begun else ():
                inputs = _inputs_of(norm, generator, *self._base(generator, pieces[number]))
                sums = {
                    "pixels": torch.tensor(inputs.shape[1]), "total": inputs.sum(1), "squares": inputs.square().sum(1),
                }  # fmt: skip
                state |= {name: state[name] + added for name, added in sums.items()} if number else sums
                state["at"] = torch.tensor([place, number + 1])
                if file:
                    save_weights(file, state, STATISTICS_FORMAT, {})
                self._on_progress((place + (number + 1) / len(pieces)) / len(norms))
            if place >= begun:
                counted, mean = 0, state["total"] / state["pixels"]
                state[f"mean.{place}"] = mean
                state[f"var.{place}"] = (state["squares"] / state["pixels"] - mean.square()).clamp_min(0)
            norm.running_mean, norm.running_var = state[f"mean.{place}"], state[f"var.{place}"]


class _Needed(NamedTuple):
    """Along one axis: the first base cell, how many, and where the part begins above them."""

    base: int
    bases: int
    start_px: int


def _piece_px(generator: FieldGenerator, longer_px: int) -> int:
    """The side of a piece that is painted in PIECE_BYTES, in whole base cells, by what the trained size takes."""
    height, width = generator.size_px
    if longer_px <= max(height, width, SMALL_PX):
        return longer_px
    lattice = generator.lattices[0]  # that of the width has the same px and context
    bytes_per_px = WORKSPACE_RATIO * _peak_bytes(generator) / (height * width)
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


def _batch_norms(generator: FieldGenerator) -> list[nn.BatchNorm2d]:
    """The generator's batch norms in the order in which they are applied."""
    return [module for module in generator.layers if isinstance(module, nn.BatchNorm2d)]


class _Reached(Exception):
    """Raised at a layer: those after it need not be computed."""


def _inputs_of(norm: nn.BatchNorm2d, generator: FieldGenerator, features: Tensor, part: Rectangle) -> Tensor:
    """The inputs of a batch norm for a part of the picture above base features: (features, pixels)."""
    seen: list[Tensor] = []

    def reached(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    hook = norm.register_forward_pre_hook(reached)
    with suppress(_Reached):
        generator.layers(features)
    hook.remove()
    # pixels of the picture for each of this map's; pieces begin and end with base cells
    px = generator.lattices[0].px * features.shape[2] // seen[0].shape[2]
    own = Rectangle(part.top // px, part.left // px, part.height // px, part.width // px)
    return seen[0][0, :, *own.slices].flatten(1)
