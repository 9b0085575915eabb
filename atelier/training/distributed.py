"""What the processes of one training exchange: parts of a batch, sums, averaged gradients, and batch norm statistics.

All processes, usually one per GPU, draw the random numbers of the whole batch and keep the same weights. Each computes
its part of the batch, and gradients and statistics are averaged. Only rank 0 reads and writes files.

`SharedBatchNorm` stands in for torch's SyncBatchNorm, which needs CUDA and cannot be differentiated twice, as the
penalties on gradients require. `average_gradients` stands in for DistributedDataParallel, which expects one backward
pass for each forward pass: here the discriminator runs twice before one, penalties are differentiated twice, and a
process that runs out of memory must be able to begin again without leaving others waiting.
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
    """Another process of this training has ended, so this one must end too; the other's message says why."""


class ProcessGroup:
    """One process of the `size` that share a training. With size 1, nothing is communicated.

    Tensors on the CPU are exchanged by gloo, those on a GPU by NCCL. Control messages wait for no GPU.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_rank0(self) -> bool:
        """Whether this process is the one that reads and writes files."""
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """This process's part of a whole batch (n, …): n / size consecutive rows."""
        length = len(batch) // self.size
        return batch[self.rank * length : (self.rank + 1) * length] if self.size > 1 else batch

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter], logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace the gradients of `parameters` by their mean over all processes; returns the means of `logs`."""
        if self.size == 1:
            return logs
        gradients = [p.grad for p in parameters if p.grad is not None]
        names = sorted(logs)
        flat = torch.cat([t.reshape(-1) for t in (*gradients, *(logs[name] for name in names))])
        all_reduce_sum(flat)
        flat /= self.size
        *averages, means = torch.split(flat, [*(gradient.numel() for gradient in gradients), len(names)])
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view(gradient.shape))
        return dict(zip(names, means, strict=True))

    def mean(self, numbers: Tensor) -> Tensor:
        """The mean over all processes of tensors of one shape."""
        if self.size == 1:
            return numbers
        return all_reduce_sum(numbers.clone()) / self.size

    def sums(self, *numbers: float) -> list[float]:
        """Each number's sum over all processes, without waiting for a GPU."""
        if self.size == 1:
            return list(numbers)
        return [float(number) for number in all_reduce_sum(torch.tensor(numbers, dtype=torch.float64))]

    def all_agree(self, agreed: bool) -> bool:
        """Whether `agreed` is true in every process, without waiting for a GPU."""
        return self.sums(not agreed) == [0]

    def on_rank0(self, work: Callable[[], T]) -> T:
        """Run `work` in rank 0 alone and return its result in all processes."""
        if self.size == 1:
            return work()
        result = [work() if self.is_rank0 else None]
        _communicate(lambda: dist.broadcast_object_list(result, src=0, device=CPU))
        return result[0]  # type: ignore[return-value]

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite these tensors with rank 0's values, in place."""
        for tensor in tensors if self.size > 1 else ():
            values = tensor.contiguous()
            _communicate(functools.partial(dist.broadcast, values, src=0))
            tensor.copy_(values)


SINGLE_PROCESS = ProcessGroup()


def all_reduce_sum(numbers: Tensor) -> Tensor:
    """Replace `numbers` by their sums over all processes, the same bits in each, and return them."""
    _communicate(lambda: dist.all_reduce(numbers))
    return numbers


def _communicate(exchange: Callable[[], object]) -> None:
    """Run a collective operation. Raises PeerLost where another process has ended."""
    try:
        exchange()
    except RuntimeError as error:  # the only class of error that gloo and NCCL raise
        if is_out_of_memory(error):
            raise
        raise PeerLost(str(error)) from None


def share_batch_norms(group: ProcessGroup, *networks: nn.Module) -> bool:
    """With several processes, replace the networks' batch norms by `SharedBatchNorm`s. Returns whether any were."""
    found = False
    for parent in [module for network in networks for module in network.modules()] if group.size > 1 else []:
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SharedBatchNorm(child, group))
                found = True
    return found


class SharedBatchNorm(nn.Module):
    """Batch norm in training mode, with statistics over the images of all processes.

    Every process must have equally many images of the same size. Weights and buffers are those of `norm`.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: ProcessGroup) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self._group = group

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        own_var, own_mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        means, variances = _gather(torch.stack([own_mean, own_var]), self._group).unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        count = self._group.size * x.numel() // x.shape[1]
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)


def _gather(numbers: Tensor, group: ProcessGroup) -> Tensor:
    """The (n, C) tensors of all processes as (size, n, C): sums of zeros and one, which no order rounds differently."""
    before, after = group.rank, group.size - 1 - group.rank
    padded = functional.pad(numbers[None], (0, 0, 0, 0, before, after))
    summed: Tensor = _AllReduceSum.apply(padded)
    return summed


class _AllReduceSum(torch.autograd.Function):
    """A differentiable sum over all processes. Every process's loss depends on it, so gradients are summed alike."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        return all_reduce_sum(numbers.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _AllReduceSum.apply(gradient)
        return summed
