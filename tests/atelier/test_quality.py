import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.kid import KernelInceptionDistance

from atelier.errors import AtelierError
from atelier.gallery.painter import paint
from atelier.quality import FEATURES, Measure, Quality, RandomFeatures, Reference, glance, judge, panel
from atelier.quality.patches import PatchReference
from atelier.quality.statistics import density_and_coverage, frechet, kid, mind, nearest

CPU = torch.device("cpu")
FIRST_THREE = [-0.057984, 0.697587, 0.72984]
HELD_OUT, TRAINING, GENERATED = 60, 180, 120
PAINTINGS = Path(__file__).parents[3] / "shared" / "paintings"


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    """Paintings, 64 px, in a seeded order: real ones where there are any, else the built-in archive's."""
    count = HELD_OUT + TRAINING + GENERATED
    if PAINTINGS.is_dir():
        paths = sorted((PAINTINGS / "images").glob("*.jpg"))
        chosen = np.random.default_rng(0).permutation(len(paths))[:count]
        works = (Image.open(paths[n]).convert("RGB") for n in chosen)
    else:
        works = (paint(1, n, 128) for n in range(count))
    return np.stack([np.asarray(ImageOps.fit(work, (64, 64))) for work in works])


@pytest.fixture(scope="module")
def judged(squares) -> Callable[..., Quality]:
    """Quality of what a perfect painter would paint (paintings that are in neither set), spoilt in some way."""
    held_out, training, fresh = np.split(squares, [HELD_OUT, HELD_OUT + TRAINING])

    @lru_cache
    def judged(spoil: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> Quality:
        pictures = spoil(fresh, training) if spoil else fresh
        return judge(pictures, training, held_out, mirror=True, seed=0, device=CPU)[0]

    return judged


def blurred(fresh: np.ndarray, _: np.ndarray) -> np.ndarray:
    tiles = functional.avg_pool2d(torch.from_numpy(fresh).permute(0, 3, 1, 2).float(), 3, 1, 1)
    return tiles.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def checkered(fresh: np.ndarray, _: np.ndarray, strength: int = 10) -> np.ndarray:
    board = (np.indices(fresh.shape[1:3]).sum(0) % 2 * 2 - 1)[..., None] * strength
    return np.clip(fresh.astype(int) + board, 0, 255).astype(np.uint8)


def faintly_checkered(fresh: np.ndarray, training: np.ndarray) -> np.ndarray:
    return checkered(fresh, training, strength=6)


def grainy(fresh: np.ndarray, _: np.ndarray) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 12, fresh.shape)
    return np.clip(fresh + grain, 0, 255).astype(np.uint8)


def negative(fresh: np.ndarray, _: np.ndarray) -> np.ndarray:
    return 255 - fresh


