"""The convolutions of the networks, which can be differentiated twice without torch's loop over groups.

Gradient penalties differentiate the discriminator's gradient. torch's second derivative of a convolution computes the
weight's part group by group, even where no gradient of it is needed: 2,620 convolutions in one step of a small R3GAN.
Here the convolution, its gradient by the input, and that by the weight are each other's derivatives, as in StyleGAN3's
conv2d_gradfix (arXiv 2106.12423), and only what is needed is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from atelier.pictures import Cells


class Conv2d(nn.Conv2d):
    """A convolution (B, before, H, W) → (B, after, H, W), padded with zeros; without padding H and W are smaller.

    The kernel has `side` × `side` weights, or rows × columns, which is not padded.
    """

    def __init__(
        self, before: int, after: int, side: int | Cells, *, groups: int = 1, bias: bool = False, pad: bool = True
    ) -> None:
        padding = side // 2 if pad and isinstance(side, int) else 0
        super().__init__(before, after, side, padding=padding, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, padding=int(self.padding[0]), groups=self.groups)


class Downsample(nn.Conv2d):
    """A convolution of kernel 4 and stride 2 without bias: (B, before, 2H, 2W) → (B, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, stride=2, padding=1)


class Upsample(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4 and stride 2 without bias: (B, before, H, W) → (B, after, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return conv_transpose2d(x, self.weight, stride=2, padding=1)


class ProjectLatent(nn.ConvTranspose2d):
    """A transposed convolution of kernel `cells` (rows, columns) and stride 1 without bias.

    (B, nz, h, w) → (B, after, h + rows − 1, w + columns − 1).
    """

    def __init__(self, nz: int, after: int, cells: Cells) -> None:
        super().__init__(nz, after, cells, 1, 0, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return conv_transpose2d(x, self.weight)


class ToLogit(nn.Conv2d):
    """A convolution over a whole map: (B, before, rows, columns) → (B, 1, 1, 1), in float32 even under autocast."""

    def __init__(self, before: int, cells: Cells) -> None:
        super().__init__(before, 1, cells, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return conv2d(x.to(self.weight.dtype), self.weight)


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """torch.nn.functional.conv2d with second derivatives that are convolutions; equal up to rounding."""
    if _has_no_gradient(x, weight, bias):
        return functional.conv2d(x, weight, bias, stride, padding, groups=groups)
    y: Tensor = _Conv.apply(*_autocast(x, weight, bias), Shape(weight.shape, x.shape[2:], stride, padding, groups))
    return y


def conv_transpose2d(y: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    """torch.nn.functional.conv_transpose2d with second derivatives that are convolutions; equal up to rounding."""
    if _has_no_gradient(y, weight):
        return functional.conv_transpose2d(y, weight, None, stride, padding, groups=groups)
    sides = torch.Size(
        stride * (side - 1) + kernel - 2 * padding for side, kernel in zip(y.shape[2:], weight.shape[2:], strict=True)
    )
    y, weight, _ = _autocast(y, weight)
    x: Tensor = _ConvInput.apply(y, weight, Shape(weight.shape, sides, stride, padding, groups))
    return x


@contextmanager
def without_weight_gradients() -> Iterator[None]:
    """Within this context, derivatives leave out those by the weights of convolutions.

    For torch.autograd.grad by the images alone: torch leaves out gradients that are not requested, except in custom
    functions.
    """
    _ConvWeight.is_skipped = True
    try:
        yield
    finally:
        _ConvWeight.is_skipped = False


class Shape(NamedTuple):
    """The shape of a convolution's weight, the height and width of its input (px), its stride, padding and groups."""

    weight: torch.Size
    sides: torch.Size
    stride: int
    padding: int
    groups: int


# Σ y · conv(x, weight) is linear in each of its three tensors. Its derivatives are the three functions below, whose
# derivatives are again these functions, so each can be differentiated any number of times.


class _Conv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shape: Shape) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = shape
        return functional.conv2d(x, weight, bias, shape.stride, shape.padding, groups=shape.groups)

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        return (
            _ConvInput.apply(y, weight, ctx.shape) if for_x else None,
            _ConvWeight.apply(x, y, ctx.shape) if for_weight and not _ConvWeight.is_skipped else None,
            y.sum((0, 2, 3)) if for_bias and not _ConvWeight.is_skipped else None,
            None,
        )


class _ConvInput(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        ctx.save_for_backward(y, weight)
        ctx.shape = shape
        stride, padding, groups = shape.stride, shape.padding, shape.groups
        # px at the end of an axis that no output of the convolution depends on
        missing = [
            side - (stride * (small - 1) + kernel - 2 * padding)
            for side, small, kernel in zip(shape.sides, y.shape[2:], weight.shape[2:], strict=True)
        ]
        return functional.conv_transpose2d(y, weight, None, stride, padding, missing, groups)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        y, weight = ctx.saved_tensors
        for_y, for_weight, _ = ctx.needs_input_grad
        return (
            _Conv.apply(x, weight, None, ctx.shape) if for_y else None,
            _ConvWeight.apply(x, y, ctx.shape) if for_weight and not _ConvWeight.is_skipped else None,
            None,
        )


class _ConvWeight(Function):
    is_skipped = False  # a global, because backward runs in threads of its own on a GPU

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, shape: Shape) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.shape = shape
        by_torch: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            x, shape.weight, y, stride=shape.stride, padding=shape.padding, groups=shape.groups
        )
        return by_torch

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        for_x, for_y, _ = ctx.needs_input_grad
        return (
            _ConvInput.apply(y, weight, ctx.shape) if for_x else None,
            _Conv.apply(x, weight, None, ctx.shape) if for_y else None,
            None,
        )


def _has_no_gradient(*tensors: Tensor | None) -> bool:
    """Whether no gradient will be needed. Then torch's own function is called, which ONNX's exporter can read."""
    return not torch.is_grad_enabled() or not any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _autocast(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors in the type that torch's own convolution would compute in."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
