"""The processes that share one training, usually one a GPU: which part of a batch is whose, and how they agree.

All draw the random numbers of the whole batch and keep the same weights; each computes its part of the batch, and
sums are made over all. The first alone touches files. Knows nothing of how they were started.

Batch norm whose statistics are those of the whole batch, when several processes have a part of it each.

torch's SyncBatchNorm needs CUDA and cannot be differentiated twice, which penalties on gradients ask for.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from atelier.device import is_out_of_memory

T = TypeVar("T")

CPU = torch.device("cpu")


class PeerLost(Exception):
    """Another process of this training has ended, and with it the training; its own message says why."""


class World:
    """One of `size` processes; of size 1, where nothing is asked of anyone.

    Numbers on the CPU travel from host to host (gloo), those of a GPU from GPU to GPU (NCCL): the hosts agree
    without waiting for their GPUs.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process is the one that reads and writes files."""
        return self.rank == 0

    def mine(self, whole: Tensor) -> Tensor:
        """Of something a whole batch long, what belongs to this process."""
        share = len(whole) // self.size
        return whole[self.rank * share : (self.rank + 1) * share] if self.size > 1 else whole

    @torch.no_grad()
    def average(self, parameters: Iterable[nn.Parameter], told: Tensor) -> Tensor:
        """Make the gradients of `parameters` those of the whole batch; returns `told`, a few means, averaged likewise.

        One sum after the backward passes and not DistributedDataParallel, whose hooks want one backward a forward
        through a wrapper: here discriminators run twice before one, penalties differentiate twice, and a process
        whose memory ends in the middle must be able to begin again without leaving others waiting.
        """
        if self.size == 1:
            return told
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in [*gradients, told]])
        add_up(flat)
        flat /= self.size
        sizes = [*(gradient.numel() for gradient in gradients), told.numel()]
        *averages, told_of_all = torch.split(flat, sizes)
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view(gradient.shape))
        return told_of_all.view(told.shape)

    def mean(self, numbers: Tensor) -> Tensor:
        """Of equally large parts' means, the mean of the whole."""
        if self.size == 1:
            return numbers
        return add_up(numbers.clone()) / self.size

    def sums(self, *numbers: float) -> list[float]:
        """Each number's sum over all processes, between the hosts alone."""
        if self.size == 1:
            return list(numbers)
        return [float(number) for number in add_up(torch.tensor(numbers, dtype=torch.float64))]

    def all(self, agreed: bool) -> bool:
        """Whether every process says yes, between the hosts alone."""
        return self.sums(not agreed) == [0]

    def told_by_first(self, work: Callable[[], T]) -> T:
        """What the first process finds; the others do nothing."""
        if self.size == 1:
            return work()
        box = [work() if self.first else None]
        _heard(lambda: dist.broadcast_object_list(box, src=0, device=CPU))
        return box[0]  # type: ignore[return-value]

    @torch.no_grad()
    def as_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the first process's values into everyone's."""
        for tensor in tensors if self.size > 1 else ():
            sent = tensor.contiguous()
            _heard(functools.partial(dist.broadcast, sent, src=0))
            tensor.copy_(sent)


ALONE = World()


def add_up(numbers: Tensor) -> Tensor:
    """Their sums over all processes, in place, the same bits for everyone."""
    _heard(lambda: dist.all_reduce(numbers))
    return numbers


def _heard(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:  # gloo's and NCCL's only kind
        if is_out_of_memory(error):
            raise
        raise PeerLost(str(error)) from None


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
