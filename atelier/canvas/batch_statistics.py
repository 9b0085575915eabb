"""Replace a generator's learned batch statistics by those of one canvas, as Torch's generate.lua did in 2018.

That script never left training mode. The statistics are of the whole picture, whichever part is painted: they are
computed once, in pieces and layer by layer, and are constant afterwards. A picture of the trained size is too small for
statistics of its own, and a network without batch norms needs none.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Canvas, Rectangle
from atelier.errors import AtelierError
from atelier.networks.latent_field import TRAINED_SIZE, FieldGenerator
from atelier.networks.weights import read_weights, save_weights
from atelier.progress import ProgressCallback

FORMAT = "atelier-statistics/1"

# returns the base features that a part of the picture needs, and the part's place in the picture above them
Base = Callable[[FieldGenerator, Rectangle], tuple[Tensor, Rectangle]]


def without_normalised_overlap(generator: FieldGenerator) -> FieldGenerator:
    """A generator with the same weights that does not rescale the sums or mixtures of neighbouring latents."""
    # parameters are shared, buffers are copied
    other = copy.deepcopy(generator, {id(weight): weight for weight in generator.parameters()})
    other.normalise_overlap = False
    return other


def check_has_statistics(generator: FieldGenerator, canvas: Canvas) -> None:
    """Raise AtelierError for a network without batch norms, and for a canvas of one cell."""
    if canvas == TRAINED_SIZE:
        raise AtelierError(
            "normalise holds batch, but a canvas of one cell is too small for statistics of its own: "
            "make generate.canvas larger, or set generate.normalise to overlap"
        )
    if not _batch_norms(generator):
        raise AtelierError(
            "normalise holds batch, but this model has no batch norms: set generate.normalise to overlap or none"
        )


@torch.inference_mode()
def with_canvas_statistics(
    generator: FieldGenerator,
    pieces: Sequence[Rectangle],
    base: Base,
    on_progress: ProgressCallback,
    file: Path | None = None,
) -> FieldGenerator:
    """A generator with the same weights and the batch statistics of the picture that consists of `pieces`.

    Sums of overlapping latents are not rescaled before the first batch norm, as they were not in 2018: it does that.
    `on_progress` receives the share that is done. `file` is written after every piece; what it contains of an earlier
    run for the same picture is not computed again.
    """
    generator = without_normalised_overlap(generator)
    norms = _batch_norms(generator)
    device = next(generator.parameters()).device
    state = {name: tensor.to(device) for name, tensor in _read_state(file).items()}
    begun, counted = state["at"].tolist() if state else (0, 0)
    for place, norm in enumerate(norms):  # the inputs of each depend on the statistics of those before it
        for number in range(counted, len(pieces)) if place >= begun else ():
            features, part = base(generator, pieces[number])
            _add(state, _inputs_of(norm, generator, features, part), anew=number == 0)
            state["at"] = torch.tensor([place, number + 1])
            if file:
                save_weights(file, state, FORMAT, {})
            on_progress((place + (number + 1) / len(pieces)) / len(norms))
        if place >= begun:
            counted, mean = 0, state["total"] / state["pixels"]
            state[f"mean.{place}"] = mean
            state[f"var.{place}"] = (state["squares"] / state["pixels"] - mean.square()).clamp_min(0)
        norm.running_mean, norm.running_var = state[f"mean.{place}"], state[f"var.{place}"]
    return generator


def _read_state(file: Path | None) -> dict[str, Tensor]:
    """What an earlier run has computed; empty where its file is absent or damaged."""
    try:
        return read_weights(file, FORMAT, set(), "generate")[1] if file else {}
    except AtelierError:
        return {}


def _batch_norms(generator: FieldGenerator) -> list[nn.BatchNorm2d]:
    """The generator's batch norms in the order in which they are applied."""
    return [module for module in generator.layers if isinstance(module, nn.BatchNorm2d)]


class _Reached(Exception):
    """Raised at a layer: those after it need not be computed."""


def _inputs_of(norm: nn.BatchNorm2d, generator: FieldGenerator, features: Tensor, part: Rectangle) -> Tensor:
    """The inputs of a batch norm for a part of the picture above base features: (features, pixels)."""
    seen: list[Tensor] = []

    def reached(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    hook = norm.register_forward_pre_hook(reached)
    with suppress(_Reached):
        generator.layers(features)
    hook.remove()
    # pixels of the picture for each of this map's; pieces begin and end with base cells
    px = generator.lattice.px * features.shape[2] // seen[0].shape[2]
    return seen[0][0, :, *part.divided(px).slices].flatten(1)


def _add(state: dict[str, Tensor], inputs: Tensor, anew: bool) -> None:
    """Add a piece's inputs (features, pixels) to the sums that a batch norm's statistics are computed from."""
    sums = {
        "pixels": torch.tensor(inputs.shape[1]),
        "total": inputs.sum(1),
        "squares": inputs.square().sum(1),
    }
    state |= sums if anew else {name: state[name] + added for name, added in sums.items()}
