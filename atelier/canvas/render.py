"""Latents become pictures: a seed and an index are a latent, a latent a picture, the same bytes every time.

It reads and writes no files.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.networks.latent_field import FieldGenerator
from atelier.pictures import Pixels

TRAINED_SIZE = (1, 1)
STRIDE = 0x9E3779B1  # odd, so index · STRIDE meets no 32-bit number twice; 2³² / golden ratio, so neighbours lie apart
BATCH = 100  # pictures painted at once where their last bits do not matter


def draw_latents(
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


def draw_grain(seed: int, index: int, row: int, column: int, numbers: int) -> Tensor:
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


def draw_inputs(generator: nn.Module, seed: int, index: int) -> Tensor:
    """All that a picture of the trained size is painted from, (1, nz + grain): see `latents` and `grain`."""
    assert isinstance(generator, FieldGenerator)
    numbers = generator.inputs - generator.nz
    return torch.cat(
        [draw_latents(seed, index, generator.nz), draw_grain(seed, index, 0, 0, numbers)[None]], 1
    )


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


def render_seed(generator: nn.Module, seed: int, count: int) -> Iterator[Pixels]:
    """Pictures 0 to count − 1 of the seed, in batches (see `render_batch`)."""
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        yield render_batch(generator, torch.cat([draw_inputs(generator, seed, index) for index in indices]))


def to_pixels(images: Tensor) -> Pixels:
    """(n, 3, H, W) in [−1, 1] → uint8 (n, H, W, 3), rounded half to even."""
    levels = ((images.detach() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def in_double_precision(generator: nn.Module, device: torch.device) -> nn.Module:
    """The generator in eval mode on `device`, in float64 where the device has it.

    Rounded to 8 bits, double precision leaves no say to the device, the number of threads or the CPU's vector units;
    float32 differs from it in about one value of a million, for half the time.
    """
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return generator.eval().requires_grad_(False).to(device=device, dtype=dtype)
