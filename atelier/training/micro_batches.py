"""Micro-batches: a training step computed in as many parts as the memory needs."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from atelier.device import is_out_of_memory
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.losses import Logs

T = TypeVar("T")
PartLoss = Callable[[Tensor, Tensor], tuple[Tensor, Logs]]  # loss and logs, means over one part of two batches


class MicroBatches:
    """Divides the batches of a step into `count` parts and doubles `count` when a step runs out of memory.

    Gradients are accumulated over the parts. Without layers that combine the images of a batch, the result is the same
    up to rounding; batch norms see smaller batches.

    With several processes all use the same `count`. If their networks communicate within a step (`synchronous`), a
    process that runs out of memory cannot begin again without leaving the others waiting, so the training ends.
    """

    def __init__(self, group: ProcessGroup = SINGLE_PROCESS, synchronous: bool = False, count: int = 1) -> None:
        self.count = count
        self._group, self._synchronous = group, synchronous

    def split(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The parts of a batch, of equal size except for the last."""
        return torch.split(batch, -(-len(batch) // self.count))

    def accumulate(self, loss: PartLoss, first: Tensor, second: Tensor) -> Logs:
        """Add the gradients of a mean loss over two batches of equal length, part by part; returns the mean logs."""
        total: Logs = {}
        for first_part, second_part in zip(self.split(first), self.split(second), strict=True):
            share = len(first_part) / len(first)
            value, logs = loss(first_part, second_part)
            (value * share).backward()  # type: ignore[no-untyped-call]
            for name, log in logs.items():
                total[name] = total[name] + log * share if name in total else log * share
        return total

    def generate(self, generator: nn.Module, z: Tensor) -> Tensor:
        """The generator's images. With a single part they keep their graph, which the generator's step continues."""
        with torch.set_grad_enabled(self.count == 1):
            return torch.cat([generator(part) for part in self.split(z)])

    def accumulate_generator(
        self, loss: PartLoss, real: Tensor, fake: Tensor, augment: Callable[[Tensor], Tensor],
        generator: nn.Module, z: Tensor,
    ) -> Logs:  # fmt: skip
        """As `accumulate` on `real` and the augmented `fake` images, down to the generator's weights.

        In several parts, the gradient with respect to all `fake` images comes first. Then each part is generated from
        `z` again to carry it on to the weights. So augmentation draws for the whole batch, and the generator's graph is
        never larger than that of a part.
        """
        if self.count == 1:
            return self.accumulate(loss, real, augment(fake))
        fake = fake.detach().requires_grad_()
        augmented = augment(fake)
        leaf = augmented.detach().requires_grad_()
        logs = self.accumulate(loss, real, leaf)
        augmented.backward(leaf.grad)  # type: ignore[no-untyped-call]
        assert fake.grad is not None
        for z_part, gradient in zip(self.split(z), self.split(fake.grad), strict=True):
            generator(z_part).backward(gradient)
        return logs

    def fit(
        self, batch: int, draws: Generator, compute: Callable[[], T], finish: Callable[[T], T],
        discard: Callable[[], None],
    ) -> T:  # fmt: skip
        """Return `finish(compute())`, where `compute` is repeated with smaller parts while memory does not suffice.

        Args:
            batch: the number of images that `compute` splits.
            draws: the generator of its random numbers, which is reset before each attempt.
            compute: changes nothing but gradients, which `discard` drops, and running statistics of batch norms,
                which no step reads.
            finish: runs once every process has computed.

        Raises torch.OutOfMemoryError where a single image does not fit.
        """
        state = draws.get_state()
        while True:
            all_computed = False
            try:
                result = compute()
                if all_computed := self._group.all_agree(True):
                    return finish(result)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._group.size > 1 and (self._synchronous or all_computed):
                    raise torch.OutOfMemoryError(str(error)) from error
                self._group.all_agree(False)
            # outside of `except`, because the exception's traceback keeps the failed attempt's tensors
            self._halve(batch)
            discard()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            draws.set_state(state)

    def _halve(self, batch: int) -> None:
        images = -(-batch // self.count)
        if images == 1:
            raise torch.OutOfMemoryError("one picture at a time is too much")
        self.count = -(-batch // (images // 2))
