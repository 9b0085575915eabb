"""Directions in latent space along which pictures change most, found in the generator's first layer alone.

Closed-form factorisation (SeFa, Shen & Zhou, arXiv 2007.06600): no picture is painted, nothing is trained or labelled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Move
from atelier.errors import AtelierError
from atelier.networks.r3gan import R3ganGenerator

DECIMALS = 9  # that builds of LAPACK agree on; a picture changes with the sixth
NOTHING = 1e-9  # of the strongest: what is weaker changes no picture


def directions(generator: nn.Module) -> Tensor:
    """(k, nz) unit rows in float64 on the CPU, the one that changes the first features most first, at most nz.

    The same rows for the same weights on every machine: the largest number of each is positive, the last digits are
    rounded away.
    """
    return factorised(generator)[0]


def factorised(generator: nn.Module) -> tuple[Tensor, Tensor]:
    """`directions`, and what share of the first layer's whole effect each has, (k,)."""
    layer = first_layer(generator)
    effects, columns = torch.linalg.eigh(
        layer @ layer.T
    )  # of all unit vectors, those that become the longest
    effects, rows = effects.flip(0), columns.T.flip(0)
    known = effects > NOTHING * effects[0]
    rows = rows[known]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).round(decimals=DECIMALS), effects[known] / effects.sum()


def moved(field: Tensor, generator: nn.Module, moves: Sequence[Move]) -> Tensor:
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


def first_layer(generator: nn.Module) -> Tensor:
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
