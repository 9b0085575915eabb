"""Trainings that collapse, diverge, run out of memory or out of time."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.progress import Progress
from atelier.training.monitor import MAX_ROLLBACKS, best
from atelier.training.state import Checkpoints
from atelier.training.trainer import Stopped, Trainer
from tests.collapsing import GOOD, MOMENTS, PLAN, Judged, judged
from tests.datasets import noise
from tests.judged_small import CHEAPER
from tests.stages import ROOT

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> PackedDataset:
    return noise(16, train=16)


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress("train", 1, "kimg") as bars:
        yield bars


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = {"g": trainer.averaged_generator(), "d": trainer.discriminator}
    return {
        f"{name}.{key}": tensor.clone() for name, net in networks.items() for key, tensor in net.state_dict().items()
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> Trainer:
    """An undisturbed training that rolls back once."""
    trainer = judged(dataset, tmp_path_factory.mktemp("whole"))
    with Progress("train", 1, "kimg") as bars, pytest.MonkeyPatch.context() as patch:
        for cheaper in CHEAPER:  # as in each test
            patch.setattr(*cheaper)
        trainer.train(bars)
        trainer.averaged_generator()
    return trainer


def test_the_error_of_a_collapse_names_the_place_and_the_remedies(dataset, progress, tmp_path):
    plan = replace(PLAN, on_collapse="stop")
    for _ in range(2):  # the second time from the saved state, without a step
        trainer = judged(dataset, tmp_path, plan)
        trainer.resume()
        with pytest.raises(AtelierError) as error:
            trainer.train(progress)
        assert trainer.kimg == 0.16
        assert "0.16 kimg: coverage fell from 0.80 at 0.08 kimg to 0.10 at 0.12" in str(error.value)
        assert "train.on_collapse: rollback goes back to 0.08 kimg" in str(error.value)


def test_a_rollback_goes_on_from_the_best_snapshot_with_halved_rates(dataset, tmp_path, capsys):
    trainer = judged(dataset, tmp_path)
    rates = {}
    with Progress("train", 1, "kimg") as progress:
        trainer.train(
            progress,
            stop=lambda: rates.update({trainer.step: trainer.networks.optimizer_g.param_groups[0]["lr"]}),
        )
    assert [(back.from_kimg, back.to_kimg) for back in trainer.curves.rollbacks] == [(0.16, 0.08)]
    assert [row["kimg"] for row in trainer.final_curves().quality] == [
        0.04, 0.08, 0.12, 0.16, 0.2, 0.24,
    ]  # fmt: skip
    assert rates[30] == PLAN.lr / 2
    assert "back to 0.08 kimg with halved learning rates" in capsys.readouterr().out


def test_a_training_stopped_by_a_collapse_resumes_under_rollback_to_the_same_bits(dataset, whole, progress, tmp_path):
    with pytest.raises(AtelierError):
        judged(dataset, tmp_path / "one", replace(PLAN, on_collapse="stop")).train(progress)
    second = judged(dataset, tmp_path / "one")
    assert second.resume()
    second.train(progress)
    assert same(weights(second), weights(whole))
    assert second.final_curves() == whole.final_curves()


@pytest.mark.parametrize("stop_at", [12, 25])  # before the rollback from step 20 to 10, and on the new course
def test_a_training_that_was_stopped_rolls_back_to_the_same_bits(dataset, whole, progress, tmp_path, stop_at):
    first = judged(dataset, tmp_path / "halves")
    with pytest.raises(Stopped):
        first.train(progress, stop=lambda: first.step == stop_at and (stop_at == 12 or first.curves.rollbacks))
    second = judged(dataset, tmp_path / "halves")
    assert second.resume()
    assert second.step == stop_at
    second.train(progress)
    assert same(weights(second), weights(whole))
    assert second.final_curves() == whole.final_curves()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed trainings are forks of one process")
def test_a_training_killed_at_any_moment_of_a_rollback_ends_with_the_same_bits(dataset, whole, progress, tmp_path):
    killed = subprocess.run(
        [sys.executable, "-m", "tests.collapsing", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [line for line in killed.stdout.splitlines() if not line.startswith("train: ")]
    assert ends == [str(-signal.SIGKILL)] * len(MOMENTS)
    for moment, left in zip(MOMENTS, ([20, 15, 10], [20, 15, 10], [15, 10]), strict=True):
        assert Checkpoints(tmp_path / moment).steps() == left
        again = judged(dataset, tmp_path / moment)
        assert again.resume()
        again.train(progress)
        assert len(again.curves.rollbacks) == 1
        assert same(weights(again), weights(whole)), moment
        assert again.final_curves() == whole.final_curves(), moment


def test_a_training_that_rolls_back_does_not_resume_a_state_after_an_ignored_collapse(dataset, progress, tmp_path):
    judged(dataset, tmp_path, replace(PLAN, on_collapse="ignore")).train(progress)
    trainer = judged(dataset, tmp_path)
    trainer.resume()
    assert trainer.kimg <= 0.16


def test_a_training_that_ignores_collapses_does_not_resume_a_state_after_a_rollback(dataset, progress, tmp_path):
    judged(dataset, tmp_path).train(progress)
    trainer = judged(dataset, tmp_path, replace(PLAN, on_collapse="ignore"))
    trainer.resume()
    assert not trainer.curves.rollbacks


def test_a_diverged_training_rolls_back_at_most_a_few_times(dataset, progress, tmp_path):
    class Diverging(Judged):
        def advance(self):
            super().advance()
            if self.step == 23:
                with torch.no_grad():
                    next(self.discriminator.parameters()).fill_(torch.nan)

    trainer = Diverging(PLAN, dataset, CPU, tmp_path)
    trainer.judgement = {(0.08, 0): GOOD}
    with pytest.raises(AtelierError, match=r"no numbers any more.*went back 3 times"):
        trainer.train(progress)
    assert len(trainer.curves.rollbacks) == MAX_ROLLBACKS
    assert {back.to_kimg for back in trainer.curves.rollbacks} == {0.08}


def test_the_state_of_the_best_snapshot_is_kept_and_can_be_loaded(dataset, progress, tmp_path):
    trainer = judged(dataset, tmp_path, replace(PLAN, on_collapse="ignore"))
    at_best: dict[str, torch.Tensor] = {}
    trainer.train(progress, stop=lambda: (trainer.step == 10 and at_best.update(weights(trainer))) or False)
    row = best(trainer.final_curves().quality)
    assert row["kimg"] == 0.08
    assert len(list(tmp_path.glob("state-*"))) == 3
    trainer.go_to(row)
    assert trainer.kimg == 0.08
    assert same(weights(trainer), at_best)


def test_a_missing_state_of_the_best_snapshot_is_an_error(dataset, progress, tmp_path):
    trainer = judged(dataset, tmp_path, replace(PLAN, on_collapse="ignore"))
    trainer.train(progress)
    (tmp_path / "state-000000010.safetensors").unlink()
    with pytest.raises(AtelierError, match="missing or damaged: delete"):
        trainer.go_to(best(trainer.curves.quality))
    assert not judged(dataset, tmp_path).resume()  # and no training goes on that might need it


def test_minutes_end_the_training_between_two_steps_and_more_minutes_resume_it(dataset, progress, tmp_path):
    short = Trainer(replace(PLAN, minutes=1e-9), dataset, CPU, tmp_path)
    short.train(progress)
    assert (short.step, short.ended_by()) == (1, "minutes")
    assert [row["kimg"] for row in short.final_curves().quality] == [0.008]
    again = Trainer(replace(PLAN, minutes=1e-9), dataset, CPU, tmp_path)
    again.resume()
    again.train(progress)
    assert again.step == 1  # the minutes are of training, not of a run
    longer = Trainer(replace(PLAN, images=40, minutes=10), dataset, CPU, tmp_path)
    assert longer.resume()
    longer.train(progress)
    assert (longer.images_seen, longer.ended_by()) == (40, "kimg")


def test_adaptive_augmentation_is_resumed_bit_for_bit(dataset, progress, tmp_path):
    plan = replace(PLAN, augment_probability="adaptive", ema="power", loss="relativistic", on_collapse="ignore")
    whole = Trainer(plan, dataset, CPU, tmp_path / "whole")
    whole.train(progress)
    first = Trainer(plan, dataset, CPU, tmp_path / "halves")
    with pytest.raises(Stopped):
        first.train(progress, stop=lambda: first.step == 20)
    second = Trainer(plan, dataset, CPU, tmp_path / "halves")
    assert second.resume()
    assert second.augment_probability == first.augment_probability
    second.train(progress)
    assert same(weights(whole), weights(second))
    assert whole.augment_probability == second.augment_probability
    assert list(whole.final_curves().losses[0]) == ["kimg", "loss_d", "loss_g", "d_gap", "penalty"]
    assert whole.final_curves() == second.final_curves()


def test_a_training_that_ran_out_of_memory_prints_a_line_and_keeps_its_micro_batches_when_resumed(
    dataset, tmp_path, capsys
):
    def refuses_more_than_four(module, inputs):
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("as CUDA says it")

    trainer = Trainer(replace(PLAN, images=40), dataset, CPU, tmp_path)
    trainer.discriminator.register_forward_pre_hook(refuses_more_than_four)
    with Progress("train", 1, "kimg") as progress:
        trainer.train(progress)
    assert "out of memory at 8 pictures a time; goes on with 4 a time" in capsys.readouterr().out
    again = Trainer(replace(PLAN, images=80), dataset, CPU, tmp_path)
    assert again.resume()
    assert again.micro_batch == 4


def test_running_out_of_memory_in_the_adaptive_augmentation_halves_the_micro_batches(dataset, tmp_path, capsys):
    """Every 16 steps; until then all eight pictures fit."""
    trainer = Trainer(replace(PLAN, images=136, augment_probability="adaptive"), dataset, CPU, tmp_path)

    def refuses_in_the_look(module, inputs):
        if trainer.step == 15 and not torch.is_grad_enabled() and len(inputs[0]) > 4:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    trainer.discriminator.register_forward_pre_hook(refuses_in_the_look)
    with Progress("train", 1, "kimg") as progress:
        trainer.train(progress)
    assert "out of memory at 8 pictures a time; goes on with 4 a time" in capsys.readouterr().out
    assert trainer.augment_probability >= 0


def test_a_state_with_nan_is_never_saved(dataset, tmp_path):
    """A stop between two looks at the losses, which is where 50 steps may have passed unseen."""
    trainer = Trainer(replace(PLAN, snapshot_kimg=10), dataset, CPU, tmp_path)

    def stop() -> bool:
        if trainer.step == 3:
            trainer.save()
        if trainer.step == 7:
            with torch.no_grad():
                next(trainer.discriminator.parameters()).fill_(torch.nan)
        return trainer.step == 9

    with Progress("train", 1, "kimg") as progress, pytest.raises(AtelierError, match="no numbers any more"):
        trainer.train(progress, stop)
    again = Trainer(replace(PLAN, snapshot_kimg=10), dataset, CPU, tmp_path)
    assert again.resume()
    assert again.step == 3
    assert all(tensor.isfinite().all() for tensor in again.discriminator.state_dict().values())


def test_a_state_that_cannot_be_resumed_is_listed_with_the_reason(dataset, tmp_path):
    trainer = Trainer(replace(PLAN, images=40), dataset, CPU, tmp_path)
    with Progress("train", 1, "kimg") as progress:
        trainer.train(progress)
    (state,) = sorted(tmp_path.glob("state-*"))[-1:]
    state.write_bytes(state.read_bytes()[:-100])
    again = Trainer(replace(PLAN, images=40), dataset, CPU, tmp_path)
    again.resume()
    assert f"{state} is damaged" in again.passed_over[0]
