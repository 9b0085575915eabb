"""Latents become pictures: a seed and an index are a latent, a latent a picture, the same bytes every time.

Knows any generator that maps (B, nz) or (B, nz, rows, columns) to [−1, 1]; knows no files.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from atelier.errors import AtelierError

Pixels = npt.NDArray[np.uint8]
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
