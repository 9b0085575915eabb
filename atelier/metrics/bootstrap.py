"""Decide whether one generator is better than another by more than chance.

Both paint from the same latents, and both are compared with the same held-out paintings by two distances, `kid` and
`kid_coarse`. A paired bootstrap (Efron and Tibshirani 1993, chapter 16) gives the interval of each gain: every round
resamples latents and paintings with replacement, the same ones for both models and both distances. Because there are
two distances, each interval is wider than the requested confidence, by Bonferroni's rule: both hold together with
that confidence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.metrics.comparison import Comparison, Gain
from atelier.metrics.distances import kernel
from atelier.metrics.features import FeatureSet
from atelier.settings.messages import counted

ROUNDS = 2000
MIN_PICTURES = 10  # on each side; a bootstrap of fewer is not reliable


def paired_bootstrap(
    champion: FeatureSet,
    challenger: FeatureSet,
    held_out: FeatureSet,
    *,
    confidence: float,
    seed: int,
) -> Comparison:
    """Compare the features of pictures by two generators, painted from the same latents in the same order.

    `confidence` is the probability that both intervals contain the true gain; `seed` draws the resamplings.
    Raises AtelierError if a side has fewer than ten pictures.
    """
    pictures, paintings = len(champion), len(held_out)
    if pictures != len(challenger):
        raise ValueError(f"{pictures} and {len(challenger)} pictures are not of the same latents")
    if min(pictures, paintings) < MIN_PICTURES:
        raise AtelierError(
            f"comparing two models takes {MIN_PICTURES} generated pictures and {MIN_PICTURES} held-out paintings; "
            f"there are {counted(pictures, 'picture')} and {counted(paintings, 'painting')}: "
            "raise augment.held_out, or use more paintings"
        )
    random = np.random.default_rng(seed)
    resampled = _Resampling(_counts(pictures, random), _counts(paintings, random))
    return Comparison(
        kid=resampled.gain(champion.sharp, challenger.sharp, held_out.sharp, (1 + confidence) / 2),
        kid_coarse=resampled.gain(champion.coarse, challenger.coarse, held_out.coarse, (1 + confidence) / 2),
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Resampling:
    """How often each picture and painting is drawn in each round, (1 + ROUNDS, n); the first round is the data."""

    pictures: Tensor
    paintings: Tensor

    def gain(self, champion: Tensor, challenger: Tensor, held_out: Tensor, confidence: float) -> Gain:
        """The KID of both models and the interval of their difference, from features (n, F)."""
        within_paintings = _mean_kernel(held_out, self.paintings)
        first, second = (
            self._kids(generated, held_out, within_paintings) for generated in (champion, challenger)
        )
        low, high = np.quantile((first - second)[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
        return Gain(float(first[0]), float(second[0]), float(low), float(high))

    def _kids(self, generated: Tensor, real: Tensor, within_paintings: Tensor) -> npt.NDArray[np.float64]:
        """The KID of each round."""
        across = ((self.pictures @ kernel(generated, real)) * self.paintings).sum(1)
        across /= len(generated) * len(real)
        kids: npt.NDArray[np.float64] = (
            _mean_kernel(generated, self.pictures) + within_paintings - 2 * across
        ).numpy()
        return kids


def _counts(size: int, random: np.random.Generator) -> Tensor:
    """How often each of `size` items is drawn in each round, float64; once each in the first."""
    drawn = random.multinomial(size, np.full(size, 1 / size), ROUNDS)
    return torch.from_numpy(np.concatenate([np.ones((1, size), np.int64), drawn])).double()


def _mean_kernel(features: Tensor, counts: Tensor) -> Tensor:
    """The mean kernel between different pictures in each round; two copies of one picture are not a pair."""
    pairs = kernel(features, features).fill_diagonal_(0)
    squares = counts.square().sum(1)
    return ((counts @ pairs) * counts).sum(1) / (counts.sum(1).square() - squares)
