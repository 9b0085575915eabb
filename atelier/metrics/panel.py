"""The panel: every metric of generated pictures against held-out paintings, beside a floor and yardsticks.

Most of these numbers depend on how many pictures are compared, so all are measured in groups of one size N: the number
of held-out paintings, fewer where there are fewer other pictures, at most 240. Each group of N generated pictures is
compared with the same N held-out paintings; the value is the mean, the spread is the deviation between groups.

The floor is what groups of N training paintings score, as a perfect painter of such pictures would. The yardsticks are
what training paintings score that are blurred, or come from one half of the motifs only, or pass for generated
pictures although each is a copy of a training painting.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.metrics.distances import PatchReference, density_and_coverage, kid, nearest
from atelier.metrics.features import FEATURES_VERSION, Features, Seen, Space
from atelier.pictures import Pixels
from atelier.pictures.blur import blurred_pictures

Rows = npt.NDArray[np.int64]
FEWEST = 2  # pictures on each side
MOST_IN_A_GROUP = 240
MOST_SAMPLED = 600  # training paintings that set the scale of features and make up the floor
MOST_FLOORS = 10  # groups
MOST_YARDSTICKS = 120  # training paintings behind one yardstick
BLURS_PX = {"blurred_half_a_pixel": 0.5, "blurred_1_pixel": 1.0, "blurred_2_pixels": 2.0}
TINY = 1e-6  # held-out paintings that are copies of training paintings must not divide by 0
QUICK_PICTURES = 100  # generated ones behind quick scores
QUICK_SAMPLED, QUICK_HELD_OUT = 240, 100  # paintings behind quick scores, at most


@dataclass(frozen=True)
class Scores:
    """The numbers of one group of pictures, or their means over groups."""

    kid: float
    kid_coarse: float
    density: float
    coverage: float
    swd: float
    memorisation: float


@dataclass(frozen=True)
class Measure:
    """A value and its real-vs-real floor, means over groups; the spreads are None where there is one group."""

    value: float
    spread: float | None
    floor: float
    floor_spread: float | None


@dataclass(frozen=True)
class Quality:
    """The panel's numbers.

    kid: distance of features, 0 is best. kid_coarse: the same of pictures blurred by σ = 1 px on both sides, so that
    only structure counts; grain alone lowers kid, not this. swd: distance of small patches, 0 is best.
    density, coverage: best at their floors; density falls as pictures leave the paintings, coverage as motifs are
    lost. memorisation: median distance to the nearest training painting, in units of a held-out painting's; below
    about 0.8 the generator copies.
    """

    kid: Measure
    kid_coarse: Measure
    density: Measure
    coverage: Measure
    swd: Measure
    swd_levels: dict[int, Measure]  # by the side of the level in px
    memorisation: Measure
    yardsticks: dict[str, Scores]
    generated: int
    training: int
    held_out: int
    group: int

    @property
    def in_words(self) -> str:
        """A sentence that compares `kid` with real paintings and blurred ones."""
        kids = {sigma_px: self.yardsticks[name].kid for name, sigma_px in BLURS_PX.items()}
        return kid_in_words(self.kid.value, self.kid.floor, self.kid.floor_spread or 0.0, kids)

    def to_metrics(self) -> dict[str, Any]:
        """Plain nested numbers, rounded to 6 significant digits, for metrics.json."""
        metrics: dict[str, Any] = {name: _plain(asdict(getattr(self, name))) for name in _names(Scores)}
        metrics["swd_levels"] = {
            f"{side}px": _plain(asdict(measure)) for side, measure in self.swd_levels.items()
        }
        metrics["yardsticks"] = {name: _plain(asdict(scores)) for name, scores in self.yardsticks.items()}
        counts = ("generated", "training", "held_out", "group")
        metrics["compared"] = {name: getattr(self, name) for name in counts} | {"features": FEATURES_VERSION}
        return metrics


@dataclass(frozen=True)
class Kin:
    """Of each generated picture its nearest training painting: the row, and whether its mirror image is nearer."""

    rows: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]
    distances: npt.NDArray[np.float64]


@dataclass(frozen=True)
class QuickScores:
    """The cheap part of the panel, for snapshots of a training."""

    kid: float
    kid_coarse: float
    density: float
    coverage: float


def refuse_too_few(generated: int, training: int, held_out: int) -> None:
    """Raise AtelierError unless there are two pictures on each side, without which nothing can be compared."""
    if min(generated, training, held_out) < FEWEST:
        raise AtelierError(
            f"evaluation compares {generated} generated pictures with {training} training and {held_out} held-out "
            "paintings and needs two of each: use more paintings, or raise augment.held_out"
        )


class QuickPanel:
    """Scores pictures against held-out paintings while a training runs: fewer pictures, neither swd nor copies."""

    def __init__(
        self, training: Pixels, held_out: Pixels, device: torch.device | str = "cpu", seed: int = 0
    ) -> None:
        """Measure at most 240 training and 100 held-out paintings, chosen by `seed`.

        Raises AtelierError where there are fewer than two of either.
        """
        refuse_too_few(QUICK_PICTURES, len(training), len(held_out))
        self._features = Features(device)
        random = np.random.default_rng(seed)
        chosen = training[_choice(random, len(training), QUICK_SAMPLED)]
        self._space = Space(self._features(chosen), self._features(chosen, coarse=True))
        self._real = self._seen(held_out[_choice(random, len(held_out), QUICK_HELD_OUT)])

    def scores(self, pictures: Pixels) -> QuickScores:
        """Score generated pictures (n, H, W, 3), n at least 2, best QUICK_PICTURES of them."""
        return quick_scores(self._real, self._seen(pictures))

    def _seen(self, images: Pixels) -> Seen:
        return self._space(self._features(images), self._features(images, coarse=True))


def quick_scores(real: Seen, generated: Seen) -> QuickScores:
    """Score generated pictures against paintings; density and coverage are means over groups of equal size."""
    size, last = min(len(real), len(generated)), len(generated) - min(len(real), len(generated))
    starts = sorted({*range(0, last + 1, size), last})  # the last two groups may overlap
    found = [
        density_and_coverage(real.principal[:size], generated.principal[start : start + size])
        for start in starts
    ]
    return QuickScores(
        kid=kid(generated.sharp, real.sharp),
        kid_coarse=kid(generated.coarse, real.coarse),
        density=fmean(density for density, _ in found),
        coverage=fmean(coverage for _, coverage in found),
    )


def judge(
    generated: Pixels, training: Pixels, held_out: Pixels, *, mirror: bool, seed: int, device: torch.device
) -> tuple[Quality, Kin]:
    """Judge generated pictures (n, H, W, 3); paintings may be memory-mapped.

    With `mirror`, a mirror image of a training painting is a copy too. Only the features use `device`.
    Raises AtelierError where a side has fewer than two pictures.
    """
    counts = (len(generated), len(training), len(held_out))
    refuse_too_few(*counts)
    group = min(*counts, MOST_IN_A_GROUP)
    random = np.random.default_rng(seed)
    panel = _Panel(training, held_out[_choice(random, len(held_out), group)], mirror, random, seed, device)
    kin, values = panel.judge(generated)
    floors = [panel.real(rows) for rows in panel.groups(panel.sampled, MOST_FLOORS)]

    def measure(number: Callable[[_Group], float]) -> Measure:
        ours, real = [number(one) for one in values], [number(one) for one in floors]
        return Measure(fmean(ours), _spread(ours), fmean(real), _spread(real))

    quality = Quality(
        **{name: measure(partial(_score, name)) for name in _names(Scores)},
        swd_levels={side: measure(partial(_level, at)) for at, side in enumerate(panel.levels_px)},
        yardsticks=panel.yardsticks(),
        generated=counts[0],
        training=counts[1],
        held_out=counts[2],
        group=group,
    )
    return quality, kin


def kid_in_words(value: float, floor: float, floor_spread: float, of_blurred: Mapping[float, float]) -> str:
    """Say how far off a KID is, between what paintings score that are blurred by these sigmas in pixels."""
    real = floor + 2 * floor_spread
    if value <= real:
        return "as close as real paintings"
    known: list[tuple[float, float]] = []
    for sigma_px, score in sorted(of_blurred.items()):
        if score > max(real, 0.0, *(score for _, score in known)):  # else its blur cannot be told from none
            known.append((sigma_px, score))
    if not known:
        return "further off than real paintings"
    if value < known[0][1]:
        return f"closer than a painting blurred by {known[0][0]:g} px"
    if value > known[-1][1]:
        return f"further off than a painting blurred by {known[-1][0]:g} px"
    sigmas, scores = zip(*known, strict=True)
    sigma_px = np.interp(math.log(value), np.log(scores), sigmas)
    return f"as far off as a painting blurred by {sigma_px:.1f} px"


@dataclass(frozen=True)
class _Group:
    scores: Scores
    levels: tuple[float, ...]  # of swd


class _Panel:
    """Everything that is computed once about the paintings."""

    def __init__(
        self,
        training: Pixels,
        held_out: Pixels,
        mirror: bool,
        random: np.random.Generator,
        seed: int,
        device: torch.device,
    ) -> None:
        self._features = Features(device)
        self._training, self._random, self._group = training, random, len(held_out)
        self.sampled = random.permutation(len(training))[: max(MOST_SAMPLED, self._group)]
        coarse = self._features(training, coarse=True)
        sharp = torch.zeros_like(coarse)  # of the sampled rows only
        sharp[self.sampled] = self._features(training[self.sampled])
        self._space = Space(sharp[self.sampled], coarse[self.sampled])
        self._paintings = self._space(sharp, coarse)
        views = [self._paintings.coarse]
        if mirror:
            mirrored = self._features(training[:, :, ::-1], coarse=True)
            views.append(self._space(mirrored, mirrored).coarse)
        self._views = len(views)
        self._pool = torch.stack(views, 1).flatten(0, 1)  # painting r is row views · r, its mirror image next
        self._real = self._seen(held_out)
        self._patches = PatchReference(held_out, seed)
        self.levels_px = self._patches.levels_px
        self._unit = max(float(nearest(self._real.coarse, self._pool)[0].median()), TINY)

    def judge(self, pictures: Pixels) -> tuple[Kin, list[_Group]]:
        seen = self._seen(pictures)
        distances, rows = nearest(seen.coarse, self._pool)
        groups = [
            self._scores(pictures[part], seen[torch.from_numpy(part)], distances[part])
            for part in self.groups(np.arange(len(pictures)))
        ]
        kin = Kin(rows.numpy() // self._views, rows.numpy() % self._views == 1, distances.numpy())
        return kin, groups

    def groups(self, rows: Rows, most: int | None = None) -> list[Rows]:
        """Whole groups only, each sorted, which is how memory-mapped pictures are read fastest."""
        starts = range(0, len(rows) - self._group + 1, self._group)
        return [np.sort(rows[start : start + self._group]) for start in starts][:most]

    def real(self, rows: Rows, sigma_px: float = 0.0, copies: bool = False) -> _Group:
        """Score training paintings, blurred if need be, as if they were generated.

        Each is looked for among the others when its nearest is, but not where `copies` are meant.
        """
        images, seen = self._training[rows], self._paintings[torch.from_numpy(rows)]
        if sigma_px:
            images = blurred_pictures(images, sigma_px)
            seen = self._seen(images)
        own = torch.from_numpy(self._views * rows[:, None] + np.arange(self._views))
        distances, _ = nearest(seen.coarse, self._pool, None if copies else own)
        return self._scores(images, seen, distances)

    def yardsticks(self) -> dict[str, Scores]:
        """What spoilt training paintings score."""
        groups = self.groups(self.sampled, max(1, MOST_YARDSTICKS // self._group))
        found = {
            name: _mean(self.real(rows, sigma_px) for rows in groups) for name, sigma_px in BLURS_PX.items()
        }
        along = self._paintings.principal[self.sampled, 0]
        half = self.sampled[(along <= along.median()).numpy()]  # one side of the first principal axis
        halved = self.groups(np.resize(half, len(groups) * self._group))
        found["half_the_motifs"] = _mean(self.real(rows) for rows in halved)
        found["copies"] = _mean(self.real(rows, copies=True) for rows in groups)
        return found

    def _seen(self, images: Pixels) -> Seen:
        return self._space(self._features(images), self._features(images, coarse=True))

    def _scores(self, images: Pixels, seen: Seen, distances: Tensor) -> _Group:
        """Of one group of pictures, their features and their distances to the nearest training painting."""
        quick = quick_scores(self._real, seen)
        levels = self._patches.distances(images)
        return _Group(
            Scores(**asdict(quick), swd=fmean(levels), memorisation=float(distances.median()) / self._unit),
            levels,
        )


def _choice(random: np.random.Generator, count: int, most: int) -> Rows:
    return np.sort(random.permutation(count)[:most])


def _mean(groups: Iterable[_Group]) -> Scores:
    scores = [group.scores for group in groups]
    return Scores(**{name: fmean(getattr(one, name) for one in scores) for name in _names(Scores)})


def _score(name: str, group: _Group) -> float:
    number: float = getattr(group.scores, name)
    return number


def _level(at: int, group: _Group) -> float:
    return group.levels[at]


def _names(kind: type[Scores]) -> list[str]:
    return [field.name for field in fields(kind)]


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _plain(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(f"{number:.6g}") for name, number in numbers.items() if number is not None}
