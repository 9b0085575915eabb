"""A field of latents over the picture that it becomes: which latents a rectangle of it needs, and where they paint it.

Knows how a generator's lattice lies, not how it paints.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.networks.fields import Lattice
from atelier.recipe import Canvas


@dataclass(frozen=True)
class Rectangle:
    """A part of a picture in pixels."""

    top: int
    left: int
    height: int
    width: int

    def within(self, other: "Rectangle") -> bool:
        return (
            other.top <= self.top
            and other.left <= self.left
            and self.top + self.height <= other.top + other.height
            and self.left + self.width <= other.left + other.width
        )


@dataclass(frozen=True)
class Window:
    """Latents, and the part of what they paint that is meant: the rest lacks neighbours."""

    latents: Tensor
    part: Rectangle


@dataclass(frozen=True)
class Plane:
    """A field (1, nz, rows, columns) and its lattice. Seamless it has no edge: it begins again wherever it ends."""

    field: Tensor
    lattice: Lattice
    seamless: bool

    @property
    def whole(self) -> Rectangle:
        """The picture; of a seamless one the part that repeats."""
        rows, columns = self.field.shape[2:]
        return Rectangle(0, 0, *size((rows, columns), self.lattice, self.seamless))

    def window(self, part: Rectangle) -> Window:
        """The latents that a part needs. At an edge of the field they end, so that the picture ends as the whole."""
        rows, top = self._needed(part.top, part.height, self.field.shape[2])
        columns, left = self._needed(part.left, part.width, self.field.shape[3])
        latents = self.field[:, :, rows][:, :, :, columns]
        return Window(latents, Rectangle(top, left, part.height, part.width))

    def _needed(self, start_px: int, length_px: int, cells: int) -> tuple[Tensor | slice, int]:
        """The cells along one axis, and where the part begins in what they paint."""
        lattice = self.lattice
        first = start_px // lattice.cell_px - lattice.before
        last = -(-(start_px + length_px) // lattice.cell_px) + lattice.after
        if self.seamless:
            return torch.arange(first, last) % cells, start_px - first * lattice.cell_px
        first, last = max(first, 0), min(last, cells)
        return slice(first, last), start_px - first * lattice.cell_px


def size(canvas: Canvas, lattice: Lattice, seamless: bool) -> tuple[int, int]:
    """Height and width in pixels: what overhangs the last cell of a seamless picture is its beginning."""
    overhang = 0 if seamless else lattice.overhang
    rows, columns = canvas
    return (rows + overhang) * lattice.cell_px, (columns + overhang) * lattice.cell_px


def cut(whole: Rectangle, height: int, width: int) -> Iterator[Rectangle]:
    """A rectangle in pieces of at most this size, row by row."""
    bottom, right = whole.top + whole.height, whole.left + whole.width
    for top in range(whole.top, bottom, height):
        for left in range(whole.left, right, width):
            yield Rectangle(top, left, min(height, bottom - top), min(width, right - left))
