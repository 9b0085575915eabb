"""Fields of latents: what lies in each cell of a canvas, by layout. Knows no generator.

A cell is a function of the seed, the picture's index, the layout and the canvas alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.canvas.recipe import Canvas
from atelier.canvas.render import TRAINED_SIZE, latents
from atelier.settings.schema import Layout

SPAN = (
    3  # cells from one anchor of a smooth field to the next, about: fewer are restless, more show the weave
)
TINY = 1e-300  # in place of the length of nothing


def lay(
    layout: Layout, seed: int, index: int, nz: int, canvas: Canvas, truncation: float, seamless: bool
) -> Tensor:
    """The field of picture `index`: (1, nz) for one cell, (1, nz, rows, columns) for more, float32 on the CPU.

    `random`: every cell a latent of its own. `line`: from one latent to another along the longer side, and back where
    it is to be seamless. `smooth`: latents a few cells apart, and what lies between them. `panorama`: the same along
    the width, every row alike. A seamless field goes on at its other edge.
    """
    if layout == "random" or canvas == TRAINED_SIZE:
        return latents(seed, index, nz, canvas, truncation)
    rows, columns = canvas
    match layout:
        case "line":
            upright = rows > columns
            down, across = _still(rows), _still(columns)
            if upright:
                down = _there(rows, seamless)
            else:
                across = _there(columns, seamless)
            anchors = (2, 1) if upright else (1, 2)
        case "smooth":
            down, across = _steps(rows, seamless), _steps(columns, seamless)
            anchors = (down.anchors, across.anchors)
        case "panorama":
            down, across = _still(rows), _steps(columns, seamless)
            anchors = (1, across.anchors)
    drawn = latents(seed, index, nz, anchors, truncation).double().reshape(nz, *anchors)
    return _between(drawn, down, across)


@dataclass(frozen=True)
class Steps:
    """For the cells along one axis: the anchors before and after each, and how far it is from the one to the other."""

    anchors: int
    before: Tensor
    after: Tensor
    way: Tensor


def _still(cells: int) -> Steps:
    """All cells at one anchor."""
    zeros = torch.zeros(cells, dtype=torch.long)
    return Steps(1, zeros, zeros, zeros.double())


def _there(cells: int, seamless: bool) -> Steps:
    """From one anchor to a second; seamless: and back."""
    still = _still(cells)
    place = torch.arange(cells, dtype=torch.float64)
    way = 1 - (2 * place / cells - 1).abs() if seamless else place / max(cells - 1, 1)
    return Steps(2, still.before, still.before + 1, way)


def _steps(cells: int, seamless: bool) -> Steps:
    """Past anchors about SPAN cells apart; seamless: from the last on to the first."""
    if cells == 1:
        return _still(cells)
    ways = cells if seamless else cells - 1
    anchors = max(round(ways / SPAN), 1 + seamless) + (not seamless)
    place = torch.arange(cells) * (anchors if seamless else anchors - 1)
    before, rest = place // ways, place % ways  # whole numbers: the same on every machine
    after = (before + 1) % anchors if seamless else (before + 1).clamp_max(anchors - 1)
    return Steps(anchors, before, after, rest.double() / ways)


def _between(anchors: Tensor, down: Steps, across: Steps) -> Tensor:
    """Anchors (nz, a, b) mixed linearly, then stretched to the length that lengths mixed the same way have.

    As networks/fields.spread does it: mixed normal latents would be shorter than any that training showed. A row at a
    time, because a mural has a million cells.
    """
    lengths = _lengths(anchors)
    field = torch.empty(1, len(anchors), len(down.way), len(across.way))
    for row in range(len(down.way)):
        mixed = _mixed(_row(anchors, down, row), across)
        wanted = _mixed(_row(lengths, down, row), across)
        field[0, :, row] = (mixed * (wanted / _lengths(mixed).clamp_min(TINY))).float()
    return field


def _row(anchors: Tensor, down: Steps, row: int) -> Tensor:
    return torch.lerp(anchors[:, down.before[row]], anchors[:, down.after[row]], down.way[row])


def _mixed(row: Tensor, across: Steps) -> Tensor:
    return torch.lerp(row[:, across.before], row[:, across.after], across.way)


def _lengths(latents: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(latents, dim=0, keepdim=True)
    return lengths
