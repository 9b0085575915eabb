"""The panel: every metric of generated pictures against held-out paintings, beside its real-vs-real floor.

Most of these numbers depend on how many pictures are compared, so all is done in groups of one size N, the number
of held-out paintings (less where there are fewer others). The generated pictures are cut into groups of N, each is
compared with the same N held-out paintings; the value is the mean, ± the deviation between groups. The floor is the
same for groups of N training paintings, which is what a perfect painter of such pictures would score. That beats
two halves of the held-out set where it is small: of 137 paintings, halves would be 68, and training paintings are
plenty. What the choice of held-out paintings does to a value it does to its floor too: compare the two.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.quality.features import FEATURES_VERSION, RandomFeatures, Reference
from atelier.quality.patches import PatchReference
from atelier.quality.statistics import density_and_coverage, kid, mind, nearest

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
FEWEST = 2  # pictures on each side
MOST_FLOORS = 10  # groups of training paintings: each is looked for among all of them, and more tell no more
TINY = 1e-6  # held-out paintings that are copies of training paintings must not divide by 0


@dataclass(frozen=True)
class Measure:
    """A value and its real-vs-real floor, means over groups; the spreads are None where there is one group."""

    value: float
    spread: float | None
    floor: float
    floor_spread: float | None


@dataclass(frozen=True)
class Quality:
    """What the panel says.

    kid_rand, mind_rand, swd: distances, 0 is best. density, coverage: best at their floors; coverage falls as modes
    are lost. memorisation: median distance to the nearest training painting, in units of a held-out painting's;
    below about 0.8 the generator copies.
    """

    kid_rand: Measure
    mind_rand: Measure
    swd: Measure
    swd_levels: dict[int, Measure]  # by the side of the level in px
    density: Measure
    coverage: Measure
    memorisation: Measure
    generated: int
    training: int
    held_out: int
    group: int

    def to_metrics(self) -> dict[str, Any]:
        """Plain nested numbers, rounded to 6 significant digits, for metrics.json."""
        single = ("kid_rand", "mind_rand", "swd", "density", "coverage", "memorisation")
        metrics: dict[str, Any] = {name: _plain(getattr(self, name)) for name in single}
        metrics["swd_levels"] = {f"{side}px": _plain(measure) for side, measure in self.swd_levels.items()}
        counts = ("generated", "training", "held_out", "group")
        metrics["compared"] = {name: getattr(self, name) for name in counts} | {"features": FEATURES_VERSION}
        return metrics


@dataclass(frozen=True)
class Kin:
    """Of each generated picture its nearest training painting: the row, and whether its mirror image is nearer."""

    rows: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]
    distances: npt.NDArray[np.float64]


def judge(
    generated: Pixels, training: Pixels, held_out: Pixels, *, mirror: bool, seed: int, device: torch.device
) -> tuple[Quality, Kin]:
    """Judge generated pictures (n, H, W, 3); paintings may be memory-mapped.

    With `mirror`, a mirror image of a training painting is a copy too. Only the features use `device`.
    Raises AtelierError where a side has fewer than two pictures.
    """
    counts = (len(generated), len(training), len(held_out))
    if min(counts) < FEWEST:
        raise AtelierError(
            "evaluation compares {} generated pictures with {} training and {} held-out paintings and needs two "
            "of each: use more paintings, or raise augment.held_out".format(*counts)
        )
    group = min(counts)
    random = np.random.default_rng(seed)
    panel = _Panel(
        training, held_out, np.sort(random.permutation(len(held_out))[:group]), mirror, seed, device
    )
    features = panel.features(generated)
    distances, rows = nearest(features, panel.pool)
    values = [
        panel.scores(generated[part], features[part], distances[part])
        for part in _groups(np.arange(len(generated)), group)
    ]
    others = random.permutation(len(training))[: MOST_FLOORS * group]
    floors = [panel.floor(training, part) for part in _groups(others, group)]
    kin = Kin(rows.numpy() // panel.views, rows.numpy() % panel.views == 1, distances.numpy())
    return _quality(panel.levels_px, values, floors, counts, group), kin


class _Scores(NamedTuple):
    """One group's numbers."""

    kid: float
    mind: float
    levels: tuple[float, ...]
    density: float
    coverage: float
    memorisation: float


class _Panel:
    """Everything that is computed once about the paintings; features are in units of the held-out ones' deviation."""

    def __init__(
        self, training: Pixels, held_out: Pixels, chosen: Rows, mirror: bool, seed: int, device: torch.device
    ) -> None:
        self._network = RandomFeatures(device)
        self._seed = seed
        others = self._network(held_out)
        self._reference = Reference.of(others[chosen])
        self._real = self._reference.standardise(others[chosen])
        self._patches = PatchReference(held_out[chosen], seed)
        self.levels_px = self._patches.levels_px
        self.views = 2 if mirror else 1
        seen = [self.features(training)] + ([self.features(training[:, :, ::-1])] if mirror else [])
        self.pool = torch.stack(seen, 1).flatten(
            0, 1
        )  # painting r is row views · r, its mirror image the next
        unit = nearest(self._reference.standardise(others), self.pool)[0].median()
        self._unit = max(float(unit), TINY)

    def features(self, images: Pixels) -> Tensor:
        return self._reference.standardise(self._network(images))

    def scores(self, images: Pixels, features: Tensor, distances: Tensor) -> _Scores:
        """Of one group of pictures, their features and their distances to the nearest training painting."""
        density, coverage = density_and_coverage(self._real, features)
        return _Scores(
            kid=kid(features, self._real),
            mind=mind(features, self._real, self._seed),
            levels=self._patches.distances(images),
            density=density,
            coverage=coverage,
            memorisation=float(distances.median()) / self._unit,
        )

    def floor(self, training: Pixels, rows: Rows) -> _Scores:
        """Of one group of training paintings, each among the others when its nearest is looked for."""
        own = torch.from_numpy(self.views * rows[:, None] + np.arange(self.views))
        features = self.pool[own[:, 0]]
        distances, _ = nearest(features, self.pool, own)
        return self.scores(training[rows], features, distances)


def _groups(rows: Rows, size: int) -> Iterator[Rows]:
    """Whole groups only, each sorted, which is how memory-mapped pictures are read fastest."""
    for start in range(0, len(rows) - size + 1, size):
        yield np.sort(rows[start : start + size])


def _quality(
    levels_px: tuple[int, ...],
    values: list[_Scores],
    floors: list[_Scores],
    counts: tuple[int, int, int],
    group: int,
) -> Quality:
    def measure(number: Callable[[_Scores], float]) -> Measure:
        ours, real = [number(scores) for scores in values], [number(scores) for scores in floors]
        return Measure(fmean(ours), _spread(ours), fmean(real), _spread(real))

    return Quality(
        kid_rand=measure(lambda scores: scores.kid),
        mind_rand=measure(lambda scores: scores.mind),
        swd=measure(lambda scores: fmean(scores.levels)),
        swd_levels={side: measure(partial(_level, level)) for level, side in enumerate(levels_px)},
        density=measure(lambda scores: scores.density),
        coverage=measure(lambda scores: scores.coverage),
        memorisation=measure(lambda scores: scores.memorisation),
        generated=counts[0],
        training=counts[1],
        held_out=counts[2],
        group=group,
    )


def _level(level: int, scores: _Scores) -> float:
    return scores.levels[level]


def _spread(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _plain(measure: Measure) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in asdict(measure).items() if value is not None}
