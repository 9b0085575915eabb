"""Differentiable augmentation of what the discriminator sees, real and generated alike.

After Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

TRANSLATION_SHARE = 0.125  # of the side, either way
BRIGHTNESS = 0.2  # of half the range; the paper's 0.5 leaks into the pictures of long trainings
CUTOUT_SHARE = 0.5


class Augment:
    """Applies each operation to each image with probability `probability`; shapes and memory format are kept.

    Images (B, 3, H, W) in [−1, 1]; the strengths are drawn on the CPU from the generator that is handed in, so that a
    step's draws are the same on every device.
    """

    def __init__(self, operations: Sequence[str], probability: float) -> None:
        self._operations = [_OPERATIONS[name] for name in operations]
        self.probability = probability  # may change from step to step

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        for operation in self._operations if self.probability > 0 else []:
            chosen = torch.rand(len(images), generator=generator) < self.probability
            images = operation(images, chosen, generator)
        return images


def _translation(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """Shift by whole pixels, black outside; a gather along each axis, whose backward is deterministic."""
    for axis in (2, 3):
        size = images.shape[axis]
        reach = round(size * TRANSLATION_SHARE)
        shift = torch.randint(-reach, reach + 1, (len(images),), generator=generator) * chosen
        source = torch.arange(size)[None, :] + shift[:, None]
        inside = (source >= 0) & (source < size)
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        index = source.clamp(0, size - 1).view(shape).to(images.device).expand(images.shape)
        images = images.gather(axis, index) * inside.view(shape).to(images)
    return images


def _brightness(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    return images + _uniform(images, chosen, generator, -BRIGHTNESS, BRIGHTNESS, neutral=0)


def _saturation(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * _uniform(images, chosen, generator, 0, 2, neutral=1)


def _contrast(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, chosen, generator, 0.5, 1.5, neutral=1)


def _cutout(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """Blacken one square of half the side, which may hang over the edge."""
    mask = chosen[:, None, None, None]
    for axis in (2, 3):
        size = images.shape[axis]
        shape = [1, 1, 1, 1]
        shape[axis] = size
        centre = torch.randint(0, size, (len(images), 1, 1, 1), generator=generator)
        mask = mask & ((torch.arange(size).view(shape) - centre).abs() <= size * CUTOUT_SHARE / 2)
    return images * (~mask).to(images)


def _uniform(
    images: Tensor, chosen: Tensor, generator: Generator, low: float, high: float, neutral: float
) -> Tensor:
    drawn = torch.rand(len(images), generator=generator) * (high - low) + low
    return torch.where(chosen, drawn, neutral).to(images)[:, None, None, None]


_OPERATIONS: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "translation": _translation,
    "brightness": _brightness,
    "saturation": _saturation,
    "contrast": _contrast,
    "cutout": _cutout,
}
