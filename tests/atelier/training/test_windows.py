"""Random windows of whole paintings: where they lie, what they show, and what decides them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.data.dataset import PackedDataset, Strips
from atelier.pictures import picture_size
from atelier.progress import Progress
from atelier.settings.training import Train
from atelier.training.config import TrainingPlan
from atelier.training.data import RandomWindows
from atelier.training.distributed import ProcessGroup
from atelier.training.outputs import write_outputs
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise_with_strips
from tests.several import PLANS

CPU = torch.device("cpu")
SIDE = 16  # of a window
FULL = 24  # the shorter side of a strip
CROPS = 4


def ramps(lengths: list[int], landscape: list[bool], crops: int = CROPS, min_side: int = SIDE) -> Strips:
    """Paintings whose red says how far along the longer side a place is, green how far across, blue which painting."""
    lines = [np.zeros((length, FULL, 3), np.uint8) for length in lengths]
    for number, painting in enumerate(lines):
        painting[..., 0] = np.arange(len(painting))[:, None]
        painting[..., 1] = np.arange(FULL)
        painting[..., 2] = 40 * number
    start = np.cumsum([0, *lengths[:-1]])
    smallest = np.full(len(lengths), min_side)
    return Strips(np.concatenate(lines), start, np.array(lengths), np.array(landscape), smallest, crops)


def windows(strips: Strips, mirror: bool = False, seed: int = 1) -> RandomWindows:
    return RandomWindows(strips, SIDE, mirror, seed, CPU)


def levels(batch: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, H, W) as whole levels from 0 to 255."""
    return ((batch + 1) * 127.5).round()


SEVERAL = ramps([FULL, 60, 200, 37], [False, True, False, True])


def test_windows_are_squares_in_the_range_and_memory_format_of_images() -> None:
    batch = windows(SEVERAL).batch(0, 10)
    assert batch.shape == (10, 3, SIDE, SIDE) and batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.min() >= -1 and batch.max() <= 1
    assert torch.allclose(levels(batch), (batch + 1) * 127.5, atol=1e-4)


def test_an_epoch_has_as_many_windows_of_each_painting_as_crops_spread_over_its_longer_side() -> None:
    data = windows(ramps([200] * 3, [True] * 3))
    for epoch in range(2):
        shown = levels(torch.cat([data.batch(3 * epoch + step, 4) for step in range(3)]))
        for painting in range(3):
            own = shown[shown[:, 2, 8, 8] == 40 * painting]
            assert len(own) == CROPS
            first = sorted(own[:, 0, 8, 0].tolist())  # red of the left edge
            for part, left in enumerate(first):
                assert part * 176 / CROPS - 2 <= left <= (part + 1) * 184 / CROPS + 2


def test_all_of_a_painting_is_shown_at_every_size() -> None:
    data = windows(ramps([60], [True], crops=2))
    shown = levels(torch.cat([data.batch(step, 50) for step in range(6)]))
    assert shown[:, 0].min() <= 1 and shown[:, 0].max() >= 58
    assert shown[:, 1].min() <= 1 and shown[:, 1].max() >= 22
    sides = shown[:, 1, -1, 8] - shown[:, 1, 0, 8]  # green grows downwards
    assert sides.min() == pytest.approx(SIDE - 1, abs=1) and sides.max() == pytest.approx(FULL - 1.5, abs=1)
    assert ((sides > 17.5) & (sides < 20.5)).any()


def test_landscapes_keep_left_and_right_portraits_up_and_down() -> None:
    for landscape in (True, False):
        batch = levels(windows(ramps([100], [landscape])).batch(0, 4))
        along = batch[:, 0].diff(dim=2 if landscape else 1)
        across = batch[:, 1].diff(dim=1 if landscape else 2)
        assert (along >= 0).all() and (across >= 0).all() and along.sum() > 0 and across.sum() > 0


def test_with_mirror_half_of_an_epoch_is_mirrored() -> None:
    data = windows(ramps([100], [True]), mirror=True)
    batch = levels(data.batch(0, 2 * CROPS))
    grows = (batch[:, 0, 8, -1] > batch[:, 0, 8, 0]).tolist()
    assert sorted(grows) == [False] * CROPS + [True] * CROPS


def test_a_window_of_the_trained_size_has_the_paintings_own_pixels() -> None:
    strips = ramps([FULL], [False])
    strips.pixels[:] = np.random.default_rng(0).integers(0, 256, strips.pixels.shape, dtype=np.uint8)
    found = 0
    for image in levels(windows(strips).batch(0, 40)).permute(0, 2, 3, 1).numpy():
        places = ((y, x) for y in range(FULL - SIDE + 1) for x in range(FULL - SIDE + 1))
        found += any(np.array_equal(image, strips.pixels[y : y + SIDE, x : x + SIDE]) for y, x in places)
    assert 1 <= found < 20


