"""Batch norms that go by the statistics of one canvas, as Torch's did in 2018 (generate.lua never left training mode).

The statistics are of the whole picture, whichever part is painted: they are taken once, in pieces, layer by layer, and
then stand still. A picture of the trained size is too small to have any, and a network without batch norms needs none.
"""

import copy
from contextlib import suppress

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.networks.fields import FieldGenerator
from atelier.planes import Plane, Window
from atelier.rectangles import cut


def uneven(generator: FieldGenerator) -> FieldGenerator:
    """The same weights, but where latents meet their sum or mixture stays as strong as it comes out."""
    # parameters are shared, buffers are the copy's own
    other = copy.deepcopy(generator, {id(weight): weight for weight in generator.parameters()})
    other.evens = False
    return other


@torch.inference_mode()
def base(generator: FieldGenerator, window: Window) -> Tensor:
    """The base cells that a window asks for."""
    weight = next(generator.parameters())
    return generator.base(window.latents.to(weight.device, weight.dtype))[..., *window.base.slices]


@torch.inference_mode()
def by_own_statistics(generator: FieldGenerator, plane: Plane, side_px: int) -> FieldGenerator:
    """The generator with the statistics of this picture, taken in pieces of `side_px`, in place of those it learned.

    What overlaps is not evened beforehand, as it was not in 2018: the first batch norm does that.
    Raises AtelierError for a network without batch norms, and for one cell alone.
    """
    generator = uneven(generator)
    if plane.field.shape[2:] == (1, 1):
        raise AtelierError(
            "normalise holds batch, but a canvas of one cell is too small for statistics of its own: "
            "make generate.canvas larger, or set generate.normalise to overlap"
        )
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise AtelierError(
            "normalise holds batch, but this model has no batch norms: set generate.normalise to overlap or none"
        )
    for norm in norms:  # each sees what those before it make of the whole picture
        _settle(norm, generator, plane, side_px)
    return generator


class _Reached(Exception):
    """The layers after this one need not be computed."""


def _settle(norm: nn.BatchNorm2d, generator: FieldGenerator, plane: Plane, side_px: int) -> None:
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in cut(plane.whole, side_px, side_px):
        window = plane.window(piece)
        features = base(generator, window)
        seen = _at(norm, generator, features)
        px = plane.lattice.px * features.shape[2] // seen.shape[2]  # of the picture under one of this map's
        inner = seen[0, :, *window.part.divided(px).slices].flatten(1)  # pieces begin and end with base cells
        count += inner.shape[1]
        total, squares = total + inner.sum(1), squares + inner.square().sum(1)
    mean = total / count
    norm.running_mean = mean
    norm.running_var = (squares / count - mean.square()).clamp_min(0)


def _at(norm: nn.BatchNorm2d, generator: FieldGenerator, features: Tensor) -> Tensor:
    """What comes to this layer when the generator paints."""
    seen: list[Tensor] = []

    def reached(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    hook = norm.register_forward_pre_hook(reached)
    with suppress(_Reached):
        generator.layers(features)
    hook.remove()
    return seen[0]
