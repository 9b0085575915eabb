"""The panel on paintings of the built-in archive at 64 px: each fault moves the numbers that are there for it."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from atelier.errors import AtelierError
from atelier.gallery.painter import paint
from atelier.metrics import features, panel
from atelier.metrics.distances import QuickPanel, QuickScores, density_and_coverage, frechet, kid, nearest, quick_scores
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace
from atelier.metrics.panel import BLURS_PX, NearestPaintings, Quality, kid_in_words, measure_quality
from atelier.metrics.patches import PatchReference
from atelier.networks.efficientnet import LITE0, LITE1
from atelier.pictures.filters import blur_pictures

CPU = torch.device("cpu")
HELD_OUT, FRESH, TRAINING = 60, 60, 30
SHEETS = Path(__file__).parents[2] / "sheets"


@dataclass(frozen=True)
class Studio:
    """Held-out paintings, with which others are compared, and fresh ones, which are spoilt."""

    features: FeatureExtractor
    fresh: np.ndarray
    space: FeatureSpace
    seen: FeatureSet  # the fresh ones
    real: FeatureSet
    patches: PatchReference

    def scores(self, pictures: np.ndarray) -> QuickScores:
        return quick_scores(self.real, self.seen_of(pictures))

    def kid_coarse(self, pictures: np.ndarray) -> float:
        """That of `scores`, without the features that only its other numbers need."""
        coarse = self.features(pictures, coarse=True)
        return kid(self.space(coarse, coarse).coarse, self.real.coarse)

    def seen_of(self, pictures: np.ndarray) -> FeatureSet:
        return self.space(self.features(pictures), self.features(pictures, coarse=True))


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    """150 paintings of the built-in archive, which are in no order."""
    works = (paint(1, number, 96) for number in range(HELD_OUT + FRESH + TRAINING))
    return np.stack([np.asarray(ImageOps.fit(work, (64, 64))) for work in works])


@pytest.fixture(scope="module")
def studio(squares) -> Studio:
    features = FeatureExtractor()
    held_out, others = squares[:HELD_OUT], squares[HELD_OUT:]
    sharp, coarse = features(others), features(others, coarse=True)
    space = FeatureSpace(sharp, coarse)
    real = space(features(held_out), features(held_out, coarse=True))
    seen = space(sharp, coarse)[:FRESH]
    return Studio(features, others[:FRESH], space, seen, real, PatchReference(held_out, 0))


def clipped(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)


def grainy(fresh: np.ndarray, sigma: float) -> np.ndarray:
    return clipped(fresh + np.random.default_rng(0).normal(0, sigma, fresh.shape))


def checkered(fresh: np.ndarray, strength: float) -> np.ndarray:
    board = np.indices(fresh.shape[1:3]).sum(0) % 2 * 2 - 1
    return clipped(fresh + board[..., None] * 127.5 * strength)


def dotted(fresh: np.ndarray, share: float) -> np.ndarray:
    """A share of the pixels is black or white."""
    random = np.random.default_rng(0)
    dots = random.random((*fresh.shape[:3], 1)) < share
    return np.where(dots, random.choice([0, 255], dots.shape), fresh).astype(np.uint8)


def warmer(fresh: np.ndarray, strength: float) -> np.ndarray:
    return clipped(fresh + strength * np.array([1, 0, -1]))


def rising(numbers: list[float], step: float) -> bool:
    """Whether each number is larger than the one before it, by at least this factor where that one exceeds .05."""
    return all(b > a * (step if a > 0.05 else 1) for a, b in itertools.pairwise(numbers))


# a fault, in order of strength; of kid, kid_coarse, and swd's finest and coarsest level those that rise with it by
# the given factor a step; those that it must leave within .05 (distances) or a twentieth (swd) of the fresh ones'
FAULTS = [
    (blur_pictures, (0.5, 1, 2), {"kid": 4, "kid_coarse": 1.5, "finest": 1.3}, {"coarsest"}),
    (grainy, (4, 8, 16), {"kid": 2, "kid_coarse": 2, "finest": 1.3}, {"coarsest"}),
    (checkered, (0.02, 0.05), {"kid": 2, "finest": 1.15}, {"kid_coarse", "coarsest"}),
    (dotted, (0.01, 0.03, 0.1), {"kid": 2, "kid_coarse": 2, "finest": 1.5}, set()),
    (warmer, (8, 32), {"kid": 2, "kid_coarse": 2, "coarsest": 1.04}, {"finest"}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "strengths", "rise", "stay"), FAULTS)
def test_each_fault_moves_its_metrics_in_order_of_strength(studio, fault, strengths, rise, stay) -> None:
    def numbers(pictures: np.ndarray, seen: FeatureSet) -> dict[str, float]:
        quick, levels = quick_scores(studio.real, seen), studio.patches.distances(pictures)
        return {
            "kid": quick.kid, "kid_coarse": quick.kid_coarse, "finest": levels[0], "coarsest": levels[-1],
        }  # fmt: skip

    spoilt = [fault(studio.fresh, strength) for strength in strengths]
    found = [numbers(studio.fresh, studio.seen)]
    found += [numbers(pictures, studio.seen_of(pictures)) for pictures in spoilt]
    for name, step in rise.items():
        assert rising([one[name] for one in found], step), (name, found)
    for name in stay:
        allowed = 0.05 if name.startswith("kid") else found[0][name] / 20
        assert all(abs(one[name] - found[0][name]) < allowed for one in found), (name, found)


def test_added_grain_lowers_kid_more_than_kid_coarse(studio) -> None:
    soft = blur_pictures(studio.fresh, 1.7)
    before, after = studio.scores(soft), studio.scores(grainy(soft, 8))
    assert after.kid < 0.6 * before.kid
    assert after.kid_coarse > 0.65 * before.kid_coarse


def test_lost_motifs_lower_coverage_and_raise_the_distances_in_order(studio) -> None:
    along = studio.seen.principal[:, 0].argsort()
    left = [torch.from_numpy(np.resize(along[: FRESH * thirds // 3], FRESH)) for thirds in (3, 2, 1)]
    found = [quick_scores(studio.real, studio.seen[rows]) for rows in left]
    assert rising([scores.kid_coarse for scores in found], 2)
    assert rising([scores.kid for scores in found], 2)
    coverage = [scores.coverage for scores in found]
    assert coverage[0] > coverage[1] > coverage[2] and coverage[0] > 0.95 and coverage[2] < 0.6


def test_copies_of_one_picture_have_a_low_coverage(studio) -> None:
    alike = quick_scores(studio.real, studio.seen[torch.zeros(FRESH, dtype=torch.long)])
    assert alike.coverage < 0.3 * quick_scores(studio.real, studio.seen).coverage
    assert alike.kid_coarse > 1


@pytest.fixture(scope="module")
def judged(squares) -> dict[str, tuple[Quality, NearestPaintings]]:
    """Fresh paintings, softened copies, and mirror images of training paintings, each judged as generated ones."""
    held_out, fresh, training = squares[:20], squares[20:50], squares[60:100]
    sets = {
        "fresh": fresh,
        "copied": blur_pictures(training[:30], 0.5),
        "mirrored": training[:30, :, ::-1],
    }
    with pytest.MonkeyPatch.context() as patch:
        # what is computed of the paintings alone is the same each time
        paintings = panel._Panel(training, held_out, 20, True, 0, CPU, LITE0)
        patch.setattr(panel, "_Panel", lambda *_: paintings)
        found = {"fresh": measure_quality(sets.pop("fresh"), training, held_out, mirror=True, seed=0, device=CPU)}
        patch.setattr(paintings, "yardsticks", dict)
        for name, pictures in sets.items():
            found[name] = measure_quality(pictures, training, held_out, mirror=True, seed=0, device=CPU)
    return found


def test_fresh_paintings_score_like_the_floor(judged) -> None:
    quality, _ = judged["fresh"]
    for name in ("kid", "kid_coarse", "kid_lite1"):
        measure = getattr(quality, name)
        assert abs(measure.value - measure.floor) < 3 * measure.floor_spread < 0.6
    assert quality.coverage.value == pytest.approx(quality.coverage.floor, abs=0.12)
    assert quality.memorisation.value == pytest.approx(1, abs=0.2)
    assert quality.memorisation.floor == pytest.approx(1, abs=0.2)
    assert quality.in_words in ("as close as real paintings", "closer than a painting blurred by 0.5 px")


def test_copies_move_memorisation_alone(judged) -> None:
    for copies, most in (("copied", 0.3), ("mirrored", 0.01)):
        quality, kin = judged[copies]
        assert quality.memorisation.value < most
        assert quality.coverage.value > 0.85 * quality.coverage.floor
        assert quality.kid_coarse.value < 0.15
        assert kin.rows.tolist() == list(range(30))
        assert kin.mirrored.tolist() == [copies == "mirrored"] * 30


def test_yardsticks_are_what_spoilt_paintings_score(judged) -> None:
    quality, _ = judged["fresh"]
    yard = quality.yardsticks
    assert rising([quality.kid.floor, *(yard[name].kid for name in BLURS_PX)], 1.5)
    assert yard["half_the_motifs"].coverage < 0.95 * quality.coverage.floor
    assert yard["half_the_motifs"].kid_coarse > quality.kid_coarse.floor + 0.05
    assert yard["copies"].memorisation == pytest.approx(0, abs=1e-6)
    assert yard["copies"].kid == pytest.approx(quality.kid.floor, abs=0.1)
    assert yard["blurred_half_a_pixel"].memorisation == pytest.approx(1, abs=0.2)


BLURRED = {0.5: 0.1, 1.0: 2.8, 2.0: 18.8}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.01, "as close as real paintings"),
        (0.04, "as close as real paintings"),
        (0.06, "closer than a painting blurred by 0.5 px"),
        (0.1, "as far off as a painting blurred by 0.5 px"),
        (2.8, "as far off as a painting blurred by 1.0 px"),
        (11.7, "as far off as a painting blurred by 1.8 px"),
        (18.9, "further off than a painting blurred by 2 px"),
    ],
)
def test_a_kid_in_words(value, words) -> None:
    assert kid_in_words(value, floor=-0.01, floor_spread=0.025, of_blurred=BLURRED) == words


def test_blurs_without_a_measurable_effect_are_no_yardsticks() -> None:
    few = {0.5: -0.2, 1.0: 0.9, 2.0: 0.8}
    assert kid_in_words(0.7, -0.1, 0.2, few) == "closer than a painting blurred by 1 px"
    assert kid_in_words(2.0, -0.1, 0.2, few) == "further off than a painting blurred by 1 px"
    assert kid_in_words(2.0, -0.1, 1.0, few) == "further off than real paintings"


def test_a_model_that_lite0_has_trained_is_judged_by_lite1(squares, monkeypatch) -> None:
    monkeypatch.setattr(features, "SMALLEST_SIDE_PX", 64)
    sets = (squares[:12], squares[12:24], squares[24:36])
    by_lite0, by_lite1 = (
        measure_quality(*sets, mirror=False, seed=0, device=CPU, judge=judge)[0] for judge in (LITE0, LITE1)
    )
    assert by_lite0.kid != by_lite0.kid_lite1
    assert by_lite1.kid == by_lite1.kid_lite1 == by_lite0.kid_lite1
    assert by_lite1.coverage != by_lite0.coverage or by_lite1.memorisation != by_lite0.memorisation
    assert by_lite1.to_metrics()["compared"]["features"] == "lite1-v1"


def test_metrics_are_plain_numbers_of_groups_of_one_size(judged) -> None:
    metrics = json.loads(json.dumps(judged["fresh"][0].to_metrics(), allow_nan=False))
    assert metrics["compared"] == {
        "generated": 30, "training": 40, "held_out": 20, "group": 20, "features": "lite0-v1",
    }  # fmt: skip
    assert set(metrics["kid_coarse"]) == {"value", "floor", "floor_spread"}  # of one generated group
    assert all(float(f"{number:.6g}") == number for number in metrics["swd"].values())
    assert set(metrics["swd_levels"]) == {"64px", "32px", "16px"}
    assert set(metrics["yardsticks"]["copies"]) == {
        "kid", "kid_coarse", "density", "coverage", "swd", "memorisation",
    }  # fmt: skip


def test_the_same_pictures_give_the_same_numbers_from_memory_or_from_a_memory_map(squares, tmp_path) -> None:
    np.save(tmp_path / "images.npy", squares[:9])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    numbers = [
        measure_quality(squares[9:13], images[:6], images[6:], mirror=True, seed=3, device=CPU)[0].to_metrics()
        for images in (squares[:9], mapped)
    ]
    assert numbers[0] == numbers[1]


def noise(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("counts", [(9, 5, 2), (2, 2, 2), (4, 3, 9)])
def test_few_pictures_are_measured_in_smaller_groups(counts) -> None:
    sides = [noise(count, seed=seed) for seed, count in enumerate(counts)]
    quality, _ = measure_quality(*sides, mirror=False, seed=0, device=CPU)
    json.dumps(quality.to_metrics(), allow_nan=False)
    assert quality.group == min(counts)


def test_a_single_held_out_painting_is_too_few() -> None:
    with pytest.raises(AtelierError, match=r"1 held-out .*augment\.held_out"):
        measure_quality(noise(8), noise(8), noise(1), mirror=True, seed=0, device=CPU)


def test_held_out_paintings_that_are_training_paintings_divide_by_nothing() -> None:
    quality, _ = measure_quality(noise(8), noise(8, seed=1), noise(8, seed=1), mirror=False, seed=0, device=CPU)
    json.dumps(quality.to_metrics(), allow_nan=False)


def test_quick_scores_are_near_the_panels(squares, judged) -> None:
    quality, _ = judged["fresh"]
    quick = QuickPanel(squares[60:100], squares[:20]).scores(blur_pictures(squares[20:50], 1))
    assert quick.kid == pytest.approx(quality.yardsticks["blurred_1_pixel"].kid, rel=0.3)
    assert quick.kid_coarse == pytest.approx(quality.yardsticks["blurred_1_pixel"].kid_coarse, abs=0.3)
    assert quick.coverage > 0.7


def seen(features: torch.Tensor) -> FeatureSet:
    return FeatureSet(features, features, features)


def test_quick_density_and_coverage_are_means_over_groups_as_large_as_the_reference() -> None:
    real, fake = vectors(20, 0), vectors(50, 1)
    found = [density_and_coverage(real, group) for group in (fake[:20], fake[20:40], fake[30:])]
    quick = quick_scores(seen(real), seen(fake))
    assert quick.kid == kid(fake, real)
    assert (quick.density, quick.coverage) == pytest.approx(tuple(np.mean(found, 0)))
    assert np.isfinite(quick_scores(seen(real), seen(vectors(7, 1))).coverage)


def vectors(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.filterwarnings("ignore:.*save all extracted features:UserWarning")
@pytest.mark.parametrize("of", ["vectors", "paintings"])
def test_our_kid_is_that_of_torchmetrics(studio, of) -> None:
    from torchmetrics.image.kid import KernelInceptionDistance  # importing it takes seconds

    if of == "vectors":
        ours, theirs = vectors(60, 0), vectors(60, 1, shift=0.2)
    else:
        ours, theirs = studio.seen.sharp, studio.real.sharp
    size = len(ours)
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=size)
    metric.set_dtype(torch.float64)
    with torch.random.fork_rng():  # it shuffles with the global generator
        metric.update(ours.double(), real=True)
        metric.update(theirs.double(), real=False)
        expected = float(metric.compute()[0])
    assert abs(expected) > 1e-3
    assert kid(ours, theirs) == pytest.approx(expected, abs=1e-5)


def test_kid_of_equal_sets_is_zero_on_average_however_few_they_are(studio) -> None:
    everything = torch.cat([studio.real.sharp, studio.seen.sharp])
    random = np.random.default_rng(0)
    for size in (10, 50):
        drawn = [np.split(random.permutation(len(everything))[: 2 * size], 2) for _ in range(60)]
        found = [kid(everything[a], everything[b]) for a, b in drawn]
        assert abs(np.mean(found)) < 3 * np.std(found) / 60**0.5


@pytest.mark.parametrize("count", [300, 40])  # more vectors than each has numbers, and fewer
def test_our_frechet_distance_is_that_of_torch_fidelity(count) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    ours, theirs = (
        torch.randn(count, 64, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + seed for seed in (0, 1)
    )
    expected = fid_statistics_to_metric(*map(fid_features_to_statistics, (ours, theirs)), verbose=False)
    assert frechet(ours, theirs) == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    assert frechet(ours, ours) == pytest.approx(0, abs=1e-9)


def test_density_and_coverage_of_equal_sets_are_those_of_their_paper() -> None:
    density, coverage = density_and_coverage(vectors(600, 0), vectors(600, 1))
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.03)


def test_far_fakes_have_no_density_and_cover_nothing() -> None:
    assert density_and_coverage(vectors(50, 0), vectors(50, 1, shift=100)) == (0, 0)


def test_a_vector_is_not_its_own_nearest_where_own_rows_do_not_count() -> None:
    pool = vectors(600, 0)
    own = torch.arange(600)[:, None]
    assert torch.equal(nearest(pool, pool)[1], own[:, 0])
    assert not (nearest(pool, pool, own)[1] == own[:, 0]).any()


@pytest.mark.parametrize(("side", "levels"), [(32, (32, 16)), (64, (64, 32, 16)), (128, (128, 64, 32, 16))])
def test_the_resolution_decides_the_levels_of_the_pyramid(side, levels) -> None:
    reference = PatchReference(noise(4, side), seed=0)
    assert reference.levels_px == levels
    assert reference.distances(noise(4, side)) == (0,) * len(levels)


def test_kid_coarse_orders_sheets_as_the_eye_does(studio) -> None:
    """24 sheets of short trainings, which a person ordered by eye twice, without seeing a number.

    tests/sheets/eyes.csv has both orders, 1 the best, and which training each sheet is of.
    """
    orders = pd.read_csv(SHEETS / "eyes.csv")
    pairs = list(itertools.combinations(orders.itertuples(), 2))
    agreed = [
        (one, other)
        for one, other in pairs
        if (one.first_order < other.first_order) == (one.second_order < other.second_order)
    ]
    coarse = {row.sheet: studio.kid_coarse(cut_apart(SHEETS / row.sheet)[::2]) for row in orders.itertuples()}
    same = [(one.first_order < other.first_order) == (coarse[one.sheet] < coarse[other.sheet]) for one, other in agreed]
    assert len(orders) == 24 and len(agreed) > 0.95 * len(pairs)
    assert np.mean(same) >= 0.85


def cut_apart(path: Path) -> np.ndarray:
    """The pictures (24, 64, 64, 3) of a sheet of four rows."""
    rows = np.asarray(Image.open(path)).reshape(4, 64, 6, 64, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(24, 64, 64, 3)
