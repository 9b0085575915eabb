"""Batch norms that go by the statistics of one canvas, as Torch's did in 2018 (generate.lua never left training mode).

The statistics are of the whole picture, whichever part is painted: they are taken once, in pieces, layer by layer, and
then stand still. A picture of the trained size is too small to have any, and a network without batch norms needs none.
"""

import copy
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from atelier.canvas import TRAINED_SIZE
from atelier.errors import AtelierError
from atelier.networks.fields import FieldGenerator
from atelier.planes import Plane, Window
from atelier.recipe import Canvas
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


def refuse_without_statistics(generator: FieldGenerator, canvas: Canvas) -> None:
    """Raise AtelierError for a network without batch norms, and for a canvas of one cell."""
    if canvas == TRAINED_SIZE:
        raise AtelierError(
            "normalise holds batch, but a canvas of one cell is too small for statistics of its own: "
            "make generate.canvas larger, or set generate.normalise to overlap"
        )
    if not _norms(generator):
        raise AtelierError(
            "normalise holds batch, but this model has no batch norms: set generate.normalise to overlap or none"
        )


@torch.inference_mode()
def by_own_statistics(
    generator: FieldGenerator, plane: Plane, side_px: int, told: Callable[[float], None]
) -> FieldGenerator:
    """The generator with the statistics of this picture, taken in pieces of `side_px`, in place of those it learned.

    What overlaps is not evened beforehand, as it was not in 2018: the first batch norm does that. `told` hears what
    share is done.
    """
    generator = uneven(generator)
    norms, pieces = _norms(generator), [*cut(plane.whole, side_px, side_px)]
    for done, norm in enumerate(norms):  # each sees what those before it make of the whole picture
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for number, piece in enumerate(pieces, 1):
            seen = _at(norm, generator, plane.window(piece))
            count += seen.shape[1]
            total, squares = total + seen.sum(1), squares + seen.square().sum(1)
            told((done + number / len(pieces)) / len(norms))
        mean = total / count
        norm.running_mean = mean
        norm.running_var = (squares / count - mean.square()).clamp_min(0)
    return generator


def _norms(generator: FieldGenerator) -> list[nn.BatchNorm2d]:
    """In the order in which they come."""
    return [module for module in generator.layers if isinstance(module, nn.BatchNorm2d)]


class _Reached(Exception):
    """The layers after this one need not be computed."""


def _at(norm: nn.BatchNorm2d, generator: FieldGenerator, window: Window) -> Tensor:
    """What comes to this layer of the window's part, (features, pixels), when the generator paints."""
    seen: list[Tensor] = []

    def reached(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    features = base(generator, window)
    hook = norm.register_forward_pre_hook(reached)
    with suppress(_Reached):
        generator.layers(features)
    hook.remove()
    # of the picture under one of this map's; pieces begin and end with base cells
    px = generator.lattice.px * features.shape[2] // seen[0].shape[2]
    return seen[0][0, :, *window.part.divided(px).slices].flatten(1)
