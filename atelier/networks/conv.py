"""The convolutions of DCGAN and sketch, with a faster implementation for bfloat16 on a CPU.

In float32 and on a GPU they are torch's own. In bfloat16 on a CPU (under autocast) oneDNN is slow at some of these
shapes, which are computed as matrix products or other convolutions instead, with the same sums and weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_weight

# Above these sides of the larger map torch's own layers are as fast: measured with batch 64 on a Zen 5, which has
# AVX512-BF16 (bench/train.py), and with batch 32 on a Xeon with AMX, where oneDNN is fast at more shapes.
AMX = torch.cpu._is_amx_tile_supported()
DOWN_PATCHES_PX = 0 if AMX else 8
WEIGHT_PATCHES_PX = 8
PAIRED_CHANNELS = 3 if AMX else 48


class Downsample(nn.Conv2d):
    """A convolution of kernel 4 and stride 2 without bias: (B, before, 2H, 2W) → (B, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _uses_matrix_products(x):
            return functional.conv2d(x, self.weight, stride=2, padding=1)
        coarse: Tensor = _Down.apply(x.bfloat16(), self.weight.bfloat16())
        return coarse


class Upsample(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4 and stride 2 without bias: (B, before, H, W) → (B, after, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return upsample(x, self.weight)


class ProjectLatent(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4 and stride 1 without bias: (B, nz, h, w) → (B, after, h + 3, w + 3)."""

    def __init__(self, nz: int, after: int) -> None:
        super().__init__(nz, after, 4, 1, 0, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return project_latents(x, self.weight)


class ToLogit(nn.Conv2d):
    """A convolution over a whole map: (B, before, side, side) → (B, 1, 1, 1), in float32 even under autocast."""

    def __init__(self, before: int, side: int) -> None:
        super().__init__(before, 1, side, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return (_rows(x.float()) @ _rows(self.weight).t())[:, :, None, None]


def project_latents(latents: Tensor, weight: Tensor) -> Tensor:
    """The function of `ProjectLatent`, with weight (nz, after, 4, 4)."""
    if not _uses_matrix_products(latents) or latents.shape[2:] != (1, 1):
        return functional.conv_transpose2d(latents, weight)
    product = latents.flatten(1) @ _rows(weight)
    return product.view(-1, 4, 4, weight.shape[1]).permute(0, 3, 1, 2)


def upsample(coarse: Tensor, weight: Tensor) -> Tensor:
    """The function of `Upsample`, with weight (coarse, fine, 4, 4)."""
    if not _uses_matrix_products(coarse):
        return functional.conv_transpose2d(coarse, weight, stride=2, padding=1)
    fine: Tensor = _Up.apply(coarse.bfloat16(), weight.bfloat16())
    return fine


def _uses_matrix_products(x: Tensor) -> bool:
    """Whether the layers are computed by this module instead of by torch: in bfloat16 on a CPU."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return torch.get_autocast_dtype("cpu") == torch.bfloat16


# Σ coarse · down(fine, weight) is linear in each of its three arguments. Its derivatives are the three functions below,
# whose derivatives are again these functions, so each can be differentiated any number of times.


class _Down(Function):
    @staticmethod
    def forward(ctx: Any, fine: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(fine, weight)
        if fine.shape[2] > DOWN_PATCHES_PX:
            return functional.conv2d(fine, weight, stride=2, padding=1)
        batch, _, height, width = fine.shape
        product = _patches(fine) @ _rows(weight).t()
        return product.view(batch, height // 2, width // 2, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, coarse: Tensor) -> tuple[Tensor | None, ...]:
        fine, weight = ctx.saved_tensors
        return _gradients(ctx, (_Up, coarse, weight), (_Weight, fine, coarse))


class _Up(Function):
    """Each 2×2 fine pixels, which depend on the same 2×2 coarse ones, are channels of one 2×2 convolution."""

    @staticmethod
    def forward(ctx: Any, coarse: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(coarse, weight)
        channels = weight.shape[1]
        if channels > PAIRED_CHANNELS:
            return functional.conv_transpose2d(coarse, weight, stride=2, padding=1)
        # along an axis, the first pixel of a pair uses the third and first of four weights, the second the other two
        taps = weight.view(-1, channels, 2, 2, 2, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
        kernels = taps.reshape(4 * channels, -1, 2, 2).contiguous(memory_format=torch.channels_last)
        pairs = functional.conv2d(coarse, kernels, padding=1).permute(0, 2, 3, 1)
        batch, height, width, _ = pairs.shape
        rows = pairs.reshape(batch, height, width, 2, 2 * channels).transpose(2, 3)
        fine = rows.reshape(batch, 2 * height, 2 * width, channels)
        return fine[:, 1:-1, 1:-1].contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, fine: Tensor) -> tuple[Tensor | None, ...]:
        coarse, weight = ctx.saved_tensors
        return _gradients(ctx, (_Down, fine, weight), (_Weight, fine, coarse))


class _Weight(Function):
    @staticmethod
    def forward(ctx: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        ctx.save_for_backward(fine, coarse)
        shape = (coarse.shape[1], fine.shape[1], 4, 4)
        if fine.shape[2] > WEIGHT_PATCHES_PX:
            by_torch: Tensor = conv2d_weight(fine, shape, coarse, stride=2, padding=1)  # type: ignore[no-untyped-call]
            return by_torch
        product = coarse.permute(0, 2, 3, 1).flatten(0, 2).t() @ _patches(fine)
        return product.view(shape[0], 4, 4, shape[1]).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        fine, coarse = ctx.saved_tensors
        return _gradients(ctx, (_Up, coarse, weight), (_Down, fine, weight))


def _gradients(ctx: Any, *calls: tuple[type[Function], Tensor, Tensor]) -> tuple[Tensor | None, ...]:
    """The result of each call, or None where the function's input of this place needs no gradient."""
    needed = zip(calls, ctx.needs_input_grad, strict=True)
    return tuple(function.apply(*inputs) if needs else None for (function, *inputs), needs in needed)


def _patches(fine: Tensor) -> Tensor:
    """The 4×4 fine pixels that each coarse pixel depends on, as rows: (B · H · W, 16 · channels)."""
    padded = functional.pad(fine.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    batch, height, width, channels = padded.shape
    size, line = (batch, height // 2 - 1, width // 2 - 1, 4, 4 * channels), width * channels
    return padded.as_strided(size, (height * line, 2 * line, 2 * channels, line, 1)).reshape(-1, 16 * channels)


def _rows(weight: Tensor) -> Tensor:
    """Weights or maps (n, channels, 4, 4) as rows in the order of `_patches`; a view if channels are last in memory."""
    return weight.permute(0, 2, 3, 1).flatten(1)
