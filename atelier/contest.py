"""Whether one generator is better than another by more than chance: both painted from the same latents, both held
against the same paintings, both resampled alike (a paired bootstrap, Efron and Tibshirani 1993, chapter 16).
"""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.quality.features import RandomFeatures, Reference
from atelier.quality.patches import PatchReference
from atelier.quality.statistics import kernel
from atelier.wording import counted

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]
KID_ROUNDS, SWD_ROUNDS = 2000, 100  # a round of the latter sorts all patches anew
FEWEST = 10  # pictures on each side: a bootstrap of fewer says nothing


@dataclass(frozen=True)
class Gain:
    """By how much the challenger's distance to the paintings is smaller, and between which bounds chance leaves it."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """better, worse or even: what the whole interval says."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "even"


@dataclass(frozen=True)
class Contest:
    """Two distances, each with the interval that holds this share of the resamplings.

    `wins`: one of them is better beyond chance, and neither is worse.
    """

    kid_rand: Gain
    swd: Gain
    confidence: float

    @property
    def wins(self) -> bool:
        verdicts = {self.kid_rand.verdict, self.swd.verdict}
        return "better" in verdicts and "worse" not in verdicts

    @property
    def reason(self) -> str:
        """A sentence for whoever wakes up to the result."""
        return "; ".join(
            f"{name} {gain.champion:.4g} -> {gain.challenger:.4g}, {gain.verdict} "
            f"({100 * self.confidence:g}% of resamplings gain {gain.low:.3g} to {gain.high:.3g})"
            for name, gain in (("kid_rand", self.kid_rand), ("swd", self.swd))
        )


def contest(
    champion: Pixels,
    challenger: Pixels,
    held_out: Pixels,
    *,
    confidence: float,
    seed: int,
    device: torch.device,
) -> Contest:
    """Compare pictures (n, H, W, 3) of two generators, made from the same latents in the same order.

    A gain counts where `confidence`, a share of all resamplings, lies on its side.
    Raises AtelierError where a side has fewer than ten pictures.
    """
    if len(champion) != len(challenger):
        raise ValueError(f"{len(champion)} and {len(challenger)} pictures are not of the same latents")
    if min(len(champion), len(held_out)) < FEWEST:
        raise AtelierError(
            f"a contest compares {counted(len(champion), 'generated picture')} with "
            f"{counted(len(held_out), 'held-out painting')} and needs {FEWEST} of each: "
            "raise augment.held_out, or use more paintings"
        )
    random = np.random.default_rng(seed)
    kid = _kid_distances(champion, challenger, held_out, random, device)
    swd = _swd_distances(champion, challenger, held_out, random, seed)
    return Contest(_gain(*kid, confidence), _gain(*swd, confidence), confidence)


def _kid_distances(
    champion: Pixels, challenger: Pixels, held_out: Pixels, random: np.random.Generator, device: torch.device
) -> tuple[Distances, Distances]:
    """Of the champion's and the challenger's pictures: what is, then what each round found."""
    network = RandomFeatures(device)
    reference = Reference.of(network(held_out))
    real = reference.standardise(reference.features)
    reals, fakes = (_drawn(len(side), KID_ROUNDS, random) for side in (held_out, champion))
    among_paintings = _among(real, reals)
    distances = []
    for pictures in (champion, challenger):
        features = reference.standardise(network(pictures))
        across = ((fakes @ kernel(features, real)) * reals).sum(1) / (len(features) * len(real))
        distances.append((_among(features, fakes) + among_paintings - 2 * across).numpy())
    return distances[0], distances[1]


def _drawn(count: int, rounds: int, random: np.random.Generator) -> Tensor:
    """How often each of `count` pictures is in each round, (1 + rounds, count); in the first, once."""
    often = random.multinomial(count, np.full(count, 1 / count), rounds)
    return torch.from_numpy(np.concatenate([np.ones((1, count), np.int64), often])).double()


def _among(features: Tensor, often: Tensor) -> Tensor:
    """The mean kernel between different pictures of a round: one that is there twice is no pair with itself."""
    pairs = kernel(features, features).fill_diagonal_(0)
    squares = often.square().sum(1)
    return ((often @ pairs) * often).sum(1) / (often.sum(1).square() - squares)


def _swd_distances(
    champion: Pixels, challenger: Pixels, held_out: Pixels, random: np.random.Generator, seed: int
) -> tuple[Distances, Distances]:
    """As `_kid_distances`."""
    group = min(len(held_out), len(champion))
    patches = PatchReference(held_out, seed)
    real, *fakes = (patches.projections(pictures) for pictures in (held_out, champion, challenger))
    distances: list[list[float]] = [[], []]
    for number in range(1 + SWD_ROUNDS):
        if number:
            paintings, pictures = (random.integers(0, len(side), group) for side in (held_out, champion))
        else:
            paintings = pictures = np.arange(group)
        levels = [_sorted(level, paintings) for level in real]
        for fake, found in zip(fakes, distances, strict=True):
            found.append(fmean(_apart(level, fake[at], pictures) for at, level in enumerate(levels)))
    return np.array(distances[0]), np.array(distances[1])


def _apart(real: npt.NDArray[np.float32], fake: Tensor, rows: Rows) -> float:
    return float(np.abs(_sorted(fake, rows) - real).mean())


def _sorted(level: Tensor, rows: Rows) -> npt.NDArray[np.float32]:
    """The projections of the patches of these pictures, each direction sorted."""
    chosen = level.numpy()[:, rows].reshape(len(level), -1)
    chosen.sort(axis=1)
    return chosen


def _gain(champion: Distances, challenger: Distances, confidence: float) -> Gain:
    gains = champion - challenger
    low, high = np.quantile(gains[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Gain(float(champion[0]), float(challenger[0]), float(low), float(high))
