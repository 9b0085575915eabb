"""DCGAN's layers, each as what the device at hand is quick at: the same sums, the same weights by the same names.

In float32 and on a GPU they are torch's own. In bfloat16 on a CPU (under autocast) oneDNN is slow at some shapes that
a DCGAN is made of; there they are matrix products, or convolutions that it is quick at. Knows no network and no loss.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_weight

# Above these sizes of the fine side torch's own layers are as quick: measured with batch 64 on a Zen 5, which has
# AVX512-BF16 (bench/train.py), and with batch 32 on a Xeon with AMX, whose oneDNN is quick at more shapes.
AMX = torch.cpu._is_amx_tile_supported()
DOWN_PATCHES_PX = 0 if AMX else 8
WEIGHT_PATCHES_PX = 8
PAIRED_CHANNELS = 3 if AMX else 48


class Halving(nn.Conv2d):
    """A convolution from a fine map to a coarse one, kernel 4: (B, before, 2H, 2W) → (B, after, H, W), no bias."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return halved(x, self.weight)


class Doubling(nn.ConvTranspose2d):
    """Its transpose, from a coarse map to a fine one: (B, before, H, W) → (B, after, 2H, 2W), no bias."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return doubled(x, self.weight)


class Projection(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4 and stride 1: (B, nz, h, w) → (B, after, h + 3, w + 3), no bias."""

    def __init__(self, nz: int, after: int) -> None:
        super().__init__(nz, after, 4, 1, 0, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return projected(x, self.weight)


class Logit(nn.Conv2d):
    """One number of a whole map: (B, before, side, side) → (B, 1, 1, 1), in float32 also under autocast."""

    def __init__(self, before: int, side: int) -> None:
        super().__init__(before, 1, side, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return (_lines(x.float()) @ _lines(self.weight).t())[:, :, None, None]


def projected(latents: Tensor, weight: Tensor) -> Tensor:
    """What `Projection` does; `weight` (nz, after, 4, 4)."""
    if not _in_products(latents) or latents.shape[2:] != (1, 1):
        return functional.conv_transpose2d(latents, weight)
    product = latents.flatten(1) @ _lines(weight)
    return product.view(-1, 4, 4, weight.shape[1]).permute(0, 3, 1, 2)


def halved(fine: Tensor, weight: Tensor) -> Tensor:
    """What `Halving` does; `weight` (coarse, fine, 4, 4)."""
    if not _in_products(fine):
        return functional.conv2d(fine, weight, stride=2, padding=1)
    coarse: Tensor = _Down.apply(fine.bfloat16(), weight.bfloat16())
    return coarse


def doubled(coarse: Tensor, weight: Tensor) -> Tensor:
    """What `Doubling` does; `weight` (coarse, fine, 4, 4)."""
    if not _in_products(coarse):
        return functional.conv_transpose2d(coarse, weight, stride=2, padding=1)
    fine: Tensor = _Up.apply(coarse.bfloat16(), weight.bfloat16())
    return fine


def _in_products(x: Tensor) -> bool:
    """Whether these layers are to be computed as here rather than as torch has them."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return torch.get_autocast_dtype("cpu") == torch.bfloat16


# Σ coarse · down(fine, weight) is linear in each of the three; each derivative of it is one of these three, and the
# derivatives of those are the same three again: so any of them can be differentiated as often as one likes.


class _Down(Function):
    @staticmethod
    def forward(ctx: Any, fine: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(fine, weight)
        return _down(fine, weight)

    @staticmethod
    def backward(ctx: Any, coarse: Tensor) -> tuple[Tensor | None, Tensor | None]:
        fine, weight = ctx.saved_tensors
        wants_fine, wants_weight = ctx.needs_input_grad
        return (
            _Up.apply(coarse, weight) if wants_fine else None,
            _Weight.apply(fine, coarse) if wants_weight else None,
        )


class _Up(Function):
    @staticmethod
    def forward(ctx: Any, coarse: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(coarse, weight)
        return _up(coarse, weight)

    @staticmethod
    def backward(ctx: Any, fine: Tensor) -> tuple[Tensor | None, Tensor | None]:
        coarse, weight = ctx.saved_tensors
        wants_coarse, wants_weight = ctx.needs_input_grad
        return (
            _Down.apply(fine, weight) if wants_coarse else None,
            _Weight.apply(fine, coarse) if wants_weight else None,
        )


class _Weight(Function):
    @staticmethod
    def forward(ctx: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        ctx.save_for_backward(fine, coarse)
        return _weight(fine, coarse)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        fine, coarse = ctx.saved_tensors
        wants_fine, wants_coarse = ctx.needs_input_grad
        return (
            _Up.apply(coarse, weight) if wants_fine else None,
            _Down.apply(fine, weight) if wants_coarse else None,
        )


def _down(fine: Tensor, weight: Tensor) -> Tensor:
    if fine.shape[2] > DOWN_PATCHES_PX:
        return functional.conv2d(fine, weight, stride=2, padding=1)
    batch, _, height, width = fine.shape
    product = _patches(fine) @ _lines(weight).t()
    return product.view(batch, height // 2, width // 2, -1).permute(0, 3, 1, 2)


def _up(coarse: Tensor, weight: Tensor) -> Tensor:
    """Two by two fine pixels see the same two by two coarse ones: a 2×2 convolution gives all four at once."""
    channels = weight.shape[1]
    if channels > PAIRED_CHANNELS:
        return functional.conv_transpose2d(coarse, weight, stride=2, padding=1)
    # of the four weights along an axis, a pair's first pixel has the third and the first, its second the other two
    taps = weight.view(-1, channels, 2, 2, 2, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
    kernels = taps.reshape(4 * channels, -1, 2, 2).contiguous(memory_format=torch.channels_last)
    pairs = functional.conv2d(coarse, kernels, padding=1).permute(0, 2, 3, 1)
    batch, height, width, _ = pairs.shape
    rows = pairs.reshape(batch, height, width, 2, 2 * channels).transpose(2, 3)
    fine = rows.reshape(batch, 2 * height, 2 * width, channels)
    return fine[:, 1:-1, 1:-1].contiguous().permute(0, 3, 1, 2)


def _weight(fine: Tensor, coarse: Tensor) -> Tensor:
    shape = (coarse.shape[1], fine.shape[1], 4, 4)
    if fine.shape[2] > WEIGHT_PATCHES_PX:
        by_torch: Tensor = conv2d_weight(fine, shape, coarse, stride=2, padding=1)  # type: ignore[no-untyped-call]
        return by_torch
    product = coarse.permute(0, 2, 3, 1).flatten(0, 2).t() @ _patches(fine)
    return product.view(shape[0], 4, 4, shape[1]).permute(0, 3, 1, 2)


def _patches(fine: Tensor) -> Tensor:
    """The 4×4 pixels that each coarse one sees, a line each: (B · H · W, 16 · channels)."""
    padded = functional.pad(fine.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    batch, height, width, channels = padded.shape
    line = width * channels
    seen = padded.as_strided(
        (batch, height // 2 - 1, width // 2 - 1, 4, 4 * channels),
        (height * line, 2 * line, 2 * channels, line, 1),
    )
    return seen.reshape(-1, 16 * channels)


def _lines(weight: Tensor) -> Tensor:
    """Weights or maps (n, channels, 4, 4), a line each in the order of patches: a view where channels are last."""
    return weight.permute(0, 2, 3, 1).flatten(1)
