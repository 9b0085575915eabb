"""The warm start: reconstruction, latents, exact resumption, and trainings that end within it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.networks import NetworkConfig
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.data import ResidentData
from atelier.training.distributed import SINGLE_PROCESS
from atelier.training.initial import JITTER_STD, PrincipalLatents
from atelier.training.optimizers import hidden_kernels
from atelier.training.state import generator_for
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise, pack_blots

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
# 12 steps, of which the warm start has 6
PLAN = TrainingPlan(
    network=NetworkConfig("sketch", 16, {"nz": 4, "ngf": 4, "ndf": 4, "noise": 2}), batch=8, seed=3, lr=2e-4,
    lr_discriminator=2e-4, beta1=0.5, ema=0.9, augment=("translation",), augment_probability=0.5,
    snapshot_kimg=0.032, images=96, lr_decay=0.5, optimizer="muon", warm_start=0.5, quality_samples=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> PackedDataset:
    return noise(16, train=16)


@pytest.fixture(scope="module")
def blots(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("blots"))
        pack_blots(24)
        return open_dataset(Path("data/dataset"))


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress("train", 1, "kimg") as bars:
        yield bars


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    networks = {"g": trainer.generator, "d": trainer.discriminator, "ema": trainer.networks.ema.average}
    return {f"{of}.{name}": value for of, net in networks.items() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_resumed_in_the_warm_start_at_its_end_and_after_equals_an_undisturbed_one(
    precision, dataset, progress, tmp_path
):
    plan = replace(PLAN, precision=precision)
    torch.set_deterministic_debug_mode("error")
    try:
        whole = Trainer(plan, dataset, CPU, tmp_path / "whole")
        whole.train(progress)
        trainer = Trainer(plan, dataset, CPU, tmp_path / "parts")
        for step in (3, 6, 7):
            with pytest.raises(Stopped):
                trainer.train(progress, stop=lambda trainer=trainer, step=step: trainer.step == step)
            trainer = Trainer(plan, dataset, CPU, tmp_path / "parts")
            assert trainer.resume() and trainer.step == step
        trainer.train(progress)
        one, other = state_of(whole), state_of(trainer)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert whole.final_curves() == trainer.final_curves()
    finally:
        torch.set_deterministic_debug_mode("default")
    assert all(value.isfinite().all() for value in state_of(whole).values())


def test_the_discriminator_is_trained_after_the_warm_start_only(dataset, tmp_path):
    trainer = Trainer(PLAN, dataset, CPU, tmp_path)
    before = {name: value.clone() for name, value in trainer.discriminator.state_dict().items()}
    generator = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    for _ in range(PLAN.warm_steps):
        trainer.advance()
    after = trainer.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(torch.equal(value, generator[name]) for name, value in trainer.generator.named_parameters())
    trainer.advance()
    assert not torch.equal(trainer.discriminator.state_dict()["layers.0.weight"], before["layers.0.weight"])


def test_after_a_warm_start_each_latent_paints_its_own_training_image(blots, tmp_path):
    network = NetworkConfig("sketch", 32, {"nz": 24, "ngf": 8, "ndf": 4, "noise": 2})
    plan = replace(PLAN, network=network, images=1600, warm_start=0.6)
    trainer = Trainer(plan, blots, CPU, tmp_path)
    losses = []
    for _ in range(plan.warm_steps):
        trainer.advance()
        losses.append(trainer._losses.means()["loss_g"])
        trainer._losses.clear()
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    data = trainer._training_step.data
    items = torch.arange(len(data))
    z = PrincipalLatents(data, 24, plan.seed, SINGLE_PROCESS).sample(items, generator_for("test"))
    grain = torch.randn(len(items), trainer.generator.inputs - 24, generator=generator_for("grain"))
    with torch.no_grad():
        painted = trainer.averaged_generator()(torch.cat([z, grain], 1)).flatten(1)
    distances = torch.cdist(painted, data.images(items).flatten(1))
    assert (distances.argmin(1) == items).float().mean() > 0.8


def test_the_latents_are_whitened_components_and_noise_beyond_them(dataset):
    data = ResidentData(dataset.train, 3, CPU)
    items = torch.arange(len(data))
    few = PrincipalLatents(data, 8, 3, SINGLE_PROCESS)
    plain = few._latents
    assert plain.shape == (32, 8)
    assert torch.allclose(plain.mean(0), torch.zeros(8), atol=1e-4)
    assert torch.allclose(torch.cov(plain.T), torch.eye(8), atol=1e-2)
    jitter = few.sample(items, generator_for("test")) - plain
    assert jitter.std().item() == pytest.approx(JITTER_STD, rel=0.2)
    assert torch.equal(PrincipalLatents(data, 8, 3, SINGLE_PROCESS)._latents, plain)
    many = PrincipalLatents(data, 100, 3, SINGLE_PROCESS)
    drawn = many.sample(items, generator_for("test"))
    assert drawn.shape == (32, 100) and many._latents.shape == (32, 31)
    assert drawn[:, 31:].std().item() == pytest.approx(1, rel=0.1)


def test_computing_the_components_does_not_change_the_global_random_state(dataset):
    torch.manual_seed(5)
    PrincipalLatents(ResidentData(dataset.train, 3, CPU), 4, 3, SINGLE_PROCESS)
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(torch.randn(3), drawn)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("resolution, pictures", [(8, 2), (16, 2), (32, 3)])
def test_a_warm_start_works_with_few_images_of_any_size(resolution, pictures, mirror, progress, tmp_path):
    small = replace(noise(resolution, train=pictures), mirror=mirror)
    small = replace(small, train=replace(small.train, mirror=mirror))
    plan = replace(PLAN, network=replace(PLAN.network, resolution=resolution), images=32, batch=4)
    trainer = Trainer(plan, small, CPU, tmp_path)
    trainer.train(progress)
    assert trainer.step == 8 and all(value.isfinite().all() for value in state_of(trainer).values())


def test_equal_images_have_finite_latents():
    black = noise(16, train=4)
    black.train.images[:] = 0
    latents = PrincipalLatents(ResidentData(black.train, 3, CPU), 4, 3, SINGLE_PROCESS)
    assert latents.sample(torch.arange(8), generator_for("test")).isfinite().all()


def test_a_warm_start_that_does_not_fit_into_memory_continues_in_micro_batches(dataset, tmp_path, capsys):
    def refuses(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("as CUDA says it")

    trainer = Trainer(PLAN, dataset, CPU, tmp_path)
    trainer.generator.register_forward_pre_hook(refuses)
    with Progress("train", 1, "kimg") as progress, pytest.raises(Stopped):
        trainer.train(progress, stop=lambda: trainer.step == 3)
    assert trainer.micro_batch == 2
    assert "out of memory at 8 pictures a time; goes on with 2 a time" in capsys.readouterr().out
    again = Trainer(PLAN, dataset, CPU, tmp_path)
    assert again.resume() and again.micro_batch == 2


def test_snapshots_of_the_warm_start_save_a_state_and_add_no_rows(dataset, tmp_path, capsys):
    trainer = Trainer(PLAN, dataset, CPU, tmp_path)
    with Progress("train", 1, "kimg") as progress, pytest.raises(Stopped):
        trainer.train(progress, stop=lambda: trainer.step == 6)
    said = capsys.readouterr().out
    assert "0.032 kimg" in said and "warm start, L1 " in said and "kid" not in said
    assert trainer.curves.quality == trainer.curves.losses == []
    assert (tmp_path / "state-000000004.safetensors").exists()
    with Progress("train", 1, "kimg") as progress:
        trainer.train(progress)
    curves = trainer.final_curves()
    assert [row["kimg"] for row in curves.losses] == [0.064, 0.096]
    assert [row["kimg"] for row in curves.quality] == [0.064, 0.096]
    assert all(row["loss_d"] > 0.1 for row in curves.losses)


def test_a_training_that_ends_in_its_warm_start_has_a_quality_row_and_no_losses(dataset, progress, tmp_path):
    trainer = Trainer(replace(PLAN, minutes=1e-9), dataset, CPU, tmp_path)
    trainer.train(progress)
    assert trainer.ended_by() == "minutes" and trainer.step == 1 and trainer.warm
    curves = trainer.final_curves()
    assert curves.losses == [] and [row["kimg"] for row in curves.quality] == [0.008]
    trainer.copy_sheets(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000.008.png"]


@pytest.mark.parametrize("images", [0, 1, 8, 9, 100])
def test_the_last_step_of_a_training_never_belongs_to_the_warm_start(images):
    plan = replace(PLAN, images=images, warm_start=0.999)
    assert plan.warm_steps <= max(-(-images // plan.batch) - 1, 0)


def test_the_learning_rates_fall_in_the_warm_start_and_begin_anew_after_it(dataset, progress, tmp_path):
    trainer = Trainer(PLAN, dataset, CPU, tmp_path)
    rates = []

    def seen() -> bool:
        adam, muon = trainer.networks.optimizer_g.param_groups
        rates.append((adam["lr"] / PLAN.lr, muon["lr"] / PLAN.muon_lr))
        return False

    trainer.train(progress, stop=seen)
    shares = [rate for rate, _ in rates]
    assert shares == pytest.approx([rate for _, rate in rates])
    assert shares[:4] == [1, 1, 1, 1] and shares[5] == pytest.approx(1 - 0.95 * 2 / 3)
    assert shares[6:10] == [1, 1, 1, 1] and shares[-1] == pytest.approx(1 / 3)


def test_muon_trains_the_hidden_kernels_and_adam_all_other_weights(dataset, tmp_path):
    players = Trainer(PLAN, dataset, CPU, tmp_path).networks
    for network, optimizer in (
        (players.generator, players.optimizer_g),
        (players.discriminator, players.optimizer_d),
    ):
        adam, muon = ({id(weight) for weight in group["params"]} for group in optimizer.param_groups)
        assert not adam & muon and adam | muon == {id(weight) for weight in network.parameters()}
        assert muon == {id(weight) for weight in hidden_kernels(network)}
    names = {id(weight): name for name, weight in players.generator.named_parameters()}
    hidden = {names[id(weight)] for weight in hidden_kernels(players.generator)}
    assert hidden == {"project.weight", "layers.2.weight"}  # two channels less the picture's three
