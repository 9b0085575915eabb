"""The panel: every metric of generated pictures against held-out paintings, beside a floor and yardsticks.

Most of these numbers depend on how many pictures are compared, so all are measured in groups of one size N: the number
of held-out paintings, or of generated or training pictures if there are fewer, at most 240. Each group of N generated
pictures is compared with the same N held-out paintings; a metric is the mean over groups, with their deviation. The
floor is the score of training paintings, which a perfect generator would reach. The yardsticks are the scores of known
faults: blurred training paintings, paintings of half of the motifs only, and exact copies of training paintings.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.metrics.distances import QuickScores, check_counts, kid, nearest, quick_scores, random_rows, rounded
from atelier.metrics.features import FEATURES, FeatureExtractor, FeatureSet, FeatureSpace, Reference
from atelier.metrics.patches import PatchReference
from atelier.networks import load_generator
from atelier.networks.efficientnet import LITE0, LITE1, LiteVariant
from atelier.networks.latent_field import render_seed
from atelier.pictures import Pixels, size_in_words
from atelier.pictures.filters import blur_pictures
from atelier.progress import Progress

Rows = npt.NDArray[np.int64]
MAX_GROUP = 240
MAX_SAMPLED = 600  # training paintings that set the scale of features and make up the floor
MAX_FLOOR_GROUPS = 10
MAX_YARDSTICK = 120  # training paintings behind one yardstick
BLURS_PX = {"blurred_half_a_pixel": 0.5, "blurred_1_pixel": 1.0, "blurred_2_pixels": 2.0}
MIN_DISTANCE = 1e-6  # held-out paintings that are copies of training paintings must not divide by 0


@dataclass(frozen=True)
class Scores(QuickScores):
    """The metrics of one group of pictures, or their means over groups."""

    swd: float
    memorisation: float


@dataclass(frozen=True)
class Metric:
    """A value and its floor (real against real), means over groups; a spread is None if there is one group."""

    value: float
    spread: float | None
    floor: float
    floor_spread: float | None

    @classmethod
    def of(cls, values: Sequence[float], floors: Sequence[float]) -> Self:
        """From the values of groups of generated and of training paintings."""
        spread, floor_spread = (stdev(found) if len(found) > 1 else None for found in (values, floors))
        return cls(fmean(values), spread, fmean(floors), floor_spread)


@dataclass(frozen=True)
class Quality:
    """All metrics of a set of generated pictures, in the features of the network `judge`.

    kid: distance of features, 0 is best. kid_lite1: the same in the features of EfficientNet-Lite1, by which no default
    was chosen, whatever `judge` is. kid_coarse: the same of pictures blurred by σ = 1 px on both sides, so that
    only structure counts; added grain lowers kid, and this much less. swd: distance of small patches, 0 is best.
    density, coverage: best at their floors; density falls as pictures become unlike any painting, coverage as motifs
    are lost. memorisation: median distance to the nearest training painting, in units of a held-out painting's; below
    about 0.8 the generator copies.
    """

    kid: Metric
    kid_coarse: Metric
    kid_lite1: Metric
    density: Metric
    coverage: Metric
    swd: Metric
    swd_levels: dict[int, Metric]  # by the side of the level in px
    memorisation: Metric
    yardsticks: dict[str, Scores]
    generated: int
    training: int
    held_out: int
    group: int
    judge: str

    @property
    def in_words(self) -> str:
        """A phrase that compares `kid` with those of real and of blurred paintings."""
        kids = {sigma_px: self.yardsticks[name].kid for name, sigma_px in BLURS_PX.items()}
        return kid_in_words(self.kid.value, self.kid.floor, self.kid.floor_spread or 0.0, kids)

    def to_metrics(self) -> dict[str, Any]:
        """Plain nested numbers, rounded to 6 significant digits, for metrics.json."""
        metrics = rounded(asdict(self))
        metrics["swd_levels"] = {f"{side}px": level for side, level in metrics["swd_levels"].items()}
        counts = ("generated", "training", "held_out", "group")
        metrics["compared"] = {name: metrics.pop(name) for name in counts} | {"features": metrics.pop("judge")}
        return metrics


@dataclass(frozen=True)
class NearestPaintings:
    """For each generated picture the row of its nearest training painting, and whether its mirror image is nearer."""

    rows: Rows
    mirrored: npt.NDArray[np.bool_]
    distances: npt.NDArray[np.float64]


SCORES = tuple(field.name for field in fields(Scores))


def measure_quality(
    generated: Pixels, training: Pixels, held_out: Pixels, *, mirror: bool, seed: int, device: torch.device,
    judge: LiteVariant = LITE0,
) -> tuple[Quality, NearestPaintings]:  # fmt: skip
    """Compute all metrics of generated pictures (n, H, W, 3); paintings may be memory-mapped.

    With `mirror`, a mirror image of a training painting counts as a copy too. `judge` computes the features. Only the
    features use `device`. Raises AtelierError if a side has fewer than two pictures.
    """
    counts = (len(generated), len(training), len(held_out))
    check_counts(*counts)
    group = min(*counts, MAX_GROUP)
    panel = _Panel(training, held_out, group, mirror, seed, device, judge)
    copies, values = panel.score_generated(generated)
    floors = [panel.score_training(rows) for rows in panel.groups(panel.sampled, MAX_FLOOR_GROUPS)]

    def metric(number: Callable[[_Group], float]) -> Metric:
        return Metric.of([number(group) for group in values], [number(group) for group in floors])

    of_kid = metric(attrgetter("kid"))
    quality = Quality(
        **{name: metric(attrgetter(name)) for name in SCORES},
        kid_lite1=of_kid if judge == LITE1 else panel.kid_lite1(generated, device),
        swd_levels={
            side: metric(lambda group, level=level: group.swd_levels[level])  # type: ignore[misc]
            for level, side in enumerate(panel.levels_px)
        },
        yardsticks=panel.yardsticks(),
        generated=counts[0],
        training=counts[1],
        held_out=counts[2],
        group=group,
        judge=judge.version,
    )
    return quality, copies


def paint_samples(
    model: Path, dataset: PackedDataset, samples: int, seed: int, device: torch.device, progress: Progress
) -> Pixels:
    """Paint `samples` pictures (n, H, W, 3) with a model. Raises AtelierError for another size than the data's."""
    generator, _ = load_generator(model, device)
    if generator.size_px != dataset.size_px:
        raise AtelierError(
            f"{model} paints {size_in_words(*generator.size_px)}, the dataset holds {size_in_words(*dataset.size_px)}: "
            "compare models of the data's size; `dvc repro train` trains one"
        )
    pieces = []
    for piece in render_seed(generator, seed, samples):
        pieces.append(piece)
        progress.advance(len(piece))
    return np.concatenate(pieces)


