"""Interpolate between latents: between the cells of a canvas (its layout), and between the stations of a walk.

Interpolated latents keep the length of those that they lie between. A linear mixture of two normal latents is shorter
than any latent that the generator saw in training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.canvas.recipe import Canvas, Easing, Station, Walk
from atelier.networks.latent_field import MIN_LENGTH, with_length
from atelier.settings.schema import Layout

# cells between two anchors of a smooth field, about: with fewer the picture is restless, with more the grid shows
ANCHOR_SPACING_CELLS = 3
MIN_SINE = 1e-9  # of the angle between two latents; below it they are parallel or opposite


@dataclass(frozen=True)
class Axis:
    """For each cell along an axis: the anchors before and after it, and the weight of the second, 0 to 1."""

    anchors: int  # how many there are
    before: Tensor
    after: Tensor
    weight: Tensor


def layout_axes(layout: Layout, canvas: Canvas, seamless: bool) -> tuple[Axis, Axis]:
    """Between which anchors the latents of a canvas are interpolated, along its height and its width.

    - line: from one latent to a second along the longer side; seamless: and back.
    - smooth: latents every few cells, interpolated between them in both directions.
    - panorama: like smooth along the width; all rows are equal.

    A seamless field continues from its last cell to its first. The layout "random" interpolates nothing.
    """
    rows, columns = canvas
    match layout:
        case "line" if rows > columns:
            return _from_one_to_another(rows, seamless), _constant(columns)
        case "line":
            return _constant(rows), _from_one_to_another(columns, seamless)
        case "smooth":
            return _through_anchors(rows, seamless), _through_anchors(columns, seamless)
        case "panorama":
            return _constant(rows), _through_anchors(columns, seamless)
    raise ValueError(f"the layout {layout} interpolates nothing")


def interpolate(anchors: Tensor, down: Axis, across: Axis) -> Tensor:
    """Interpolate anchors (nz, a, b), and their lengths, linearly: (1, nz, rows, columns), float32.

    It is done row by row, because a mural has a million cells.
    """
    lengths: Tensor = torch.linalg.vector_norm(anchors, dim=0, keepdim=True)
    field = torch.empty(1, len(anchors), len(down.weight), len(across.weight))
    for row in range(len(down.weight)):
        mixed, length = (_at_row(values, down, row, across) for values in (anchors, lengths))
        field[0, :, row] = with_length(mixed, length, dim=0).float()
    return field


def _constant(cells: int) -> Axis:
    """One anchor for all cells."""
    zeros = torch.zeros(cells, dtype=torch.long)
    return Axis(1, zeros, zeros, zeros.double())


def _from_one_to_another(cells: int, seamless: bool) -> Axis:
    """Two anchors, at the ends; seamless: the second is in the middle, and the last cells return to the first."""
    zeros = torch.zeros(cells, dtype=torch.long)
    place = torch.arange(cells, dtype=torch.float64)
    weight = 1 - (2 * place / cells - 1).abs() if seamless else place / max(cells - 1, 1)
    return Axis(2, zeros, zeros + 1, weight)


def _through_anchors(cells: int, seamless: bool) -> Axis:
    """Anchors about ANCHOR_SPACING_CELLS apart; seamless: the cells after the last anchor lead to the first."""
    if cells == 1:
        return _constant(cells)
    steps = cells if seamless else cells - 1
    anchors = max(round(steps / ANCHOR_SPACING_CELLS), 1 + seamless) + (not seamless)
    place = torch.arange(cells) * (anchors if seamless else anchors - 1)
    before, rest = place // steps, place % steps  # integers: the same on every machine
    after = (before + 1) % anchors if seamless else (before + 1).clamp_max(anchors - 1)
    return Axis(anchors, before, after, rest.double() / steps)


def _at_row(anchors: Tensor, down: Axis, row: int, across: Axis) -> Tensor:
    """Interpolate (n, a, b) between two rows of anchors, then along the row: (n, columns)."""
    mixed = torch.lerp(anchors[:, down.before[row]], anchors[:, down.after[row]], down.weight[row])
    return torch.lerp(mixed[:, across.before], mixed[:, across.after], across.weight)


def walk_position(walk: Walk) -> tuple[Station, Station, float]:
    """The stations before and after the walk's frame, and its position between them, eased, from 0 to 1.

    All stretches between stations take equally long. The first frame is the first station. The last frame is the last
    station; in a loop it is one step before the first station, so that no frame repeats when the film does.
    """
    stops = (*walk.stations, walk.stations[0]) if walk.loop else walk.stations
    stretches, steps = len(stops) - 1, walk.frames if walk.loop else walk.frames - 1
    stretch = min(walk.frame * stretches // steps, stretches - 1)
    position = (walk.frame * stretches - stretch * steps) / steps  # integers until here: the same on every machine
    return stops[stretch], stops[stretch + 1], ease(position, walk.easing)


def ease(position: float, easing: Easing) -> float:
    """Return the position, 0 to 1, itself for linear easing; for smooth, slow it down near both stations."""
    return position * position * (3 - 2 * position) if easing == "smooth" else position


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """Interpolate spherically between two fields, (B, nz) or (B, nz, rows, columns); float32. 0 is `start`, 1 is `end`.

    Every cell's latent turns at a constant rate along the arc, and its length changes linearly. Latents that are
    parallel or opposite are interpolated linearly.
    """
    one, other = start.double(), end.double()
    length, end_length = _length(one), _length(other)
    first, last = one / length.clamp_min(MIN_LENGTH), other / end_length.clamp_min(MIN_LENGTH)
    # from the chords, because an arc cosine would lose half the digits of a small angle
    angle = 2 * torch.atan2(_length(first - last), _length(first + last))
    turned = ((1 - position) * angle).sin() * first + (position * angle).sin() * last
    arc = turned / angle.sin() * torch.lerp(length, end_length, position)
    return torch.where(angle.sin() > MIN_SINE, arc, torch.lerp(one, other, position)).float()


def _length(field: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(field, dim=1, keepdim=True)
    return lengths
