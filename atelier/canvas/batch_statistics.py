"""Batch norms that go by the statistics of one canvas, as Torch's did in 2018 (generate.lua never left training mode).

The statistics are of the whole picture, whichever part is painted: they are taken once, in pieces, layer by layer, and
then stand still. A picture of the trained size is too small to have any, and a network without batch norms needs none.
"""

import copy
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Canvas, cut
from atelier.canvas.tiling import Plane, Window
from atelier.errors import AtelierError
from atelier.networks.latent_field import TRAINED_SIZE, FieldGenerator
from atelier.networks.weights import read_weights, save_weights
from atelier.progress import ProgressCallback

FORMAT = "atelier-statistics/1"


def uneven(generator: FieldGenerator) -> FieldGenerator:
    """The same weights, but where latents meet their sum or mixture stays as strong as it comes out."""
    # parameters are shared, buffers are the copy's own
    other = copy.deepcopy(generator, {id(weight): weight for weight in generator.parameters()})
    other.normalise_overlap = False
    return other


@torch.inference_mode()
def base(generator: FieldGenerator, window: Window) -> Tensor:
    """The base cells that a window asks for, with their grain."""
    weight = next(generator.parameters())
    latents, grain = (part.to(weight.device, weight.dtype) for part in (window.latents, window.grain))
    return generator.with_grain(generator.base(latents), grain)[..., *window.base.slices]


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
    generator: FieldGenerator,
    plane: Plane,
    side_px: int,
    told: ProgressCallback,
    kept: Path | None = None,
) -> FieldGenerator:
    """The generator with the statistics of this picture, taken in pieces of `side_px`, in place of those it learned.

    What overlaps is not evened beforehand, as it was not in 2018: the first batch norm does that. `told` hears what
    share is done. After every piece the file `kept` holds what is taken; what it holds of an earlier run, which must be
    this picture's, is not taken again.
    """
    generator = uneven(generator)
    norms, pieces = _norms(generator), [*cut(plane.whole, side_px, side_px)]
    device = next(generator.parameters()).device
    state = {name: tensor.to(device) for name, tensor in _taken(kept).items()}
    begun, counted = state["at"].tolist() if state else (0, 0)
    for place, norm in enumerate(norms):  # each sees what those before it make of the whole picture
        for number in range(counted, len(pieces)) if place >= begun else ():
            _add(state, _at(norm, generator, plane.window(pieces[number])), anew=number == 0)
            state["at"] = torch.tensor([place, number + 1])
            if kept:
                save_weights(kept, state, FORMAT, {})
            told((place + (number + 1) / len(pieces)) / len(norms))
        if place >= begun:
            counted, mean = 0, state["total"] / state["pixels"]
            state[f"mean.{place}"] = mean
            state[f"var.{place}"] = (state["squares"] / state["pixels"] - mean.square()).clamp_min(0)
        norm.running_mean, norm.running_var = state[f"mean.{place}"], state[f"var.{place}"]
    return generator


def _add(state: dict[str, Tensor], seen: Tensor, anew: bool) -> None:
    """Count what a batch norm sees of one more piece, (features, pixels)."""
    sums = {"pixels": torch.tensor(seen.shape[1]), "total": seen.sum(1), "squares": seen.square().sum(1)}
    state |= sums if anew else {name: state[name] + added for name, added in sums.items()}


def _taken(kept: Path | None) -> dict[str, Tensor]:
    """What an earlier run has taken; nothing where its file is absent or not whole."""
    try:
        return read_weights(kept, FORMAT, set(), "generate")[1] if kept else {}
    except AtelierError:
        return {}


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
