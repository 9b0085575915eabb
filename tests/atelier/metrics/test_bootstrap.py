"""Which of two models is better beyond chance, decided on pictures of which it is known.

The "models" paint seascapes of the built-in archive: as they are, blurred, in false colours, or of one motif only.
"""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from atelier.errors import AtelierError
from atelier.gallery.painter import paint
from atelier.metrics.compare import paired_bootstrap
from atelier.metrics.comparison import Comparison, Gain
from atelier.metrics.distances import kid
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.pictures.filters import blur_pictures

PAINTINGS, PICTURES = 30, 40


class Eye:
    """Pictures to features, in the space of the first held-out paintings."""

    def __init__(self, paintings: np.ndarray) -> None:
        self._network = FeatureExtractor()
        self._space = FeatureSpace(self._network(paintings), self._network(paintings, coarse=True))

    def __call__(self, pictures: np.ndarray) -> FeatureSet:
        return self._space(self._network(pictures), self._network(pictures, coarse=True))


@pytest.fixture(scope="module")
def eye(seascapes: np.ndarray) -> Eye:
    return Eye(seascapes[:PAINTINGS])


@pytest.fixture(scope="module")
def seascapes() -> np.ndarray:
    """110 pictures of 64 px of the built-in archive."""
    square = (64, 64)
    pictures = (paint(0, index, 96) for index in range(PAINTINGS + 2 * PICTURES))
    return np.stack([np.asarray(ImageOps.fit(picture, square, Image.Resampling.BOX)) for picture in pictures])


@pytest.fixture(scope="module")
def archive(seascapes: np.ndarray, eye: Eye) -> FeatureSet:
    return eye(seascapes)


@pytest.fixture(scope="module")
def held_out(archive: FeatureSet) -> FeatureSet:
    return archive[slice(PAINTINGS)]


@pytest.fixture(scope="module")
def good(archive: FeatureSet) -> FeatureSet:
    """What a perfect model paints: other seascapes of the same archive."""
    return archive[slice(PAINTINGS, PAINTINGS + PICTURES)]


@pytest.fixture(scope="module")
def worse(seascapes: np.ndarray, eye: Eye) -> dict[str, FeatureSet]:
    """What models with one fault each paint, from the pictures of `good`."""
    pictures = seascapes[PAINTINGS : PAINTINGS + PICTURES]
    faulty = {"blurred": blur_pictures(pictures, 1.0), "in false colours": pictures[..., ::-1]}
    return {fault: eye(made) for fault, made in faulty.items()}


@pytest.mark.parametrize("fault", ["blurred", "in false colours"])
def test_the_better_model_wins_and_the_worse_one_does_not(fault: str, good, worse, held_out) -> None:
    won = paired_bootstrap(worse[fault], good, held_out, confidence=0.95, seed=0)
    assert won.wins
    assert won.kid.verdict == "better"
    assert "better" in won.reason
    lost = paired_bootstrap(good, worse[fault], held_out, confidence=0.95, seed=0)
    assert not lost.wins
    assert lost.kid.verdict == "worse"
    assert "worse" in lost.reason


def test_false_colours_are_seen_through_a_blur(good, worse, held_out) -> None:
    lost = paired_bootstrap(good, worse["in false colours"], held_out, confidence=0.95, seed=0)
    assert lost.kid_coarse.verdict == "worse"


def test_a_model_of_one_motif_loses_to_one_of_all(good, held_out) -> None:
    few = good[torch.arange(PICTURES) % 5]
    assert paired_bootstrap(few, good, held_out, confidence=0.95, seed=0).wins
    assert not paired_bootstrap(good, few, held_out, confidence=0.95, seed=0).wins


def test_of_twenty_comparisons_of_equal_models_the_challenger_wins_at_most_one(archive, held_out) -> None:
    won = 0
    for seed in range(20):
        drawn = np.random.default_rng(seed).permutation(2 * PICTURES) + PAINTINGS
        first, second = torch.from_numpy(drawn).split(PICTURES)
        won += paired_bootstrap(archive[first], archive[second], held_out, confidence=0.95, seed=seed).wins
    assert won <= 1


def test_a_challenger_with_the_champions_pictures_does_not_win(good, held_out) -> None:
    result = paired_bootstrap(good, good, held_out, confidence=0.95, seed=0)
    assert [(gain.low, gain.high) for gain in result.gains.values()] == [(0, 0), (0, 0)]
    assert not result.wins


def test_a_challenger_that_is_worse_in_one_distance_does_not_win() -> None:
    better, even, worse = Gain(2, 1, 0.5, 1.5), Gain(1, 1, -0.5, 0.5), Gain(1, 2, -1.5, -0.5)
    assert [gain.verdict for gain in (better, even, worse)] == ["better", "even", "worse"]
    assert Comparison(better, even, 0.95).wins
    assert Comparison(even, better, 0.95).wins
    assert not Comparison(better, worse, 0.95).wins
    assert not Comparison(worse, better, 0.95).wins
    assert not Comparison(even, even, 0.95).wins


def test_a_higher_confidence_gives_wider_intervals(archive, good, held_out) -> None:
    other = archive[slice(PAINTINGS + PICTURES, None)]
    narrow, wide = (paired_bootstrap(good, other, held_out, confidence=share, seed=0) for share in (0.5, 0.975))
    for name, two in wide.gains.items():
        one = narrow.gains[name]
        assert two.low < one.low < one.high < two.high
        assert one.champion == two.champion
    assert "(75% of resamplings gain" in narrow.reason
    assert "(98.75% of resamplings gain" in wide.reason


def test_the_result_is_a_function_of_pictures_and_seed(archive, good, held_out) -> None:
    other = archive[slice(PAINTINGS + PICTURES, None)]
    first, again, reseeded = (paired_bootstrap(good, other, held_out, confidence=0.95, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != reseeded


def test_the_distances_are_those_of_the_panel(good, worse, held_out) -> None:
    result = paired_bootstrap(worse["blurred"], good, held_out, confidence=0.95, seed=0)
    for features in ("sharp", "coarse"):
        gain = result.kid if features == "sharp" else result.kid_coarse
        real = getattr(held_out, features)
        assert gain.champion == pytest.approx(kid(getattr(worse["blurred"], features), real), abs=1e-9)
        assert gain.challenger == pytest.approx(kid(getattr(good, features), real), abs=1e-9)


def test_too_few_pictures_are_refused(good, held_out) -> None:
    with pytest.raises(AtelierError, match=r"augment\.held_out"):
        paired_bootstrap(good, good, held_out[slice(9)], confidence=0.95, seed=0)
    with pytest.raises(ValueError, match="same latents"):
        paired_bootstrap(good, good[slice(1, None)], held_out, confidence=0.95, seed=0)
