"""Augmentation: what each operation does to images, and that it can be differentiated twice."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from atelier.training import augment
from atelier.training.augment import Augment
from atelier.training.state import generator_for

OPERATIONS = [
    "translation", "brightness", "saturation", "contrast", "cutout", "scale", "rotation", "anisotropy", "shift", "hue",
    "luma_flip", "filter",
]  # fmt: skip


def images(count: int = 6, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=generator_for("test")) * 2 - 1


def augmented(images: Tensor, *operations: str, probability: float = 1.0, draws: int = 0) -> Tensor:
    return Augment(operations, probability)(images, generator_for("draws", draws))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_each_augmentation_changes_images_keeps_their_shape_and_passes_gradients(operation, memory_format):
    before = images().contiguous(memory_format=memory_format).requires_grad_()
    changed = augmented(before, operation)
    assert changed.shape == before.shape and changed.is_contiguous(memory_format=memory_format)
    assert not torch.equal(changed, before)
    changed.sum().backward()
    assert before.grad is not None and before.grad.abs().sum() > 0
    assert torch.equal(augmented(before, operation, probability=0.0), before)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_images_that_are_not_chosen_stay_as_they_are(operation):
    before = images(64)
    equal = augmented(before, operation, probability=0.5).isclose(before, atol=1e-6).flatten(1).all(1)
    assert 16 <= equal.sum() <= 56


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_augmentation_can_be_differentiated_twice(operation):
    """Times its square, because most are linear."""

    def squared(images: Tensor) -> Tensor:
        return augmented(images, operation).square()

    before = images(2, 6).double().requires_grad_()
    assert gradcheck(squared, (before,), fast_mode=True)
    assert gradgradcheck(squared, (before,), fast_mode=True)


def test_a_translation_moves_whole_pixels_and_fills_with_mid_grey():
    ramp = torch.arange(1.0, 17).view(1, 1, 1, 16).expand(8, 3, 16, 16)
    for image in augmented(ramp, "translation", draws=1):
        row = image[0, 8]
        values = row[row != 0]
        assert torch.equal(values.diff(), torch.ones(len(values) - 1))
        assert len(values) >= 14


def resampled(before: Tensor, matrix: list[list[float]], offset: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    chosen, count = torch.ones(len(before), dtype=torch.bool), len(before)
    offsets = torch.tensor([offset]).expand(count, 2)
    return augment._resample(before, chosen, torch.tensor(matrix).expand(count, 2, 2), offsets)


def test_resampling_turns_shifts_and_mirrors_exactly_where_pixels_meet_pixels():
    before = images(2, 8)
    quarter = [[0.0, -1.0], [1.0, 0.0]]
    assert torch.allclose(resampled(before, quarter), before.rot90(1, (2, 3)), atol=1e-6)
    assert torch.allclose(resampled(before, [[-1.0, 0.0], [0.0, 1.0]]), before.flip(3), atol=1e-6)
    shifted = resampled(before, [[1.0, 0.0], [0.0, 1.0]], (2.0, 0.0))
    assert torch.allclose(shifted[..., :6], before[..., 2:], atol=1e-6)
    assert torch.allclose(shifted[..., 6:], before[..., [6, 5]], atol=1e-6)  # mirrored at the last pixel


def test_resampling_by_half_a_pixel_is_the_mean_of_neighbours():
    before = images(2, 8)
    half = resampled(before, [[1.0, 0.0], [0.0, 1.0]], (0.5, 0.0))
    assert torch.allclose(half[..., :7], (before[..., :7] + before[..., 1:]) / 2, atol=1e-6)


def test_a_picture_is_enlarged_around_its_centre():
    ramp = torch.linspace(-1, 1, 9).expand(1, 3, 9, 9)
    assert torch.allclose(resampled(ramp, [[0.5, 0.0], [0.0, 0.5]]), ramp / 2, atol=1e-6)


def test_hues_turn_around_grey_and_lightness_flips_without_them():
    before = images()
    turned = augmented(before, "hue")
    assert torch.allclose(turned.mean(1), before.mean(1), atol=1e-6)
    assert torch.allclose(turned.norm(dim=1), before.norm(dim=1), atol=1e-6)
    flipped = augmented(before, "luma_flip")
    change = (flipped - before).abs().flatten(1).sum(1) > 0
    assert 0 < change.sum() < len(before)
    assert torch.allclose(flipped.mean(1)[change], -before.mean(1)[change], atol=1e-6)
    assert torch.allclose((flipped - flipped.mean(1, keepdim=True)), before - before.mean(1, keepdim=True), atol=1e-6)


def test_the_octaves_of_a_filter_add_up_to_the_picture_and_its_mean_contrast_stays(monkeypatch):
    before = images(256, 32)
    monkeypatch.setattr(augment, "FILTER_LOG2_STD", 0.0)
    assert torch.allclose(augmented(before, "filter"), before, atol=1e-5)
    monkeypatch.undo()
    power = torch.tensor(augment.FILTER_POWER)
    assert math.isclose(power.sum(), 1, rel_tol=1e-6)
    flat = torch.full((64, 3, 16, 16), 0.5)
    filtered = augmented(flat, "filter")
    assert torch.allclose(filtered, filtered[:, :1, :1, :1].expand_as(flat), atol=1e-5)  # no edge darkens
