"""Walks through latent space: where a frame stands between two stations, and what lies between two latents.

Knows no picture and no film; `atelier.canvas.paint` paints a frame, `atelier.film.walk` a film.
"""

import torch
from torch import Tensor

from atelier.canvas.recipe import Easing, Station, Walk

PARALLEL = 1e-9  # below this sine two latents lie on one line, and no arc between them is the shortest
TINY = 1e-300  # in place of the length of nothing


def between(walk: Walk) -> tuple[Station, Station, float]:
    """The stations before and after the walk's frame, and the eased way from the one to the other, from 0 to 1.

    All ways take equally long. The first frame is the first station; the last is the last station, and where
    the walk loops one step before the first again, so that played over and over no frame comes twice.
    """
    stops = (*walk.stations, walk.stations[0]) if walk.loop else walk.stations
    ways, steps = len(stops) - 1, walk.frames if walk.loop else walk.frames - 1
    way = min(walk.frame * ways // steps, ways - 1)
    gone = (walk.frame * ways - way * steps) / steps  # whole numbers until here: the same on every machine
    return stops[way], stops[way + 1], eased(gone, walk.easing)


def eased(gone: float, easing: Easing) -> float:
    """`gone` itself for linear; for smooth it starts slowly from a station and comes slowly to the next."""
    return gone * gone * (3 - 2 * gone) if easing == "smooth" else gone


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """What lies between two fields of latents, (B, nz) or (B, nz, rows, columns), float32; 0 is `start`, 1 is `end`.

    Every cell's latent turns evenly along the arc between its two, and its length passes evenly from the one's to the
    other's: what is mixed linearly would be shorter in the middle than any latent that training showed.
    """
    one, other = start.double(), end.double()
    length, wanted = _lengths(one), _lengths(other)
    first, last = one / length.clamp_min(TINY), other / wanted.clamp_min(TINY)
    # by both chords: an arc cosine would lose half the digits of a small angle
    angle = 2 * torch.atan2(_lengths(first - last), _lengths(first + last))
    turned = ((1 - position) * angle).sin() * first + (position * angle).sin() * last
    arc = turned / angle.sin() * torch.lerp(length, wanted, position)
    return torch.where(angle.sin() > PARALLEL, arc, torch.lerp(one, other, position)).float()


def _lengths(field: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(field, dim=1, keepdim=True)
    return lengths
