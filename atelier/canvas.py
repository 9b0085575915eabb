"""Latents become pictures: one recipe (seed, index, canvas, truncation), one picture, the same bytes every time.

Knows any generator that maps (B, nz) or (B, nz, rows, columns) to [−1, 1]; knows no files.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from atelier.errors import AtelierError

Pixels = npt.NDArray[np.uint8]
TRAINED_SIZE = (1, 1)
STRIDE = 0x9E3779B1  # odd, so index · STRIDE meets no 32-bit number twice; 2³² / golden ratio, so neighbours lie apart
SMALL_PX = 512 * 512  # fit into any memory; the first dry run spends seconds on imports
BATCH = 100  # pictures painted at once where their last bits do not matter
WORKSPACE = 3  # a convolution's buffers beside what it reads and writes, at worst


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
    return (truncation * torch.randn(shape, generator=generator, dtype=torch.float64)).float()


def paint(
    generator: nn.Module,
    nz: int,
    seed: int,
    index: int,
    canvas: tuple[int, int] = TRAINED_SIZE,
    truncation: float = 1.0,
) -> Pixels:
    """The picture (H, W, 3) of a recipe, painted alone, in the arithmetic of the generator's weights (see `exact`).

    Raises AtelierError where it does not fit into memory, before anything is allocated, or where the generator
    paints no numbers.
    """
    resolution: Any = generator.resolution
    if canvas[0] * canvas[1] * resolution**2 > SMALL_PX:  # a cell is at most a whole picture
        _refuse_what_does_not_fit(generator, nz, canvas)
    return render(generator, latents(seed, index, nz, canvas, truncation))


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


def painted(generator: nn.Module, nz: int, seed: int, count: int) -> Iterator[Pixels]:
    """Pictures 0 to count − 1 of the seed, in batches (see `render_batch`)."""
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        yield render_batch(generator, torch.cat([latents(seed, index, nz) for index in indices]))


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


def _refuse_what_does_not_fit(generator: nn.Module, nz: int, canvas: tuple[int, int]) -> None:
    device = next(generator.parameters()).device
    (height, width), needed = _dry_run(generator, (1, nz, *canvas))
    there = _memory(device)
    if needed > there:
        raise AtelierError(
            f"a canvas of {list(canvas)} cells is a picture of {width:,} × {height:,} px and needs about "
            f"{needed / 2**30:,.1f} GiB; {device.type} has {there / 2**30:,.1f} GiB: make generate.canvas smaller"
        )


def _dry_run(generator: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """Height, width and peak bytes of painting a latent of this shape; torch's meta device allocates nothing."""
    peak = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal peak
        if not list(module.children()):
            both = output.numel() + sum(tensor.numel() for tensor in inputs)
            peak = max(peak, both * output.element_size())

    weights = {
        name: tensor.to("meta")
        for name, tensor in [*generator.named_parameters(), *generator.named_buffers()]
    }
    hooks = [module.register_forward_hook(count) for module in generator.modules()]
    try:
        dtype = next(generator.parameters()).dtype
        images = functional_call(generator, weights, (torch.empty(shape, dtype=dtype, device="meta"),))
    finally:
        for hook in hooks:
            hook.remove()
    height, width = images.shape[2:]
    return (height, width), WORKSPACE * peak


def _memory(device: torch.device) -> int:
    """Bytes that a picture may take: what a GPU has free, else what the machine has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
