"""Better beyond chance, or not: pictures of which it is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from atelier.contest import Contest, Gain, contest
from atelier.errors import AtelierError
from atelier.quality import RandomFeatures, Reference

CPU = torch.device("cpu")


def fields(count: int, seed: int, colours: float = 1.0) -> np.ndarray:
    """Soft colour fields of 32 px under a fine grain; of less colour where `colours` is below 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    soft = functional.interpolate((coarse - 0.5) * colours + 0.5, size=32, mode="bicubic")
    grain = torch.randn(count, 1, 32, 32, generator=generator) * 0.03
    return ((soft + grain).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


HELD_OUT = fields(60, seed=0)
FRESH = fields(150, seed=1)


def between(champion: np.ndarray, challenger: np.ndarray, seed: int = 0, confidence: float = 0.95) -> Contest:
    return contest(champion, challenger, HELD_OUT, confidence=confidence, seed=seed, device=CPU)


def smoothed(pictures: np.ndarray) -> np.ndarray:
    tiles = functional.avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), 3, 1, 1)
    return tiles.permute(0, 2, 3, 1).to(torch.uint8).numpy()


@pytest.mark.parametrize("worse", [smoothed(FRESH), 255 - FRESH // 3, fields(150, seed=1, colours=0.6)])
def test_the_better_one_wins_and_the_worse_one_does_not(worse: np.ndarray) -> None:
    won = between(worse, FRESH)
    assert won.wins
    assert "better" in won.reason
    lost = between(FRESH, worse)
    assert not lost.wins
    assert "worse" in lost.reason


@pytest.mark.parametrize("seed", range(2))
def test_two_that_are_as_good_as_one_another_are_even(seed: int) -> None:
    result = between(FRESH, fields(150, seed=2 + seed), seed)
    assert not result.wins
    assert result.kid_rand.low < 0 < result.kid_rand.high


def test_a_challenger_that_paints_what_the_champion_paints_changes_nothing() -> None:
    result = between(FRESH, FRESH)
    assert (result.kid_rand.low, result.kid_rand.high, result.swd.low, result.swd.high) == (0, 0, 0, 0)
    assert not result.wins


def test_one_gain_does_not_pay_for_a_loss() -> None:
    better, even, worse = Gain(2, 1, 0.5, 1.5), Gain(1, 1, -0.5, 0.5), Gain(1, 2, -1.5, -0.5)
    assert [gain.verdict for gain in (better, even, worse)] == ["better", "even", "worse"]
    assert Contest(better, even, 0.95).wins
    assert not Contest(better, worse, 0.95).wins
    assert not Contest(even, even, 0.95).wins


def test_the_more_resamplings_must_agree_the_wider_the_bounds() -> None:
    other = fields(150, seed=2)
    narrow, wide = (between(FRESH, other, confidence=share) for share in (0.5, 0.975))
    for name in ("kid_rand", "swd"):
        one, two = getattr(narrow, name), getattr(wide, name)
        assert two.low < one.low < one.high < two.high
        assert one.champion == two.champion
    assert "(50% of resamplings gain" in narrow.reason
    assert "(97.5% of resamplings gain" in wide.reason


def test_the_verdict_depends_on_nothing_but_the_pictures_and_the_seed() -> None:
    champion, other = FRESH[:30], fields(30, seed=9)
    assert between(champion, other) == between(champion, other)
    assert between(champion, other) != between(champion, other, seed=1)


def test_the_distances_are_the_panels_own() -> None:
    result = between(FRESH, smoothed(FRESH))
    network = RandomFeatures(CPU)
    reference = Reference.of(network(HELD_OUT))
    assert result.kid_rand.champion == pytest.approx(reference.kid(network(FRESH)), abs=1e-9)


def test_too_few_pictures_are_no_ground_for_a_verdict() -> None:
    with pytest.raises(AtelierError, match=r"augment\.held_out"):
        contest(FRESH, FRESH, HELD_OUT[:9], confidence=0.95, seed=0, device=CPU)
    with pytest.raises(ValueError, match="same latents"):
        contest(FRESH, FRESH[1:], HELD_OUT, confidence=0.95, seed=0, device=CPU)
