"""Latents become pictures: a seed and an index are a latent, a latent a picture, the same bytes every time.

It reads and writes no files.

Batch norms that go by the statistics of one canvas, as Torch's did in 2018 (generate.lua never left training mode).

The statistics are of the whole picture, whichever part is painted: they are taken once, in pieces, layer by layer, and
then stand still. A picture of the trained size is too small to have any, and a network without batch norms needs none.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atelier.canvas.recipe import Canvas, cut
from atelier.canvas.tiling import Plane, Window
from atelier.errors import AtelierError
from atelier.networks.latent_field import FieldGenerator
from atelier.networks.weights import read_weights, save_weights
from atelier.pictures import Pixels

TRAINED_SIZE = (1, 1)

STRIDE = 0x9E3779B1  # odd, so index · STRIDE meets no 32-bit number twice; 2³² / golden ratio, so neighbours lie apart

BATCH = 100  # pictures painted at once where their last bits do not matter


def latents(
    seed: int, index: int, nz: int, canvas: tuple[int, int] = TRAINED_SIZE, truncation: float = 1.0
) -> Tensor:
    """The latent of picture `index`: (1, nz), or (1, nz, rows, columns) for a larger canvas, float32 on the CPU.

    It is truncation · N(0, 1) of a CPU generator of its own, which is seeded with (SHA-256 of the seed +
    index · STRIDE) mod 2³². torch keeps only 32 bits of a CPU seed, so a plain hash of both would repeat a picture
    among some 100,000; this way no two pictures of one seed are alike.
    """
    base = int.from_bytes(hashlib.sha256(f"atelier-latent/1:{seed}".encode()).digest()[:4], "big")
    generator = torch.Generator("cpu").manual_seed((base + index * STRIDE) % 2**32)
    shape = (1, nz) if canvas == TRAINED_SIZE else (1, nz, *canvas)
    # drawn in float64: in float32, CPUs with and without AVX2 disagree in the last bit
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul_(truncation).float()


def grain(seed: int, index: int, row: int, column: int, numbers: int) -> Tensor:
    """The grain of one latent cell of picture `index`, (numbers,), standard normal, float32 on the CPU.

    Every cell has a CPU generator of its own, so that any part of a canvas is painted without the rest.
    """
    if not numbers:  # a canvas may have a million cells
        return torch.empty(0)
    key = hashlib.sha256(f"atelier-grain/1:{seed}:{index}:{row}:{column}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(key[:4], "big"))
    return torch.randn(numbers, generator=generator, dtype=torch.float64).float()


def inputs_of(generator: nn.Module) -> int:
    """How many numbers the generator is given for one picture: its latent, and its grain where it takes any."""
    assert isinstance(generator, FieldGenerator)
    return generator.inputs


def inputs(generator: nn.Module, seed: int, index: int) -> Tensor:
    """All that a picture of the trained size is painted from, (1, nz + grain): see `latents` and `grain`."""
    assert isinstance(generator, FieldGenerator)
    numbers = generator.inputs - generator.nz
    return torch.cat([latents(seed, index, generator.nz), grain(seed, index, 0, 0, numbers)[None]], 1)


def render(generator: nn.Module, z: Tensor) -> Pixels:
    """One picture (H, W, 3) from one latent. Raises AtelierError where the generator paints no numbers."""
    if len(z) != 1:
        raise ValueError("pictures are rendered one at a time, so that none depends on its neighbours")
    picture: Pixels = render_batch(generator, z)[0]
    return picture


@torch.inference_mode()
def render_batch(generator: nn.Module, z: Tensor) -> Pixels:
    """Pictures (n, H, W, 3) from n latents at once: fast; their last bits may depend on n, so not for artworks.

    Raises AtelierError where the generator paints no numbers.
    """
    weight = next(generator.parameters())
    images = generator(z.to(weight.device, weight.dtype))
    if not images.isfinite().all():
        raise AtelierError(
            "the generator paints NaN: its training diverged; lower train.lr or raise train.generation, "
            "then `dvc repro train`"
        )
    return to_pixels(images)


def painted(generator: nn.Module, seed: int, count: int) -> Iterator[Pixels]:
    """Pictures 0 to count − 1 of the seed, in batches (see `render_batch`)."""
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        yield render_batch(generator, torch.cat([inputs(generator, seed, index) for index in indices]))


def to_pixels(images: Tensor) -> Pixels:
    """(n, 3, H, W) in [−1, 1] → uint8 (n, H, W, 3), rounded half to even."""
    levels = ((images.detach() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def exact(generator: nn.Module, device: torch.device) -> nn.Module:
    """The generator in eval mode on `device`, in float64 where the device has it.

    Rounded to 8 bits, double precision leaves no say to the device, the number of threads or the CPU's vector units;
    float32 differs from it in about one value of a million, for half the time.
    """
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return generator.eval().requires_grad_(False).to(device=device, dtype=dtype)


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
    told: Callable[[float], None],
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
