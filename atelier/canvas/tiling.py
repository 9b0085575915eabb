"""A field of latents under the picture that it becomes: what a rectangle of the picture is painted from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.canvas.recipe import Canvas, Rectangle
from atelier.networks.latent_field import Lattice


@dataclass(frozen=True)
class Window:
    """What a part of a picture is painted from.

    `latents` and their `grain`, (1, n, rows, columns) each, have among their base cells those of `base`, complete; the
    picture above these has the part at `part`.
    """

    latents: Tensor
    grain: Tensor
    base: Rectangle
    part: Rectangle


@dataclass(frozen=True)
class Plane:
    """A field (1, nz, rows, columns) and its lattice. Seamless it has no edge: it begins again wherever it ends.

    `grain` gives the grain (n,) of the cell at a row and a column.
    """

    field: Tensor
    lattice: Lattice
    seamless: bool
    grain: Callable[[int, int], Tensor]

    @property
    def whole(self) -> Rectangle:
        """The picture; of a seamless one the part that repeats."""
        rows, columns = self.field.shape[2:]
        return Rectangle(0, 0, *size((rows, columns), self.lattice, self.seamless))

    def window(self, part: Rectangle) -> Window:
        """What a part needs. At an edge of the field it ends, so that the picture ends there as the whole does."""
        rows, down = self._needed(part.top, part.height, self.field.shape[2])
        columns, across = self._needed(part.left, part.width, self.field.shape[3])
        return Window(
            self.field[:, :, rows][:, :, :, columns],
            self._grain(rows, columns),
            Rectangle(down.base, across.base, down.bases, across.bases),
            Rectangle(down.start_px, across.start_px, part.height, part.width),
        )

    def _grain(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The grain (1, n, rows, columns) of these cells."""
        cells = [
            torch.stack([self.grain(row, column) for column in columns.tolist()]) for row in rows.tolist()
        ]
        return torch.stack(cells).permute(2, 0, 1)[None]

    def _needed(self, start_px: int, length_px: int, latents: int) -> tuple[Tensor, "_Needed"]:
        """The latents along one axis, and where in what they make the part lies."""
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


def size(canvas: Canvas, lattice: Lattice, seamless: bool) -> tuple[int, int]:
    """Height and width in pixels: what overhangs the last cell of a seamless picture is its beginning."""
    overhang = 0 if seamless else lattice.overhang
    rows, columns = canvas
    return (rows * lattice.cells + overhang) * lattice.px, (columns * lattice.cells + overhang) * lattice.px
