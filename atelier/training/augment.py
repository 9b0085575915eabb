"""Differentiable augmentation of everything that the discriminator sees, and how often it is applied.

`translation`, `brightness`, `saturation`, `contrast` and `cutout` are those of Zhao et al., "Differentiable
Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738). `scale`, `rotation`, `anisotropy`, `shift`, `hue`,
`luma_flip` and `filter` are those of StyleGAN2-ADA (Karras et al., arXiv 2006.06676, appendix B). All can be
differentiated twice, and deterministically on a GPU.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from atelier.training.data import ResidentData, to_device
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.losses import cosine
from atelier.training.state import generator_for

MAX_SHIFT_SHARE = 0.125  # of the side, in either direction
BRIGHTNESS = 0.2  # of half the range; with the paper's 0.5 long trainings paint the augmentation
CUTOUT_SIDE_SHARE = 0.5
# the standard deviations of StyleGAN2-ADA: of the logarithm to base 2 of a scale or a gain, and of a share of the side
SCALE_LOG2_STD, SHIFT_SHARE_STD, FILTER_LOG2_STD = 0.2, 0.125, 1.0
FILTER_POWER = (1 / 13, 1 / 13, 1 / 13, 10 / 13)  # of natural images in four octaves, the finest first

FEW, SOME, MANY = 1_000, 10_000, 50_000  # paintings

ADAPT_STEPS = 16  # the probability adapts once in so many steps, because it waits for the device
OVERFITTING_TARGET = 0.5  # of r_v
MAX_PROBABILITY = 0.8  # above it the generator paints the augmentation (arXiv 2006.06676 §2.2)
IMAGES_PER_UNIT = 500_000  # images over which the probability can rise from 0 to 1, as in that paper

# The discriminator's mean logit of each of these batches (n,), over all processes.
MeanLogits = Callable[[Sequence[Tensor], Generator], Tensor]


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

    def randn(self) -> Tensor:
        return self.group.shard(torch.randn(self.count * self.group.size, generator=self.generator))

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


def _scale(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Enlarge or shrink around the centre, without changing the proportions."""
    factor = torch.exp2(draws.randn() * SCALE_LOG2_STD)
    return _resample(images, chosen, _matrices(1 / factor, 0, 0, 1 / factor))


