"""The best snapshot, collapses and advice, from the curves of a training."""

import math
from dataclasses import asdict

import pytest

from atelier.training.monitor import Curves, Rollback, advice, best, collapse, remedy

LN2 = math.log(2)


def quality(*rows: tuple[float, float]) -> list[dict[str, float]]:
    """A made-up curve of (kid_coarse, coverage), a snapshot every 20 kimg, whose kid grows all the time."""
    return [
        {"kimg": 20.0 * n, "kid": 30.0 + n, "kid_coarse": kid_coarse, "coverage": coverage}
        for n, (kid_coarse, coverage) in enumerate(rows, 1)
    ]


def losses(*rows: tuple[float, float]) -> list[dict[str, float]]:
    return [{"kimg": 20.0 * n, "loss_d": d, "loss_g": g} for n, (d, g) in enumerate(rows, 1)]


def test_the_best_snapshot_is_that_of_the_lowest_kid_coarse_whatever_its_kid():
    assert best(quality((3, 0.1), (0.5, 0.6), (0.7, 0.7)))["kimg"] == 40
    assert best([]) is None


def test_a_snapshot_with_half_the_best_coverage_is_not_the_best_whatever_its_kid_coarse():
    assert best(quality((3, 0.1), (0.5, 0.8), (0.1, 0.3)))["kimg"] == 40


def test_a_collapse_is_half_the_best_coverage_at_two_snapshots_in_a_row():
    assert collapse(quality((3, 0.1), (0.5, 0.8), (0.9, 0.3))) is None
    assert collapse(quality((3, 0.1), (0.5, 0.8), (0.9, 0.3), (0.5, 0.7))) is None
    words = collapse(quality((3, 0.1), (0.5, 0.8), (0.9, 0.3), (2, 0.2)))
    assert words == "coverage fell from 0.80 at 40 kimg to 0.30 at 60 and 0.20 at 80"


def test_a_training_whose_coverage_was_always_low_does_not_collapse():
    assert collapse(quality((9, 0.2), (9, 0.02), (9, 0.0))) is None


def test_curves_show_whether_a_training_continued_after_a_collapse():
    curves = Curves(quality=quality((0.5, 0.8), (0.9, 0.3), (2, 0.2)))
    assert not curves.continued_after_collapse(60)  # it stands at it
    assert curves.continued_after_collapse(60.5)


def test_curves_can_be_restored_from_the_notes_of_a_state():
    curves = Curves(losses((1, 1)), quality((1, 0.5)), [Rollback(40, 20, "why")])
    assert Curves.from_dict(asdict(curves)) == curves


@pytest.mark.parametrize("game, level", [("relativistic", LN2), ("nonsaturating", 2 * LN2)])
def test_advice_is_given_where_the_discriminator_only_guesses(game, level):
    (words,) = advice(losses((0.3, 1), (level * 1.01, 0.8), (level * 0.99, 0.8)), game)
    assert words.startswith("D-loss pinned at")
    assert ("gamma is too large" in words) == (game == "relativistic")
    assert advice(losses((0.3, 1), (level, 0.8)), game) == []
    assert advice(losses((level * 1.2, 0.5), (level * 1.1, 0.6)), game) == [words]  # or is fooled


@pytest.mark.parametrize("game", ["relativistic", "nonsaturating"])
def test_advice_is_given_where_the_discriminators_loss_vanishes(game):
    (words,) = advice(losses((0.4, 90), (0.003, 166), (0.0, 160)), game)
    assert words.startswith("D-loss at 0: the discriminator tells all apart")
    assert advice(losses((0.003, 90), (0.0, 166), (0.001, 170)), game) == [words]


@pytest.mark.parametrize("game, low", [("relativistic", 0.09), ("nonsaturating", 0.4)])
def test_advice_is_given_where_the_discriminator_over_fits(game, low):
    (words,) = advice(losses((0.5, 2), (low, 3), (low, 4)), game)
    assert "over-fitting; raise train.augment_probability" in words
    assert advice(losses((0.5, 4), (low, 3), (low, 2)), game) == []
    assert advice(losses((0.5, 2), (0.55, 3), (0.6, 4)), game) == []


def test_the_two_losses_have_different_thresholds():
    assert advice(losses((0.5, 2), (0.3, 3), (0.3, 4)), "relativistic") == []
    assert advice(losses((LN2, 2), (LN2, 2), (LN2, 2)), "nonsaturating") == []


def test_the_remedy_of_a_collapse_depends_on_the_policy_and_the_rollbacks():
    (top,) = quality((0.5, 0.8))
    assert "rollback goes back to 20 kimg" in remedy("stop", top, 0, diverged=False)
    assert "ignore" not in remedy("stop", top, 0, diverged=True)
    assert "went back 3 times" in remedy("rollback", top, 3, diverged=False)
    assert "no snapshot yet" in remedy("rollback", None, 0, diverged=True)
