"""Degradations: Pillow's resizing, mild faults, and nothing that the seed does not decide."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from atelier.pictures.filters import shrink
from atelier.upscaling.data import degrade

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse * 0.8 + 0.1, (height, width), mode="bilinear")


@pytest.mark.parametrize("kernel", list(PILLOW))
@pytest.mark.parametrize("scale", [2, 4])
def test_shrinking_is_pillows(kernel: str, scale: int) -> None:
    images = (smooth(1, 48, 64) * 255).round()
    pixels = images[0].permute(1, 2, 0).to(torch.uint8).numpy()
    wanted = Image.fromarray(pixels).resize((64 // scale, 48 // scale), PILLOW[kernel])
    ours = shrink(images / 255, scale, kernel)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - np.asarray(wanted)).max() < 1.1  # Pillow rounds to 8 bits, twice


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("side", [8, 13])
def test_small_versions_fit_their_pictures_and_hold_8_bit_values(scale: int, side: int) -> None:
    images = torch.rand(40, 3, side * scale, side * scale, generator=torch.Generator().manual_seed(0))
    small = degrade(images, scale, 0.5, torch.Generator().manual_seed(1))
    assert small.shape == (40, 3, side, side)
    assert small.min() >= 0 and small.max() <= 1
    assert torch.allclose(small * 255, (small * 255).round(), atol=1e-4)


def test_the_seed_decides_everything() -> None:
    images = smooth(32, 32, 32)
    first, again, other = (degrade(images, 2, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_most_are_clean_and_the_rest_only_mildly_worse() -> None:
    images = smooth(400, 32, 32)
    small = degrade(images, 2, 0.5, torch.Generator().manual_seed(3))
    errors = torch.stack([(small - shrink(images, 2, kernel)).abs().amax((1, 2, 3)) for kernel in PILLOW])
    clean = errors.amin(0) < 1 / 255
    assert 0.65 < clean.float().mean() < 0.9
    assert (small - shrink(images, 2, "bicubic")).abs().mean((1, 2, 3)).max() < 0.1


def test_the_strongest_blur_is_that_of_the_settings() -> None:
    edges = (torch.arange(64) // 16 % 2).expand(400, 3, 64, 64).float() * 0.6 + 0.2

    def softest(blur_px: float) -> float:
        """The lowest contrast between neighbours across an edge; grain comes out of it in the mean."""
        rows = degrade(edges, 2, blur_px, torch.Generator().manual_seed(5)).mean((1, 2))
        return float((rows[:, 8] - rows[:, 7]).abs().min())

    assert softest(1.5) < 0.6 * softest(0.0)


def test_the_pictures_themselves_stay_as_they_are() -> None:
    images = smooth(16, 32, 32)
    before = images.clone()
    degrade(images, 2, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)