def test_a_whole_square_is_resized_as_pillow_does() -> None:
    strips = ramps([FULL], [False], min_side=FULL)
    # not of the full range, as Pillow cuts off what goes beyond it between its two passes
    strips.pixels[:] = np.random.default_rng(0).integers(80, 176, strips.pixels.shape, dtype=np.uint8)
    image = levels(windows(strips).batch(0, 1))[0].permute(1, 2, 0).numpy()
    expected = Image.fromarray(strips.pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    assert np.abs(image - np.asarray(expected).astype(float)).max() <= 1  # it rounds there too


@pytest.mark.parametrize("aspect", ["3:2", "2:3", "16:9"])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_of_a_shape_are_undistorted_and_stay_within_their_paintings(aspect, mirror) -> None:
    lengths, landscape = [FULL, 33, 200, 25, 60, 200], [True] * 3 + [False] * 3
    strips = ramps(lengths, landscape, min_side=12)
    data = RandomWindows(strips, SIDE, mirror, 1, CPU, aspect)
    height, width = picture_size(SIDE, aspect)
    batch = data.batch(0, 160)
    assert batch.shape == (160, 3, height, width) and batch.isfinite().all()
    for image in levels(batch):
        number = round(float(image[2].mean()) / 40)
        assert (image[2] == 40 * number).all()  # nothing of another painting
        along, across = (image[0], image[1]) if landscape[number] else (image[0].T, image[1].T)
        steps = [
            float((channel[:, -3] - channel[:, 2]).mean().abs() / (channel.shape[1] - 5))
            for channel in (along, across.T)
        ]  # px of the strip in each direction, by px of the window
        assert steps[0] == pytest.approx(steps[1], abs=0.2)
        assert 0.6 < steps[0] <= 1.7
    shown = levels(torch.cat([data.batch(step, 160) for step in range(12)]))
    for number, length in enumerate(lengths):
        own = shown[shown[:, 2, 5, 5] == 40 * number]
        assert own[:, 0].min() <= 4 and own[:, 0].max() >= length - 5
        assert own[:, 1].min() <= 2 and own[:, 1].max() >= FULL - 4


def test_windows_depend_on_seed_and_step_alone() -> None:
    one, other = (windows(SEVERAL, mirror=True) for _ in range(2))
    for step in range(12):
        one.batch(step, 7)
    assert torch.equal(one.batch(3, 7), other.batch(3, 7))
    assert not torch.equal(one.batch(3, 7), one.batch(4, 7))
    assert not torch.equal(one.batch(3, 7), windows(SEVERAL, mirror=True, seed=2).batch(3, 7))


def test_windows_do_not_depend_on_the_number_of_processes_nor_on_how_many_are_resized_together(monkeypatch) -> None:
    whole = windows(SEVERAL).batch(5, 8)
    parts = [windows(SEVERAL).batch(5, 8, ProcessGroup(rank, 4)) for rank in range(4)]
    assert torch.equal(whole, torch.cat(parts))
    monkeypatch.setattr("atelier.training.data.RESIZED_AT_ONCE", 1)
    assert torch.equal(whole, windows(SEVERAL).batch(5, 8))


def weights(trainer: Trainer) -> list[torch.Tensor]:
    networks = (trainer.averaged_generator(), trainer.discriminator)
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


@pytest.mark.usefixtures("judged_small")
@pytest.mark.parametrize("name", ["sketch-warm", "sketch-adaptive"])
def test_a_training_on_windows_resumes_bit_for_bit_and_differs_from_one_on_squares(name, tmp_path) -> None:
    plan: TrainingPlan = replace(PLANS[name], images=72)
    dataset = noise_with_strips(plan.network.resolution, 20)

    def trained(folder: str, dataset: PackedDataset, stop_at: int | None = None) -> Trainer:
        trainer = Trainer(plan, dataset, CPU, tmp_path / folder)
        trainer.resume()
        with Progress("train", 1, "kimg") as progress:
            trainer.train(progress, stop=lambda: trainer.step == stop_at)
        return trainer

    whole = weights(trained("whole", dataset))
    with pytest.raises(Stopped):
        trained("halves", dataset, stop_at=11)
    resumed = weights(trained("halves", dataset))
    assert all(map(torch.equal, whole, resumed))
    squares = weights(trained("squares", replace(dataset, strips=None)))
    assert not all(map(torch.equal, whole, squares))


@pytest.mark.usefixtures("judged_small")
def test_the_models_facts_have_the_crops(tmp_path) -> None:
    plan = replace(PLANS["dcgan"], images=4)
    for name, crops in (("windows", 4), ("squares", None)):
        dataset = noise_with_strips(plan.network.resolution, 20)
        dataset = dataset if crops else replace(dataset, strips=None)
        trainer = Trainer(plan, dataset, CPU, tmp_path / f"{name}-states")
        trainer.advance()
        write_outputs(tmp_path / name, trainer, dataset, Train(arch="dcgan", batch=4), "0" * 64, None)
        facts = json.loads((tmp_path / name / "model" / "model.json").read_bytes())
        assert facts.get("crops") == crops