def of_few_modes(fresh: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Only the darkest third, three times."""
    darkest = fresh[np.argsort(fresh.mean((1, 2, 3)))[: len(fresh) // 3]]
    return np.resize(darkest, fresh.shape)


def copied(_: np.ndarray, training: np.ndarray) -> np.ndarray:
    return training[:GENERATED]


def copied_in_a_mirror(_: np.ndarray, training: np.ndarray) -> np.ndarray:
    return training[:GENERATED, :, ::-1]


def test_fresh_paintings_score_like_the_floor(judged) -> None:
    quality = judged()
    for measure in (quality.kid_rand, quality.mind_rand, quality.swd, quality.density, quality.coverage):
        assert abs(measure.value - measure.floor) < 4 * measure.floor_spread
    assert quality.memorisation.value == pytest.approx(1, abs=0.15)
    assert quality.memorisation.floor == pytest.approx(1, abs=0.15)


def moved(quality: Quality) -> set[str]:
    """Which of the panel's numbers say that something is wrong."""
    levels = quality.swd_levels

    def share(measure: Measure) -> float:
        return measure.value / measure.floor

    wrong = {
        "kid_rand": quality.kid_rand.value > quality.kid_rand.floor + 0.5,
        "mind_rand": share(quality.mind_rand) > 2,
        "finest patches": share(levels[64]) > 2,
        "coarsest patches": share(levels[16]) > 2,
        "density": share(quality.density) < 0.75,
        "coverage": share(quality.coverage) < 0.75,
        "memorisation": quality.memorisation.value < 0.8,
    }
    return {name for name, found in wrong.items() if found}


@pytest.mark.parametrize(
    ("spoil", "by"),
    [
        (None, set()),
        (blurred, {"finest patches"}),
        (checkered, {"finest patches"}),
        (grainy, {"finest patches"}),
        (of_few_modes, {"kid_rand", "mind_rand", "coverage", "coarsest patches"}),
        (negative, {"kid_rand", "mind_rand", "density", "coverage", "coarsest patches"}),
        (copied, {"memorisation"}),
        (copied_in_a_mirror, {"memorisation"}),
    ],
)  # fmt: skip
def test_what_is_spoilt_moves_the_numbers_that_are_there_for_it_and_no_others(judged, spoil, by) -> None:
    assert moved(judged(spoil)) == by


def test_copies_are_nearer_than_any_painting_is_to_another(judged) -> None:
    assert judged(copied).memorisation.value < 0.01
    assert judged(copied_in_a_mirror).memorisation.value < 0.01


def test_a_stronger_checkerboard_moves_the_finest_level_further(judged) -> None:
    levels = [judged(spoil).swd_levels[64].value for spoil in (None, faintly_checkered, checkered)]
    assert levels == sorted(levels)
    assert levels[1] > 1.5 * levels[0]


def test_the_nearest_training_painting_is_named_with_its_side(squares) -> None:
    held_out, training = squares[:20], squares[20:60]
    pictures = np.concatenate([training[3:6], training[7:9, :, ::-1]])
    _, kin = judge(pictures, training, held_out, mirror=True, seed=0, device=CPU)
    assert kin.rows.tolist() == [3, 4, 5, 7, 8]
    assert kin.mirrored.tolist() == [False, False, False, True, True]


def test_everything_is_compared_in_groups_of_one_size(judged) -> None:
    compared = judged().to_metrics()["compared"]
    assert compared == {
        "generated": GENERATED, "training": TRAINING, "held_out": HELD_OUT, "group": HELD_OUT,
        "features": "rand-v1",
    }  # fmt: skip


def test_the_same_pictures_give_the_same_numbers_from_memory_or_from_a_memory_map(squares, tmp_path) -> None:
    np.save(tmp_path / "images.npy", squares[:90])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    numbers = [
        judge(squares[90:140], images[:60], images[60:], mirror=True, seed=3, device=CPU)[0].to_metrics()
        for images in (squares[:90], mapped)
    ]
    assert numbers[0] == numbers[1]


def test_metrics_are_plain_numbers_of_six_digits(judged) -> None:
    metrics = json.loads(json.dumps(judged().to_metrics(), allow_nan=False))
    assert set(metrics["kid_rand"]) == {"value", "spread", "floor", "floor_spread"}
    assert all(float(f"{number:.6g}") == number for number in metrics["swd"].values())
    assert set(metrics["swd_levels"]) == {"64px", "32px", "16px"}


def noise(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("counts", [(40, 9, 2), (2, 2, 2), (7, 3, 30)])
def test_few_pictures_are_judged_as_well_as_they_can_be(counts) -> None:
    sides = [noise(count, seed=seed) for seed, count in enumerate(counts)]
    quality, _ = judge(*sides, mirror=False, seed=0, device=CPU)
    json.dumps(quality.to_metrics(), allow_nan=False)
    assert quality.group == min(counts)


def test_a_floor_is_that_of_ten_groups_however_many_paintings_there_are(monkeypatch) -> None:
    seen = []
    floor = panel._Panel.floor
    monkeypatch.setattr(panel._Panel, "floor", lambda self, *args: seen.append(args) or floor(self, *args))
    judge(noise(4), noise(60, seed=1), noise(4, seed=2), mirror=False, seed=0, device=CPU)
    rows = np.concatenate([rows for _, rows in seen])
    assert len(seen) == 10
    assert len(set(rows.tolist())) == 40


def test_a_single_held_out_painting_is_too_few() -> None:
    with pytest.raises(AtelierError, match=r"1 held-out .*augment\.held_out"):
        judge(noise(8), noise(8), noise(1), mirror=True, seed=0, device=CPU)


def test_held_out_paintings_that_are_training_paintings_divide_by_nothing() -> None:
    quality, _ = judge(noise(8), noise(8, seed=1), noise(8, seed=1), mirror=False, seed=0, device=CPU)
    json.dumps(quality.to_metrics(), allow_nan=False)


def test_features_do_not_depend_on_the_batch_or_on_how_pictures_arrive() -> None:
    pictures = noise(40, 64)
    network = RandomFeatures()
    features = network(pictures)
    assert features.shape == (40, FEATURES) and features.dtype == torch.float32
    signed = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.allclose(network(signed), features, atol=1e-5)
    assert torch.allclose(network(pictures[7:8]), features[7:8], atol=1e-5)


def test_the_network_is_the_same_in_every_process_and_never_touches_torchs_random_numbers() -> None:
    before = torch.random.get_rng_state()
    features = RandomFeatures()(np.full((1, 16, 16, 3), 200, np.uint8))[0]
    assert torch.equal(before, torch.random.get_rng_state())
    assert features[:3].tolist() == pytest.approx(FIRST_THREE, rel=1e-4)


def vectors(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.filterwarnings("ignore:.*save all extracted features:UserWarning")
@pytest.mark.parametrize("of", ["vectors", "paintings"])
def test_our_kid_is_that_of_torchmetrics(squares, of) -> None:
    if of == "vectors":
        ours, theirs = vectors(80, 0), vectors(80, 1, shift=0.2)
    else:
        features = RandomFeatures()(np.concatenate([squares[:80], blurred(squares[80:160], squares)]))
        ours, theirs = Reference.of(features[:80]).standardise(features).split(80)
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=80)
    metric.set_dtype(torch.float64)
    with torch.random.fork_rng():  # it shuffles with the global generator
        metric.update(ours.double(), real=True)
        metric.update(theirs.double(), real=False)
        expected = float(metric.compute()[0])
    assert abs(expected) > 1e-3
    assert kid(ours, theirs) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [300, 40])  # more vectors than each has numbers, and fewer
def test_our_frechet_distance_is_that_of_torch_fidelity(count) -> None:
    ours, theirs = (
        torch.randn(count, 64, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + seed
        for seed in (0, 1)
    )
    expected = fid_statistics_to_metric(*map(fid_features_to_statistics, (ours, theirs)), verbose=False)
    assert frechet(ours, theirs) == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    assert frechet(ours, ours) == pytest.approx(0, abs=1e-9)


def test_a_reference_sets_the_scale_of_kid() -> None:
    reference = Reference.of(1000 * vectors(200, 0) + 5)
    assert abs(reference.kid(1000 * vectors(200, 1) + 5)) < 0.1
    assert reference.kid(1000 * vectors(200, 1, shift=0.5) + 5) > 0.5


def test_a_glance_is_the_cheap_part_of_the_panel_over_groups_as_large_as_the_reference() -> None:
    reference, features = Reference.of(vectors(20, 0)), vectors(50, 1)
    seen = glance(reference, features, seed=3)
    real, fake = reference.standardise(reference.features), reference.standardise(features)
    groups = [fake[:20], fake[20:40]]
    assert seen.kid_rand == reference.kid(features)
    assert seen.mind_rand == pytest.approx(np.mean([mind(group, real, 3) for group in groups]))
    found = [density_and_coverage(real, group) for group in groups]
    assert (seen.density, seen.coverage) == pytest.approx(tuple(np.mean(found, 0)))


def test_a_glance_sees_lost_modes_and_fewer_pictures_than_paintings() -> None:
    reference = Reference.of(vectors(60, 0))
    varied, alike = vectors(60, 1), vectors(60, 1)[:3].repeat(20, 1)
    assert glance(reference, alike, 0).coverage < glance(reference, varied, 0).coverage / 2
    assert np.isfinite(glance(reference, vectors(7, 1), 0).kid_rand)


def test_a_feature_that_never_varies_does_no_harm() -> None:
    constant = torch.cat([vectors(50, 0), torch.ones(50, 1)], 1)
    assert np.isfinite(Reference.of(constant).kid(constant))


def test_mind_of_a_shift_is_three_times_its_square() -> None:
    ours = vectors(3000, 0)
    assert mind(ours, ours + 0.5, seed=0) == pytest.approx(3 * 24 * 0.25, rel=0.1)
    assert mind(ours, ours, seed=0) == 0


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
