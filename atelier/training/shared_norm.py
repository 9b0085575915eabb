"""Batch norm whose statistics are those of the whole batch, when several processes have a part of it each.

torch's SyncBatchNorm needs CUDA and cannot be differentiated twice, which penalties on gradients ask for.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.training.distributed import World, add_up


def share_statistics(world: World, *networks: nn.Module) -> bool:
    """Replace the networks' batch norms, keeping their weights' and buffers' tensors; whether there were any."""
    found = False
    for parent in [module for network in networks for module in network.modules()] if world.size > 1 else []:
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SharedBatchNorm(child, world))
                found = True
    return found


class SharedBatchNorm(nn.Module):
    """What `norm` does, over the images of all processes; each has equally many of one size. For training alone."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self._world = world

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        own_var, own_mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        means, variances = _gathered(torch.stack([own_mean, own_var]), self._world).unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        self._remember(mean.detach(), var.detach(), self._world.size * x.numel() // x.shape[1])
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)


def _gathered(numbers: Tensor, world: World) -> Tensor:
    """Everyone's (n, C) as (size, n, C): a sum of zeros and one's own, so that no order of summing changes a bit."""
    before, after = world.rank, world.size - 1 - world.rank
    placed = functional.pad(numbers[None], (0, 0, 0, 0, before, after))
    summed: Tensor = _Sum.apply(placed)
    return summed


class _Sum(torch.autograd.Function):
    """The sum over all processes. Everyone's loss depends on it, so its gradient is the sum of theirs, and so on."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        return add_up(numbers.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradient)
        return summed
