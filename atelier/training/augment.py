"""Differentiable augmentation of what the discriminator sees, real and generated alike.

After Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738).

How often pictures are augmented: always alike, by how many paintings there are, or as over-fitting asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from atelier.training.data import ResidentData, sent
from atelier.training.distributed import ALONE, World
from atelier.training.schedules import cosine
from atelier.training.state import generator_for

TRANSLATION_SHARE = 0.125  # of the side, either way

BRIGHTNESS = 0.2  # of half the range; the paper's 0.5 leaks into the pictures of long trainings

CUTOUT_SHARE = 0.5


class Augment:
    """Applies each operation to each image with probability `probability`; shapes and memory format are kept.

    Images (B, 3, H, W) in [−1, 1]; the strengths are drawn on the CPU from the generator that is handed in, for the
    images of all processes, so that a step's draws are the same on every device and among any number of processes.
    """

    def __init__(self, operations: Sequence[str], probability: float, world: World = ALONE) -> None:
        self._operations = [_OPERATIONS[name] for name in operations]
        self.probability = probability  # may change from step to step
        self._world = world

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        draws = _Draws(len(images), generator, self._world)
        for operation in self._operations if self.probability > 0 else []:
            chosen = draws.rand() < self.probability
            images = operation(images, chosen, draws)
        return images


@dataclass(frozen=True)
class _Draws:
    """A random number for each of `count` images here."""

    count: int
    generator: Generator
    world: World

    def rand(self) -> Tensor:
        return self.world.mine(torch.rand(self.count * self.world.size, generator=self.generator))

    def randint(self, low: int, high: int) -> Tensor:
        drawn = torch.randint(low, high, (self.count * self.world.size,), generator=self.generator)
        return self.world.mine(drawn)


def _translation(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Shift by whole pixels, mid grey outside."""
    shifts = []
    for size in images.shape[2:]:
        reach = round(size * TRANSLATION_SHARE)
        shifts.append(draws.randint(-reach, reach + 1) * chosen)
    shifted: Tensor = _Shift.apply(images, *shifts)
    return shifted


class _Shift(torch.autograd.Function):
    """Pixel (y + down, x + right) of each image at (y, x); its derivative is the shift back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        ctx.shifts = down, right
        # many small copies are quick on a CPU and slow to launch on a GPU
        return _cut(images, down, right) if images.device.type == "cpu" else _gathered(images, down, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        down, right = ctx.shifts
        return _Shift.apply(gradient, -down, -right), None, None


def _cut(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[2:]
    shifted = torch.zeros_like(images)
    for n, (y, x) in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
        seen = images[n, :, max(y, 0) : height + y, max(x, 0) : width + x]
        shifted[n, :, max(-y, 0) : height - y, max(-x, 0) : width - x] = seen
    return shifted


def _gathered(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    for axis, shift in ((2, down), (3, right)):
        size = images.shape[axis]
        source = torch.arange(size)[None, :] + shift[:, None]
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        inside = ((source >= 0) & (source < size)).view(shape)
        index = sent(source.clamp(0, size - 1).view(shape), images.device)
        pixels = images.gather(axis, index.expand(images.shape))
        images = torch.where(sent(inside, images.device), pixels, 0)
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
    """Blacken one square of half the side, which may hang over the edge."""
    mask = chosen[:, None, None, None]
    for axis in (2, 3):
        size = images.shape[axis]
        shape = [1, 1, 1, 1]
        shape[axis] = size
        centre = draws.randint(0, size)[:, None, None, None]
        mask = mask & ((torch.arange(size).view(shape) - centre).abs() <= size * CUTOUT_SHARE / 2)
    return images * sent(~mask, images.device).to(images)


def _uniform(
    images: Tensor, chosen: Tensor, draws: _Draws, low: float, high: float, neutral: float
) -> Tensor:
    drawn = draws.rand() * (high - low) + low
    strengths = torch.where(chosen, drawn, neutral)
    return sent(strengths, images.device).to(images)[:, None, None, None]


_OPERATIONS: dict[str, Callable[[Tensor, Tensor, _Draws], Tensor]] = {
    "translation": _translation,
    "brightness": _brightness,
    "saturation": _saturation,
    "contrast": _contrast,
    "cutout": _cutout,
}

FEW, SOME, MANY = 1_000, 10_000, 50_000

ADAPT_STEPS = 16  # a step in so many asks, because the answer must leave the device

TARGET = 0.5  # of r_v

CAP = 0.8  # above it augmentation leaks into the pictures (arXiv 2006.06676 §2.2)

IMAGES_PER_UNIT = 500_000  # from 0 to 1 at the fastest, as in that paper

MeanLogits = Callable[
    [Sequence[Tensor], Generator], Tensor
]  # the discriminator's, of each batch, over all processes


def by_size(paintings: int, done: float) -> float:
    """The share of images augmented when this share of the training is over; it grows along half a cosine."""
    if paintings < FEW:
        return 1.0
    top = 0.6 if paintings < SOME else 0.3 if paintings < MANY else 0.0
    return cosine(0, top, done)


@dataclass
class Adaptive:
    """Raises `p` while the discriminator knows its paintings by heart, and lowers it while it does not.

    That is r_v = (D(training) − D(held-out)) / (D(training) − D(generated)) above or below a half. It does not change
    when a number is added to all of D, and so holds for a relativistic game too.
    """

    held_out: ResidentData
    seed: int
    world: World = ALONE
    p: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def follow(self, step: int, mean_logits: MeanLogits, real: Tensor, fake: Tensor) -> None:
        """Look at this step's pictures, as training shows them, every ADAPT_STEPS steps, and move `p` in place."""
        if (step + 1) % ADAPT_STEPS:
            return
        draws = generator_for("adapt", self.seed, step)
        batch = len(real) * self.world.size
        unseen = self.held_out.batch(step // ADAPT_STEPS, batch, self.world)
        training, held_out, generated = mean_logits((real, unseen, fake), draws).tolist()
        r_v = (training - held_out) / max(training - generated, 1e-6)
        way = batch * ADAPT_STEPS / IMAGES_PER_UNIT
        self.p.add_(way if r_v > TARGET else -way).clamp_(0, CAP)