def _anisotropy(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Stretch along one axis and shrink along the other."""
    factor = torch.exp2(draws.randn() * SCALE_LOG2_STD)
    return _resample(images, chosen, _matrices(1 / factor, 0, 0, factor))


def _rotation(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Turn by any angle around the centre."""
    angle = (2 * draws.rand() - 1) * math.pi
    return _resample(images, chosen, _matrices(angle.cos(), -angle.sin(), angle.sin(), angle.cos()))


def _fractional_shift(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Shift by parts of pixels; what comes in from outside is a mirror image."""
    offsets = torch.stack([draws.randn() * SHIFT_SHARE_STD * side for side in reversed(images.shape[2:])], 1)
    return _resample(images, chosen, _matrices(torch.ones(len(images)), 0, 0, 1), offsets)


def _matrices(a: Tensor, b: Tensor | int, c: Tensor | int, d: Tensor | int) -> Tensor:
    """The matrices ((a, b), (c, d)) for n images: (n, 2, 2)."""
    return torch.stack([torch.as_tensor(entry).expand(len(a)) for entry in (a, b, c, d)], 1).view(-1, 2, 2)


def _resample(images: Tensor, chosen: Tensor, matrices: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Chosen images with bilinearly interpolated pixels from elsewhere; beyond its edges an image is mirrored.

    The pixel at (x, y) from the centre comes from matrix · (x, y) + offset, in px. By gathering, because torch cannot
    differentiate its grid_sample twice, nor deterministically on a GPU.
    """
    batch, channels, height, width = images.shape
    matrices = to_device(matrices, images.device)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device)
    pixels = torch.arange(height * width, device=images.device)
    places = torch.stack([pixels % width, pixels // width]) - centre[:, None]  # (2, H · W)
    sources = matrices @ places + centre[:, None]
    if offsets is not None:
        sources = sources + to_device(offsets, images.device)[:, :, None]
    first = sources.floor()
    fractions = (sources - first).to(images)
    indices, weights = [], []
    for right, down in itertools.product((0, 1), repeat=2):
        x, y = _mirrored(first[:, 0].long() + right, width), _mirrored(first[:, 1].long() + down, height)
        indices.append(y * width + x)
        weights.append((1 - right - fractions[:, 0]).abs() * (1 - down - fractions[:, 1]).abs())
    index = torch.stack(indices, 1).view(batch, 1, -1).expand(-1, channels, -1)
    corners = images.reshape(batch, channels, -1).gather(2, index).view(batch, channels, 4, -1)
    resampled = (corners * torch.stack(weights, 1)[:, None]).sum(2).view(images.shape)
    return _where(chosen, resampled, images)


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places on a line of `side` pixels that is continued by its mirror images."""
    places = places.remainder(max(2 * side - 2, 1))
    return torch.minimum(places, 2 * side - 2 - places)


def _hue(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Turn all colours by one angle around the grey axis."""
    angle = ((2 * draws.rand() - 1) * math.pi)[:, None, None]
    grey = torch.full((3, 3), 1 / 3)
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return _recolour(images, chosen, angle.cos() * (torch.eye(3) - grey) + grey + angle.sin() * across)


def _luma_flip(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Make light dark and dark light in every second chosen image, keeping hues."""
    return _recolour(images, chosen & (draws.rand() < 0.5), (torch.eye(3) - 2 / 3).expand(len(images), 3, 3))


def _recolour(images: Tensor, chosen: Tensor, matrices: Tensor) -> Tensor:
    """Chosen images with each colour multiplied by its image's matrix (3, 3)."""
    matrices = to_device(matrices, images.device).to(images)
    return _where(chosen, torch.einsum("nij,njhw->nihw", matrices, images), images)


def _filter(images: Tensor, chosen: Tensor, draws: _Draws) -> Tensor:
    """Amplify or damp four octaves of detail by factors that keep the expected contrast."""
    gains = torch.stack([torch.exp2(draws.randn() * FILTER_LOG2_STD) for _ in FILTER_POWER], 1)
    power = torch.tensor(FILTER_POWER)
    gains = to_device(gains * (gains.square() * power).sum(1, keepdim=True).rsqrt(), images.device).to(images)
    filtered, smooth = torch.zeros_like(images), images
    for octave in range(3):
        finer, smooth = smooth, _blur(_blur(smooth, 2**octave, 2), 2**octave, 3)
        filtered = filtered + (finer - smooth) * gains[:, octave, None, None, None]
    return _where(chosen, filtered + smooth * gains[:, 3, None, None, None], images)


def _blur(images: Tensor, step_px: int, axis: int) -> Tensor:
    """Binomial filter (1, 4, 6, 4, 1) / 16 with its taps `step_px` apart; pixels outside do not count."""

    def summed(planes: Tensor) -> Tensor:
        padded = functional.pad(planes, [0, 0] * (3 - axis) + [2 * step_px] * 2)
        taps = [padded.narrow(axis, tap * step_px, planes.shape[axis]) for tap in range(5)]
        return taps[0] + 4 * taps[1] + 6 * taps[2] + 4 * taps[3] + taps[4]

    return summed(images) / summed(torch.ones_like(images[:1, :1]))


def _where(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """Chosen images changed, the others exactly as they are; in the memory format of `images`."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    mask = to_device(chosen, images.device)[:, None, None, None]
    memory_format = torch.channels_last if last else torch.contiguous_format
    return torch.where(mask, changed, images).contiguous(memory_format=memory_format)


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
    "scale": _scale,
    "rotation": _rotation,
    "anisotropy": _anisotropy,
    "shift": _fractional_shift,
    "hue": _hue,
    "luma_flip": _luma_flip,
    "filter": _filter,
}
