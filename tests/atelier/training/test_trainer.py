"""The training loop: exact resumption, data order, averages and curves."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig
from atelier.progress import Progress
from atelier.training import monitor
from atelier.training.config import TrainingPlan
from atelier.training.data import ResidentData
from atelier.training.initial import Ema
from atelier.training.losses import NonSaturating
from atelier.training.state import generator_for
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise
from tests.judged_small import CHEAPER

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
PLAN = TrainingPlan(
    network=NetworkConfig("dcgan", 32, {"nz": 8, "ngf": 8, "ndf": 4}),
    batch=8,
    seed=3,
    lr=2e-4,
    lr_discriminator=2e-4,
    beta1=0.5,
    ema=0.99,
    augment=("translation", "brightness", "saturation", "contrast", "cutout"),
    augment_probability=0.8,
    snapshot_kimg=0.08,
    images=200,
    lr_decay=0,
    quality_samples=16,
)
SHORT = replace(PLAN, images=40)


@pytest.fixture(scope="module")
def dataset() -> PackedDataset:
    return noise(32, train=20)


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress("train", 1, "kimg") as bars:
        yield bars


@pytest.fixture(scope="module")
def rates() -> list[float]:
    """The learning rate of each step of `whole`."""
    return []


@pytest.fixture(scope="module")
def whole(dataset, rates, tmp_path_factory) -> Trainer:
    """An undisturbed training with falling learning rates."""
    trainer = Trainer(replace(PLAN, lr_decay=0.5), dataset, CPU, tmp_path_factory.mktemp("whole"))
    with Progress("train", 1, "kimg") as bars, pytest.MonkeyPatch.context() as patch:
        for cheaper in CHEAPER:  # as in each test
            patch.setattr(*cheaper)
        trainer.train(bars, stop=lambda: rates.append(trainer.networks.optimizer_g.param_groups[0]["lr"]) or False)
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.averaged_generator().state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(dataset, whole, progress, tmp_path):
    plan = replace(PLAN, lr_decay=0.5)
    first = Trainer(plan, dataset, CPU, tmp_path / "halves")
    with pytest.raises(Stopped):
        first.train(progress, stop=lambda: first.images_seen == 120)
    second = Trainer(plan, dataset, CPU, tmp_path / "halves")
    assert second.resume()
    assert second.images_seen == 120
    second.train(progress)

    assert same(weights(whole), weights(second))
    assert whole.final_curves() == second.final_curves()
    assert same(whole.discriminator.state_dict(), second.discriminator.state_dict())


def test_a_training_asked_to_stop_saves_its_state_between_two_steps(dataset, progress, tmp_path):
    trainer = Trainer(PLAN, dataset, CPU, tmp_path)
    with pytest.raises(Stopped):
        trainer.train(progress, stop=lambda: trainer.step == 5)
    again = Trainer(PLAN, dataset, CPU, tmp_path)
    assert again.resume()
    assert again.step == 5


def test_a_shorter_training_does_not_start_from_a_longer_ones_end(dataset, progress, tmp_path):
    long = Trainer(PLAN, dataset, CPU, tmp_path)
    long.train(progress)
    short = Trainer(replace(PLAN, images=80), dataset, CPU, tmp_path)
    short.resume()
    assert short.images_seen <= 80


def test_a_damaged_state_is_ignored_and_the_training_begins_anew(dataset, progress, tmp_path):
    Trainer(SHORT, dataset, CPU, tmp_path / "torn").train(progress)
    for state in (tmp_path / "torn").glob("state-*"):
        state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    again = Trainer(SHORT, dataset, CPU, tmp_path / "torn")
    assert not again.resume()
    again.train(progress)
    fresh = Trainer(SHORT, dataset, CPU, tmp_path / "fresh")
    fresh.train(progress)
    assert same(weights(again), weights(fresh))


def test_unfinished_state_files_of_a_killed_training_are_deleted_with_the_next_save(dataset, progress, tmp_path):
    for name in (".state-000000001.safetensors.a1b2c3d4.tmp", ".tmp9bWc98", "mine.tmp"):
        (tmp_path / name).write_bytes(b"half a state")
    Trainer(SHORT, dataset, CPU, tmp_path).train(progress)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == ["mine.tmp"]


def test_a_state_of_other_networks_is_not_loaded(dataset, progress, tmp_path):
    Trainer(SHORT, dataset, CPU, tmp_path).train(progress)
    wider = replace(SHORT, network=NetworkConfig("dcgan", 32, {"nz": 8, "ngf": 12, "ndf": 4}))
    trainer = Trainer(wider, dataset, CPU, tmp_path)
    assert not trainer.resume()
    assert not trainer.networks.optimizer_g.state


def test_the_learning_rates_fall_to_zero_at_the_end(whole, rates):
    assert rates[:13] == [2e-4] * 13
    assert rates[13:] == pytest.approx([2e-4 * left / 12.5 for left in range(12, 0, -1)])


def test_r3gans_schedules_reach_both_optimisers(dataset, progress, tmp_path):
    trainer = Trainer(replace(PLAN, lr_decay="cosine", beta2="rising"), dataset, CPU, tmp_path)
    groups = [adam.param_groups[0] for adam in (trainer.networks.optimizer_g, trainer.networks.optimizer_d)]
    seen = []
    trainer.train(progress, stop=lambda: seen.append([(group["lr"], *group["betas"]) for group in groups]) or False)
    generators, discriminators = zip(*seen, strict=True)
    assert generators == discriminators
    assert generators[0] == (2e-4, 0.5, 0.9)
    assert generators[12] == pytest.approx((1.297e-4, 0.5, 0.942), rel=1e-3)  # at .48
    assert generators[-1] == pytest.approx((5e-5, 0.5, 0.99), rel=0.02)


def test_seeds_change_the_weights_and_equal_seeds_do_not(dataset, tmp_path):
    one = Trainer(PLAN, dataset, CPU, tmp_path)
    twin = Trainer(PLAN, dataset, CPU, tmp_path)
    other = Trainer(replace(PLAN, seed=4), dataset, CPU, tmp_path)
    assert same(one.generator.state_dict(), twin.generator.state_dict())
    assert not same(one.generator.state_dict(), other.generator.state_dict())


def test_the_curves_have_a_row_for_each_snapshot_and_one_for_the_remaining_steps(whole, tmp_path):
    curves = whole.final_curves()
    assert [row["kimg"] for row in curves.losses] == [0.08, 0.16, 0.2]
    assert [row["kimg"] for row in curves.quality] == [0.08, 0.16, 0.2]
    whole.copy_sheets(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000.080.png", "000000.160.png", "000000.200.png",
    ]  # fmt: skip


def test_a_snapshot_paints_each_picture_once_and_the_end_of_the_training_none_of_them_again(
    dataset, progress, tmp_path
):
    trainer = Trainer(replace(SHORT, snapshot_kimg=0.04), dataset, CPU, tmp_path / "states")  # one, at the end
    painted = []
    count = lambda network, inputs, images: painted.append(len(images))  # noqa: E731
    trainer.networks.ema.average.register_forward_hook(count)  # which its calibrated copies have, too
    trainer.train(progress)
    calibration = monitor.CALIBRATION_BATCHES * monitor.CALIBRATION_BATCH
    assert sum(painted) == calibration + monitor.SHEET_COUNT + SHORT.quality_samples
    painted.clear()
    trainer.final_curves()
    trainer.copy_sheets(tmp_path / "out")
    trainer.averaged_generator()
    assert painted == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000.040.png"]


def test_the_error_of_a_diverged_training_names_the_setting_to_lower(dataset, progress, tmp_path):
    trainer = Trainer(replace(PLAN, images=400), dataset, CPU, tmp_path)
    with torch.no_grad():
        next(trainer.discriminator.parameters()).fill_(torch.nan)
    with pytest.raises(AtelierError, match=r"train\.lr"):
        trainer.train(progress)


def test_an_epoch_shows_each_picture_and_its_mirror_once(dataset):
    data = ResidentData(dataset.train, seed=1, device=CPU)
    assert len(data) == 40
    batches = torch.cat([data.batch(step, 8) for step in range(5)])
    shown = {bytes(((image + 1) * 127.5).round().byte().numpy().tobytes()) for image in batches}
    views = {dataset.train[item].transpose(2, 0, 1).tobytes() for item in range(40)}
    assert shown == views


def test_a_batch_depends_on_seed_and_step_alone(dataset):
    one, other = (ResidentData(dataset.train, seed=1, device=CPU) for _ in range(2))
    for step in range(12):
        one.batch(step, 7)
    assert torch.equal(one.batch(3, 7), other.batch(3, 7))
    assert not torch.equal(one.batch(3, 7), ResidentData(dataset.train, seed=2, device=CPU).batch(3, 7))


def test_the_decay_of_the_average_warms_up():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    ema = Ema(network, decay=0.9)
    torch.nn.init.ones_(network.weight)
    ema.update(0)
    assert ema.average.weight.item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    ema.update(10_000)
    assert ema.average.weight.item() == pytest.approx(0.91)  # the decay asked for


def test_batch_norm_statistics_are_measured_for_the_averaged_weights():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    latents = [torch.randn(64, 2, generator=generator_for("test", index)) * 3 + 5 for index in range(4)]
    ema = Ema(network, decay=0.9)
    painter = ema.calibrated(latents)
    assert painter[0].running_mean == pytest.approx(torch.cat(latents).mean(0), abs=1e-4)
    assert ema.average[0].running_mean.tolist() == [0, 0]


def test_the_nonsaturating_loss_is_binary_cross_entropy():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(2), torch.zeros(2)
    loss, logits = NonSaturating(), torch.nn.Identity()
    assert loss.discriminator(logits, real, fake, 0).loss == pytest.approx(bce(real, ones) + bce(fake, zeros))
    assert loss.generator(logits, real, fake) == pytest.approx(bce(fake, ones))
