"""Values that change during a training: learning rates, β₂, the average's decay, the augmentation probability."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from atelier.data.dataset import View
from atelier.training.augment import ADAPT_STEPS, MAX_PROBABILITY, AdaptiveProbability, probability_by_size
from atelier.training.config import beta2_at, lr_scale
from atelier.training.data import ResidentData
from atelier.training.initial import Ema


def brightness(batches: Sequence[torch.Tensor], draws: torch.Generator) -> torch.Tensor:
    """The mean logits of a discriminator that gives each picture its mean value."""
    return torch.stack([images.mean() for images in batches])


def test_a_power_average_covers_the_same_share_of_any_training():
    """Of a weight that grows evenly, the average lags behind by about a nineteenth."""
    for length in (200, 2000):
        network = nn.Linear(1, 1, bias=False)
        ema = Ema(network, "power")
        for step in range(length):
            nn.init.constant_(network.weight, (step + 1) / length)
            ema.update(step)
        assert 1 - ema.average.weight.item() == pytest.approx(1 / 19, rel=0.1)


def test_a_power_average_starts_with_the_weights_of_the_first_step():
    network = nn.Linear(1, 1, bias=False)
    ema = Ema(network, "power")
    nn.init.constant_(network.weight, 7)
    ema.update(0)
    assert ema.average.weight.item() == 7


@pytest.mark.parametrize("paintings, end", [(999, 1.0), (1_000, 0.6), (10_000, 0.3), (50_000, 0.0)])
def test_the_more_paintings_the_less_augmentation(paintings, end):
    assert probability_by_size(paintings, 1) == pytest.approx(end)
    if end < 1:
        assert probability_by_size(paintings, 0) == 0
        assert probability_by_size(paintings, 0.5) == pytest.approx(end / 2)


def test_learning_rates_fall_linearly_at_the_end_or_along_a_cosine():
    assert [lr_scale(0.5, seen, 100) for seen in (0, 50, 75, 100, 120)] == [1, 1, 0.5, 0, 0]
    assert [lr_scale(0, seen, 100) for seen in (0, 100)] == [1, 1]
    assert [lr_scale("cosine", seen, 100) for seen in (0, 50, 100, 120)] == [1, 0.625, 0.25, 0.25]


def test_beta2_is_constant_or_rises():
    assert [beta2_at(0.999, done) for done in (0, 1)] == [0.999, 0.999]
    assert [beta2_at("rising", done) for done in (0, 0.5, 1)] == pytest.approx([0.9, 0.945, 0.99])


def adaptive(held_out_level: int) -> tuple[AdaptiveProbability, torch.Tensor, torch.Tensor]:
    """With bright training paintings, dark generated pictures, and held-out paintings of this level."""
    pixels = np.full((16, 8, 8, 3), held_out_level, dtype=np.uint8)
    held_out = ResidentData(View(pixels, [str(n) for n in range(16)], False), 0, torch.device("cpu"))
    bright, dark = (torch.full((64, 3, 8, 8), level) for level in (0.8, -0.8))
    return AdaptiveProbability(held_out, seed=0), bright, dark


@pytest.mark.parametrize("level, rises", [(20, True), (220, False)])
def test_augmentation_rises_while_the_discriminator_takes_held_out_images_for_generated_ones(level, rises):
    watch, bright, dark = adaptive(level)
    watch.p.fill_(0.4)
    for step in range(2 * ADAPT_STEPS):
        watch.update(step, brightness, bright, dark)
    moved = 2 * 64 * ADAPT_STEPS / 500_000
    assert watch.p.item() == pytest.approx(0.4 + moved if rises else 0.4 - moved)


def test_the_augmentation_probability_stays_between_0_and_its_maximum():
    for level, start, end in ((20, MAX_PROBABILITY, MAX_PROBABILITY), (220, 0.0, 0.0)):
        watch, bright, dark = adaptive(level)
        watch.p.fill_(start)
        watch.update(ADAPT_STEPS - 1, brightness, bright, dark)
        assert watch.p.item() == end
