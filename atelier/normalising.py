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
from atelier.planes import Plane, Rectangle, cut


def uneven(generator: FieldGenerator) -> FieldGenerator:
    """The same weights, but where latents meet their sum or mixture stays as strong as it comes out."""
    # parameters are shared, buffers are the copy's own
    other = copy.deepcopy(generator, {id(weight): weight for weight in generator.parameters()})
    other.evens = False
    return other


@torch.inference_mode()
def by_own_statistics(generator: FieldGenerator, plane: Plane, side_px: int) -> FieldGenerator:
    """The generator with the statistics of this picture, taken in pieces of `side_px`, in place of those it learned.

    What overlaps is not evened beforehand, as it was not in 2018: the first batch norm does that.
    Raises AtelierError for a network without batch norms, and for one cell alone.
    """
    generator = uneven(generator)
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
    weight = next(generator.parameters())
    for piece in cut(plane.whole, side_px, side_px):
        window = plane.window(piece)
        seen = _at(norm, generator, window.latents.to(weight.device, weight.dtype))
        # pieces begin and end with cells, so they do in every layer's map
        px = plane.lattice.cell_px * (window.latents.shape[2] + plane.lattice.overhang) // seen.shape[2]
        rows, columns = (slice(start // px, (start + length) // px) for start, length in _sides(window.part))
        inner = seen[0, :, rows, columns].flatten(1)
        count += inner.shape[1]
        total, squares = total + inner.sum(1), squares + inner.square().sum(1)
    mean = total / count
    norm.running_mean = mean
    norm.running_var = (squares / count - mean.square()).clamp_min(0)


def _sides(part: Rectangle) -> tuple[tuple[int, int], tuple[int, int]]:
    return (part.top, part.height), (part.left, part.width)


def _at(norm: nn.BatchNorm2d, generator: FieldGenerator, latents: Tensor) -> Tensor:
    """What comes to this layer when the generator paints."""
    seen: list[Tensor] = []

    def reached(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    hook = norm.register_forward_pre_hook(reached)
    with suppress(_Reached):
        generator(latents)
    hook.remove()
    return seen[0]
