"""Decide whether one generator is better than another by more than chance.

Both paint from the same latents, and both are compared with the same held-out paintings by two distances, `kid` and
`kid_coarse`. A paired bootstrap (Efron and Tibshirani 1993, chapter 16) gives the interval of each gain: every round
draws latents and paintings with replacement, the same ones for both models and both distances. Because there are two
distances, each interval is wider than the confidence asked for, by Bonferroni's rule: both hold together with that
confidence.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.metrics.distances import kernel
from atelier.metrics.features import Seen
from atelier.settings.messages import counted

Distances = npt.NDArray[np.float64]
ROUNDS = 2000
FEWEST = 10  # pictures on each side; a bootstrap of fewer is not reliable
MEANING = (
    "kid: distance of generated pictures from held-out paintings, in the features of an image-recognition network; "
    "0 is as good as real, smaller is better.\n"
    "kid_coarse: the same with all pictures blurred by 1 px, which leaves forms and colours and takes the grain.\n"
    "better, worse: the interval of the gain lies wholly above or below 0. even: it contains 0, so that chance may "
    "explain the difference.\n"
    "The challenger wins if it is better in one of the two and worse in neither."
)


@dataclass(frozen=True)
class Gain:
    """One distance of both models, and the bootstrap interval of champion − challenger."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better` if the whole interval is above 0, `worse` if it is below 0, else `even`."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "even"


@dataclass(frozen=True)
class Contest:
    """The gains in both distances. `confidence` is the probability that both intervals hold the true gain.

    `wins`: one distance is better beyond chance, and neither is worse.
    """

    kid: Gain
    kid_coarse: Gain
    confidence: float

    @property
    def gains(self) -> dict[str, Gain]:
        """The gains by the name of their distance."""
        return {"kid": self.kid, "kid_coarse": self.kid_coarse}

    @property
    def wins(self) -> bool:
        verdicts = {gain.verdict for gain in self.gains.values()}
        return "better" in verdicts and "worse" not in verdicts

    @property
    def reason(self) -> str:
        """Both distances of both models, with their intervals and verdicts, in one line."""
        return "; ".join(
            f"{name} {gain.champion:.4g} -> {gain.challenger:.4g}, {gain.verdict} "
            f"({100 * _each(self.confidence):g}% of resamplings gain {gain.low:.3g} to {gain.high:.3g})"
            for name, gain in self.gains.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file: each gain with its verdict, the confidence, `wins` and `reason`."""
        gains = {name: {**asdict(gain), "verdict": gain.verdict} for name, gain in self.gains.items()}
        return {**gains, "confidence": self.confidence, "wins": self.wins, "reason": self.reason}


def contest(
    champion: Seen,
    challenger: Seen,
    held_out: Seen,
    *,
    confidence: float,
    seed: int,
) -> Contest:
    """Compare the features of pictures by two generators, made from the same latents in the same order.

    `confidence` is the probability that both intervals hold the true gain; `seed` draws the resamplings.
    Raises AtelierError if a side has fewer than ten pictures.
    """
    pictures, paintings = len(champion), len(held_out)
    if pictures != len(challenger):
        raise ValueError(f"{pictures} and {len(challenger)} pictures are not of the same latents")
    if min(pictures, paintings) < FEWEST:
        raise AtelierError(
            f"a contest compares {counted(pictures, 'generated picture')} with "
            f"{counted(paintings, 'held-out painting')} and needs {FEWEST} of each: "
            "raise augment.held_out, or use more paintings"
        )
    random = np.random.default_rng(seed)
    drawn = _Rounds(_drawn(pictures, random), _drawn(paintings, random))
    return Contest(
        kid=drawn.gain(champion.sharp, challenger.sharp, held_out.sharp, _each(confidence)),
        kid_coarse=drawn.gain(champion.coarse, challenger.coarse, held_out.coarse, _each(confidence)),
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Rounds:
    """How often each picture and each painting is drawn in each round, (1 + ROUNDS, n); the first round is the data."""

    pictures: Tensor
    paintings: Tensor

    def gain(self, champion: Tensor, challenger: Tensor, held_out: Tensor, confidence: float) -> Gain:
        """The KID of both models and the interval of their difference, from features (n, F)."""
        within_paintings = _within(held_out, self.paintings)
        first, second = (
            self._kids(generated, held_out, within_paintings) for generated in (champion, challenger)
        )
        low, high = np.quantile((first - second)[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
        return Gain(float(first[0]), float(second[0]), float(low), float(high))

    def _kids(self, generated: Tensor, real: Tensor, within_paintings: Tensor) -> Distances:
        """The KID of each round."""
        across = ((self.pictures @ kernel(generated, real)) * self.paintings).sum(1)
        across /= len(generated) * len(real)
        kids: Distances = (_within(generated, self.pictures) + within_paintings - 2 * across).numpy()
        return kids


def _each(confidence: float) -> float:
    """The confidence of each of two intervals, so that both hold together with `confidence` (Bonferroni)."""
    return (1 + confidence) / 2


def _drawn(count: int, random: np.random.Generator) -> Tensor:
    often = random.multinomial(count, np.full(count, 1 / count), ROUNDS)
    return torch.from_numpy(np.concatenate([np.ones((1, count), np.int64), often])).double()


def _within(features: Tensor, often: Tensor) -> Tensor:
    """The mean kernel of each round between different pictures; copies of one picture do not count as a pair."""
    pairs = kernel(features, features).fill_diagonal_(0)
    squares = often.square().sum(1)
    return ((often @ pairs) * often).sum(1) / (often.sum(1).square() - squares)
