"""The training images: on the device, which of them each step uses, and their augmentation.

The images of a step are a function of the seed and the step. Everything that the discriminator sees is augmented by the
differentiable operations of Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv
2006.10738).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from atelier.data.dataset import View
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.losses import cosine
from atelier.training.state import generator_for

MAX_GPU_MEMORY_SHARE = 0.4  # of a GPU's free memory; the training needs the rest

MAX_SHIFT_SHARE = 0.125  # of the side, in either direction
BRIGHTNESS = 0.2  # of half the range; with the paper's 0.5 long trainings paint the augmentation
CUTOUT_SIDE_SHARE = 0.5

FEW, SOME, MANY = 1_000, 10_000, 50_000  # paintings

ADAPT_STEPS = 16  # the probability adapts once in so many steps, because it waits for the device
OVERFITTING_TARGET = 0.5  # of r_v
MAX_PROBABILITY = 0.8  # above it the generator paints the augmentation (arXiv 2006.06676 §2.2)
IMAGES_PER_UNIT = 500_000  # images over which the probability can rise from 0 to 1, as in that paper

# The discriminator's mean logit of each of these batches (n,), over all processes.
MeanLogits = Callable[[Sequence[Tensor], Generator], Tensor]


class ResidentData:
    """The images of a view as one uint8 tensor (n, H, W, 3); each epoch is a seeded permutation of them.

    The tensor is on `device`, or in the machine's memory if it would take more than MAX_GPU_MEMORY_SHARE of the free
    memory of a GPU. In a mirrored view, item 2i is image i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        images = torch.from_numpy(np.array(view.images))
        free_bytes = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
        self._images = images.to(device) if images.nbytes <= MAX_GPU_MEMORY_SHARE * free_bytes else images
        self._variants = 2 if view.mirror else 1
        self._seed, self._device = seed, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._variants * len(self._images)

    def batch(self, step: int, size: int, group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
        """This process's part of the images of a step, counted from 0; `size` is that of the whole batch."""
        return self.images(group.shard(self.items(step, size)))

    def items(self, step: int, size: int) -> Tensor:
        """The indices (size,) of the items of a step, counted from 0, which may span two epochs."""
        pieces, start, count = [], step * size, size
        while count:
            epoch, position = divmod(start, len(self))
            if epoch != self._epoch:
                self._order = torch.randperm(len(self), generator=generator_for("order", self._seed, epoch))
                self._epoch = epoch
            piece = self._order[position : position + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces)

    def images(self, items: Tensor) -> Tensor:
        """These items as float images (n, 3, H, W) in [−1, 1], channels last, on the device."""
        # indexed where the tensor is, so that only a batch is copied to the device
        pixels = self._images[to_device(items // self._variants, self._images.device)]
        pixels = to_device(pixels, self._device)
        if self._variants == 2:
            mirrored = to_device((items % 2 == 1)[:, None, None, None], self._device)
            pixels = torch.where(mirrored, pixels.flip(2), pixels)
        # (B, H, W, 3) viewed as (B, 3, H, W) is channels last already
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for it, or return it if it is there already.

    A copy to a GPU goes through pinned memory and is queued; from ordinary memory it would wait for all queued work.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


class Augment:
    """Apply each operation to each image with probability `probability`. Shape and memory format stay the same.

    Images are (B, 3, H, W) in [−1, 1]. Random numbers are drawn on the CPU, from the generator passed to the call and
    for the images of all processes, so they do not depend on the device or the number of processes.
    """

    def __init__(self, operations: Sequence[str], probability: float, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self._operations = [_OPERATIONS[name] for name in operations]
        self.probability = probability  # may change from step to step
        self._group = group

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        draws = _Draws(len(images), generator, self._group)
        for operation in self._operations if self.probability > 0 else []:
            chosen = draws.rand() < self.probability
            images = operation(images, chosen, draws)
        return images


def probability_by_size(paintings: int, progress: float) -> float:
    """The probability for a data set of this size after this share of the training; it grows along half a cosine."""
    if paintings < FEW:
        return 1.0
    end = 0.6 if paintings < SOME else 0.3 if paintings < MANY else 0.0
    return cosine(0, end, progress)


@dataclass
class AdaptiveProbability:
    """Raise `p` while the discriminator over-fits the training images, and lower it while it does not.

    The measure is r_v = (D(training) − D(held-out)) / (D(training) − D(generated)), compared with 0.5. Adding a
    constant to D does not change it, so it also applies to relativistic losses.
    """

    held_out: ResidentData
    seed: int
    group: ProcessGroup = SINGLE_PROCESS
    p: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def update(self, step: int, mean_logits: MeanLogits, real: Tensor, fake: Tensor) -> None:
        """Every ADAPT_STEPS steps, compare this step's images with held-out ones and adjust `p` in place."""
        if (step + 1) % ADAPT_STEPS:
            return
        draws = generator_for("adapt", self.seed, step)
        batch = len(real) * self.group.size
        unseen = self.held_out.batch(step // ADAPT_STEPS, batch, self.group)
        training, held_out, generated = mean_logits((real, unseen, fake), draws).tolist()
        r_v = (training - held_out) / max(training - generated, 1e-6)
        change = batch * ADAPT_STEPS / IMAGES_PER_UNIT
        self.p.add_(change if r_v > OVERFITTING_TARGET else -change).clamp_(0, MAX_PROBABILITY)


@dataclass(frozen=True)
class _Draws:
    """Random numbers for this process's `count` images, drawn for the images of all processes."""

    count: int
    generator: Generator
    group: ProcessGroup

    def rand(self) -> Tensor:
        return self.group.shard(torch.rand(self.count * self.group.size, generator=self.generator))

    def randint(self, low: int, high: int) -> Tensor:
        drawn = torch.randint(low, high, (self.count * self.group.size,), generator=self.generator)
        return self.group.shard(drawn)


def _translation(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Shift by whole pixels; what comes in from outside is mid grey."""
    reaches = (round(size * MAX_SHIFT_SHARE) for size in images.shape[2:])
    shifts = [draws.randint(-reach, reach + 1) * chosen for reach in reaches]
    shifted: Tensor = _Shift.apply(images, *shifts)
    return shifted


class _Shift(torch.autograd.Function):
    """Pixel (y + down, x + right) of each image at (y, x). The derivative is the shift back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        ctx.shifts = down, right
        # a copy for each image is fast on a CPU and slow to launch on a GPU
        if images.device.type == "cpu":
            return _shift_by_slices(images, down, right)
        return _shift_by_gather(images, down, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        down, right = ctx.shifts
        return _Shift.apply(gradient, -down, -right), None, None


def _shift_by_slices(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[2:]
    shifted = torch.zeros_like(images)
    for n, (y, x) in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
        inside = images[n, :, max(y, 0) : height + y, max(x, 0) : width + x]
        shifted[n, :, max(-y, 0) : height - y, max(-x, 0) : width - x] = inside
    return shifted


def _shift_by_gather(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    for axis, shift in ((2, down), (3, right)):
        size = images.shape[axis]
        source = torch.arange(size)[None, :] + shift[:, None]
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        inside = ((source >= 0) & (source < size)).view(shape)
        index = to_device(source.clamp(0, size - 1).view(shape), images.device)
        pixels = images.gather(axis, index.expand(images.shape))
        images = torch.where(to_device(inside, images.device), pixels, 0)
    return images


def _brightness(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    return images + _uniform(images, chosen, draws, -BRIGHTNESS, BRIGHTNESS, neutral=0)


def _saturation(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * _uniform(images, chosen, draws, 0, 2, neutral=1)


def _contrast(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, chosen, draws, 0.5, 1.5, neutral=1)


def _cutout(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Fill one square of half the side with mid grey; it may extend over the edge."""
    mask = chosen[:, None, None, None]
    for axis in (2, 3):
        size = images.shape[axis]
        shape = [1, 1, 1, 1]
        shape[axis] = size
        centre = draws.randint(0, size)[:, None, None, None]
        mask = mask & ((torch.arange(size).view(shape) - centre).abs() <= size * CUTOUT_SIDE_SHARE / 2)
    return images * to_device(~mask, images.device).to(images)


def _uniform(images: Tensor, chosen: Tensor, draws: _Draws, low: float, high: float, neutral: float) -> Tensor:
    """A strength in [low, high) for each chosen image, and `neutral` for the others: (B, 1, 1, 1)."""
    drawn = draws.rand() * (high - low) + low
    strengths = torch.where(chosen, drawn, neutral)
    return to_device(strengths, images.device).to(images)[:, None, None, None]


_OPERATIONS: dict[str, Callable[[Tensor, Tensor, _Draws], Tensor]] = {
    "translation": _translation,
    "brightness": _brightness,
    "saturation": _saturation,
    "contrast": _contrast,
    "cutout": _cutout,
}
