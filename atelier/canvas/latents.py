"""Fields of latents: what lies in each cell of a canvas, by layout. Knows no generator.

A cell is a function of the seed, the picture's index, the layout and the canvas alone.

Walks through latent space: where a frame stands between two stations, and what lies between two latents.

Knows no picture and no film; `atelier.canvas.paint` paints a frame, `atelier.film.walk` a film.

Directions in latent space along which pictures change most, found in the generator's first layer alone.

Closed-form factorisation (SeFa, Shen & Zhou, arXiv 2007.06600): no picture is painted, nothing is trained or labelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Canvas, Easing, Move, Station, Walk
from atelier.errors import AtelierError
from atelier.networks.latent_field import TRAINED_SIZE, draw_latents
from atelier.networks.r3gan import R3ganGenerator
from atelier.settings.schema import Layout

SPAN = (
    3  # cells from one anchor of a smooth field to the next, about: fewer are restless, more show the weave
)

TINY = 1e-300  # in place of the length of nothing


def draw_field(
    layout: Layout, seed: int, index: int, nz: int, canvas: Canvas, truncation: float, seamless: bool
) -> Tensor:
    """The field of picture `index`: (1, nz) for one cell, (1, nz, rows, columns) for more, float32 on the CPU.

    `random`: every cell a latent of its own. `line`: from one latent to another along the longer side, and back where
    it is to be seamless. `smooth`: latents a few cells apart, and what lies between them. `panorama`: the same along
    the width, every row alike. A seamless field goes on at its other edge.
    """
    if layout == "random" or canvas == TRAINED_SIZE:
        return draw_latents(seed, index, nz, canvas, truncation)
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
    drawn = draw_latents(seed, index, nz, anchors, truncation).double().reshape(nz, *anchors)
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

    As `latent_per_cell` of `atelier.networks.latent_field` does it: mixed normal latents would be shorter than any that
    training showed. A row at a time, because a mural has a million cells.
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


PARALLEL = 1e-9  # below this sine two latents lie on one line, and no arc between them is the shortest


def walk_position(walk: Walk) -> tuple[Station, Station, float]:
    """The stations before and after the walk's frame, and the eased way from the one to the other, from 0 to 1.

    All ways take equally long. The first frame is the first station; the last is the last station, and where
    the walk loops one step before the first again, so that played over and over no frame comes twice.
    """
    stops = (*walk.stations, walk.stations[0]) if walk.loop else walk.stations
    ways, steps = len(stops) - 1, walk.frames if walk.loop else walk.frames - 1
    way = min(walk.frame * ways // steps, ways - 1)
    gone = (walk.frame * ways - way * steps) / steps  # whole numbers until here: the same on every machine
    return stops[way], stops[way + 1], ease(gone, walk.easing)


def ease(gone: float, easing: Easing) -> float:
    """`gone` itself for linear; for smooth it starts slowly from a station and comes slowly to the next."""
    return gone * gone * (3 - 2 * gone) if easing == "smooth" else gone


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """What lies between two fields of latents, (B, nz) or (B, nz, rows, columns), float32; 0 is `start`, 1 is `end`.

    Every cell's latent turns evenly along the arc between its two, and its length passes evenly from the one's to the
    other's: what is mixed linearly would be shorter in the middle than any latent that training showed.
    """
    one, other = start.double(), end.double()
    length, wanted = _walks_lengths(one), _walks_lengths(other)
    first, last = one / length.clamp_min(TINY), other / wanted.clamp_min(TINY)
    # by both chords: an arc cosine would lose half the digits of a small angle
    angle = 2 * torch.atan2(_walks_lengths(first - last), _walks_lengths(first + last))
    turned = ((1 - position) * angle).sin() * first + (position * angle).sin() * last
    arc = turned / angle.sin() * torch.lerp(length, wanted, position)
    return torch.where(angle.sin() > PARALLEL, arc, torch.lerp(one, other, position)).float()


def _walks_lengths(field: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(field, dim=1, keepdim=True)
    return lengths


DECIMALS = 9  # that builds of LAPACK agree on; a picture changes with the sixth

NOTHING = 1e-9  # of the strongest: what is weaker changes no picture


def directions(generator: nn.Module) -> Tensor:
    """(k, nz) unit rows in float64 on the CPU, the one that changes the first features most first, at most nz.

    The same rows for the same weights on every machine: the largest number of each is positive, the last digits are
    rounded away.
    """
    return directions_with_shares(generator)[0]


def directions_with_shares(generator: nn.Module) -> tuple[Tensor, Tensor]:
    """`directions`, and what share of the first layer's whole effect each has, (k,)."""
    layer = first_layer_weight(generator)
    effects, columns = torch.linalg.eigh(
        layer @ layer.T
    )  # of all unit vectors, those that become the longest
    effects, rows = effects.flip(0), columns.T.flip(0)
    known = effects > NOTHING * effects[0]
    rows = rows[known]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).round(decimals=DECIMALS), effects[known] / effects.sum()


def move_latents(field: Tensor, generator: nn.Module, moves: Sequence[Move]) -> Tensor:
    """The field, (1, nz) or (1, nz, rows, columns) in float32, with each of its latents moved.

    A latent's place along a direction is standard normal, so a move by 1 is one standard deviation.
    Raises AtelierError for a direction that the generator has not.
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


def first_layer_weight(generator: nn.Module) -> Tensor:
    """What the generator does to a latent before anything bends it: (nz, features), float64 on the CPU.

    It goes as far as the first layer is linear: with its batch norm's scale, or what it is multiplied by.
    """
    weight = _numbers(generator.project.weight)  # type: ignore[union-attr, arg-type]
    if isinstance(generator, R3ganGenerator):
        return (weight[:, :, 0, 0].T[:, :, None, None] * _numbers(generator.basis)).flatten(1)
    norm = generator.layers[0]  # type: ignore[index]
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise ValueError(f"{type(generator).__name__} has a first layer of a kind unknown here")
    scale = _numbers(norm.weight) / (_numbers(norm.running_var) + norm.eps).sqrt()
    return (weight * scale.view(1, -1, 1, 1)).flatten(1)


def _numbers(weights: Tensor) -> Tensor:
    return weights.detach().to("cpu", torch.float64)