def kid_in_words(value: float, floor: float, floor_spread: float, of_blurred: Mapping[float, float]) -> str:
    """Describe a KID by the blur, in pixels, of the training paintings that score the same.

    `floor` and `floor_spread` are mean and standard deviation of the KID of real paintings; up to two deviations above
    the mean counts as real. `of_blurred` has the KID of blurred training paintings by the sigma of their blur.
    """
    real = floor + 2 * floor_spread
    if value <= real:
        return "as close as real paintings"
    sigmas: list[float] = []
    scores: list[float] = []
    for sigma_px, score in sorted(of_blurred.items()):
        if score > max(real, 0.0, *scores):  # a blur with a measurable effect
            sigmas.append(sigma_px)
            scores.append(score)
    if not scores:
        return "further off than real paintings"
    if value < scores[0]:
        return f"closer than a painting blurred by {sigmas[0]:g} px"
    if value > scores[-1]:
        return f"further off than a painting blurred by {sigmas[-1]:g} px"
    sigma_px = np.interp(math.log(value), np.log(scores), sigmas)
    return f"as far off as a painting blurred by {sigma_px:.1f} px"


@dataclass(frozen=True)
class _Group(Scores):
    swd_levels: tuple[float, ...]


class _Panel:
    """What is computed once about the paintings, and the scores of groups of pictures against them."""

    def __init__(
        self, training: Pixels, held_out: Pixels, group: int, mirror: bool, seed: int, device: torch.device,
        judge: LiteVariant,
    ) -> None:  # fmt: skip
        random = np.random.default_rng(seed)
        self._held_out = held_out = held_out[random_rows(random, len(held_out), group)]
        self._features = FeatureExtractor(device, judge)
        self._training, self._group = training, group
        self.sampled = random.permutation(len(training))[: max(MAX_SAMPLED, self._group)]
        coarse = self._features(training, coarse=True)
        sharp = torch.zeros_like(coarse)  # computed for the sampled rows only
        sharp[self.sampled] = self._features(training[self.sampled])
        self._space = FeatureSpace(sharp[self.sampled], coarse[self.sampled])
        self._paintings = self._space(sharp, coarse)
        views = [self._paintings.coarse]
        if mirror:
            mirrored = self._features(training[:, :, ::-1], coarse=True)
            views.append(self._space(mirrored, mirrored).coarse)
        self._views = len(views)
        self._pool = torch.stack(views, 1).flatten(0, 1)  # painting r is row views · r, its mirror image the next
        self._real = self._feature_set(held_out)
        self._patches = PatchReference(held_out, seed)
        self.levels_px = self._patches.levels_px
        self._unit = max(float(nearest(self._real.coarse, self._pool)[0].median()), MIN_DISTANCE)

    def score_generated(self, pictures: Pixels) -> tuple[NearestPaintings, list[_Group]]:
        features = self._feature_set(pictures)
        distances, rows = nearest(features.coarse, self._pool)
        groups = [
            self._score(pictures[part], features[torch.from_numpy(part)], distances[part])
            for part in self.groups(np.arange(len(pictures)))
        ]
        copies = NearestPaintings(rows.numpy() // self._views, rows.numpy() % self._views == 1, distances.numpy())
        return copies, groups

    def score_training(self, rows: Rows, sigma_px: float = 0.0, copies: bool = False) -> _Group:
        """Score training paintings, blurred by `sigma_px`, as if they were generated.

        The nearest painting of each is searched among the others; with `copies` among all, which finds itself.
        """
        images, features = self._training[rows], self._paintings[torch.from_numpy(rows)]
        if sigma_px:
            images = blur_pictures(images, sigma_px)
            features = self._feature_set(images)
        own = torch.from_numpy(self._views * rows[:, None] + np.arange(self._views))
        distances, _ = nearest(features.coarse, self._pool, None if copies else own)
        return self._score(images, features, distances)

    def kid_lite1(self, pictures: Pixels, device: torch.device) -> Metric:
        """The KID of the same groups in Lite1's features, standardised by the training paintings."""
        extract = FeatureExtractor(device, LITE1)
        sampled = extract(self._training[self.sampled])
        reference = Reference.of(sampled)
        paintings = torch.zeros(len(self._training), FEATURES, dtype=torch.float64)
        paintings[self.sampled] = reference.standardise(sampled)
        real, ours = (reference.standardise(extract(images)) for images in (self._held_out, pictures))
        return Metric.of(
            [kid(ours[part], real) for part in self.groups(np.arange(len(pictures)))],
            [kid(paintings[part], real) for part in self.groups(self.sampled, MAX_FLOOR_GROUPS)],
        )

    def yardsticks(self) -> dict[str, Scores]:
        """The scores of training paintings with one known fault each."""
        groups = self.groups(self.sampled, max(1, MAX_YARDSTICK // self._group))
        found = {
            name: _mean(self.score_training(rows, sigma_px) for rows in groups) for name, sigma_px in BLURS_PX.items()
        }
        along = self._paintings.principal[self.sampled, 0]
        half = self.sampled[(along <= along.median()).numpy()]  # one side of the first principal axis
        halved = self.groups(np.resize(half, len(groups) * self._group))
        found["half_the_motifs"] = _mean(self.score_training(rows) for rows in halved)
        found["copies"] = _mean(self.score_training(rows, copies=True) for rows in groups)
        return found

    def groups(self, rows: Rows, at_most: int | None = None) -> list[Rows]:
        """Split rows into groups of full size, each sorted, in which order memory-mapped pictures are read fastest."""
        starts = range(0, len(rows) - self._group + 1, self._group)
        return [np.sort(rows[start : start + self._group]) for start in starts][:at_most]

    def _feature_set(self, images: Pixels) -> FeatureSet:
        return self._space(*self._features.sharp_and_coarse(images))

    def _score(self, images: Pixels, features: FeatureSet, distances: Tensor) -> _Group:
        quick = quick_scores(self._real, features)
        levels = self._patches.distances(images)
        memorisation = float(distances.median()) / self._unit
        return _Group(**asdict(quick), swd=fmean(levels), memorisation=memorisation, swd_levels=levels)


def _mean(groups: Iterable[Scores]) -> Scores:
    groups = list(groups)
    return Scores(**{name: fmean(getattr(group, name) for group in groups) for name in SCORES})
