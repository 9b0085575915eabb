"""Training the upscaler: what it learns, what it draws, and the way back into the middle."""

import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.errors import AtelierError
from atelier.progress import Progress
from atelier.settings.schema import TrainUpscaler
from atelier.upscaling import train as train_module
from atelier.upscaling.network import save_upscaler
from atelier.upscaling.train import (
    UpscalerTrainer,
    drawn_ahead,
    evaluate_upscaler,
    learning_rate,
    make_upscaler,
    sample_batch,
)

PLAN = TrainUpscaler(scale=2, steps=12, features=8, blocks=1, patch_px=12, batch=4, lr=1e-3, blur_px=0.5, seed=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Stripes and discs: sharp edges, of which Lanczos makes ripples."""
    rows, columns = np.mgrid[:64, :80]
    made = []
    for index in range(8):
        edge = (rows * (index + 1) + columns * (9 - index)) // 60 % 2
        disc = (rows - 30) ** 2 + (columns - 5 * index) ** 2 < 200
        made.append(np.stack([edge * 200, disc * 255, (edge ^ disc) * 180 + 40], axis=2).astype(np.uint8))
    return made


def train(plan: TrainUpscaler, pictures: list[np.ndarray], state: Path) -> UpscalerTrainer:
    trainer = UpscalerTrainer(plan, pictures, CPU, state)
    with Progress("train_upscaler", plan.steps, "steps") as progress:
        assert trainer.train(progress)
    return trainer


def test_a_stopped_training_goes_on_to_the_same_bytes(pictures: list[np.ndarray], tmp_path: Path) -> None:
    whole = train(PLAN, pictures, tmp_path / "whole.safetensors")
    state = tmp_path / "stopped.safetensors"
    for stop_after in (5, 2):
        trainer = UpscalerTrainer(PLAN, pictures, CPU, state)
        trainer.resume()
        calls = count()
        with Progress("train_upscaler", PLAN.steps, "steps") as progress:
            assert not trainer.train(progress, lambda calls=calls, last=stop_after: next(calls) == last)
    resumed = UpscalerTrainer(PLAN, pictures, CPU, state)
    assert resumed.resume()
    assert resumed.step == 7
    with Progress("train_upscaler", PLAN.steps, "steps") as progress:
        resumed.train(progress)
    for name, trainer in (("a", whole), ("b", resumed)):
        save_upscaler(tmp_path / name, trainer.network, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_batches_drawn_in_advance_make_the_same_network(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = train(PLAN, pictures, tmp_path / "at-once.safetensors")
    monkeypatch.setattr(train_module, "DRAWN_AHEAD", {"cpu": 5})
    stopped = UpscalerTrainer(PLAN, pictures, CPU, tmp_path / "ahead.safetensors")
    with Progress("train_upscaler", PLAN.steps, "steps") as progress:
        stopped.train(progress, lambda: stopped.step == 4)
    ahead = UpscalerTrainer(PLAN, pictures, CPU, tmp_path / "ahead.safetensors")
    assert ahead.resume()
    with Progress("train_upscaler", PLAN.steps, "steps") as progress:
        ahead.train(progress)
    for ours, theirs in zip(ahead.network.parameters(), at_once.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_batches_come_in_order_and_only_so_many_are_drawn_in_advance(ahead: int) -> None:
    drawn: list[int] = []

    def draw(step: int) -> int:
        time.sleep((step * 7 % 3) / 1000)  # later ones may be ready first
        drawn.append(step)
        return step

    with drawn_ahead(draw, range(2, 22), ahead) as batches:
        assert [next(batches) for _ in range(10)] == [*range(2, 12)]
    assert max(drawn) <= 11 + ahead
    count = len(drawn)
    time.sleep(0.02)
    assert len(drawn) == count  # no thread is left
    with drawn_ahead(draw, range(2, 22), ahead) as batches:
        assert [*batches] == [*range(2, 22)]


def test_an_error_in_a_thread_is_raised_where_its_batch_is_taken() -> None:
    def draw(step: int) -> int:
        if step == 3:
            raise OSError("the disk is gone")
        return step

    with drawn_ahead(draw, range(9), 4) as batches:
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)


def test_a_foreign_or_torn_state_is_ignored(pictures: list[np.ndarray], tmp_path: Path) -> None:
    whole = train(PLAN, pictures, tmp_path / "whole.safetensors")
    train(PLAN.model_copy(update={"features": 4}), pictures, tmp_path / "foreign.safetensors")
    torn = (tmp_path / "whole.safetensors").read_bytes()[:-100]
    (tmp_path / "torn.safetensors").write_bytes(torn)
    for name in ("foreign", "torn", "absent"):
        trainer = UpscalerTrainer(PLAN, pictures, CPU, tmp_path / f"{name}.safetensors")
        assert not trainer.resume()
        with Progress("train_upscaler", PLAN.steps, "steps") as progress:
            trainer.train(progress)
        for ours, theirs in zip(trainer.network.parameters(), whole.network.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_it_learns_to_beat_lanczos(pictures: list[np.ndarray], tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"steps": 500, "features": 16, "blocks": 2, "patch_px": 10, "lr": 4e-3})
    network = train(plan, pictures[:6], tmp_path / "state.safetensors").network.eval().requires_grad_(False)
    figures = evaluate_upscaler(network, pictures[6:], 2)
    assert figures["psnr_y"]["gain"]["min"] > 0.2
    assert figures["gradient_error"]["gain"]["mean"] < 0
    ours = figures["psnr_y"]["ours"]
    assert ours["min"] <= ours["mean"] <= ours["max"]


def test_the_untrained_network_is_nearly_nearest_neighbours() -> None:
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    nearest = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (make_upscaler(PLAN)(images) - nearest).abs().max() < 0.1


def test_a_batch_is_a_function_of_seed_and_step(pictures: list[np.ndarray]) -> None:
    large, small = sample_batch(PLAN, pictures, 3)
    assert large.shape == (4, 3, 24, 24)
    assert small.shape == (4, 3, 12, 12)
    assert all(map(torch.equal, (large, small), sample_batch(PLAN, pictures, 3)))
    assert not torch.equal(large, sample_batch(PLAN, pictures, 4)[0])
    assert not torch.equal(large, sample_batch(PLAN.model_copy(update={"seed": 1}), pictures, 3)[0])


def test_a_painting_is_learned_from_by_its_area() -> None:
    small, large = np.full((24, 24, 3), 60, np.uint8), np.full((72, 72, 3), 180, np.uint8)
    patches = torch.cat([sample_batch(PLAN, [small, large], step)[0] for step in range(100)])
    of_the_small_one = (patches < 0.5).all(dim=(1, 2, 3)).float().mean()  # a tenth of the area is its
    assert 0.05 < of_the_small_one < 0.16


def test_the_learning_rate_falls_to_nothing() -> None:
    rates = [learning_rate(PLAN, step) for step in range(PLAN.steps + 1)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (PLAN.lr, 0)


def test_a_diverged_training_says_what_to_do(pictures: list[np.ndarray], tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"steps": 40, "lr": 1e30})
    with pytest.raises(AtelierError, match=r"lower train_upscaler\.lr"):
        train(plan, pictures, tmp_path / "state.safetensors")


@pytest.mark.parametrize("stopped", [True, False])
def test_a_diverged_training_saves_no_state_and_is_no_result(
    stopped: bool, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """Neither where it is stopped nor at its end, which need not fall on a look at the loss."""
    path = tmp_path / "state.safetensors"
    trainer = UpscalerTrainer(PLAN.model_copy(update={"steps": 7, "lr": 1e30}), pictures, CPU, path)
    with Progress("train_upscaler", 7, "steps") as progress, pytest.raises(AtelierError, match="lower"):
        trainer.train(progress, lambda: stopped and trainer.step == 5)
    assert not path.exists()
