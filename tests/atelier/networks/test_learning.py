"""Every network in the training that it is meant for: exact resumption and finite weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.data.dataset import PackedDataset
from atelier.networks import NetworkConfig
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
# settings of the network, and what its recipe has besides
RECIPES = {
    "r3gan": (
        {"preset": "S", "nz": 8},
        {"loss": "relativistic", "beta1": 0.0, "beta2": "rising", "lr_decay": "cosine"},
    ),
    "sketch": ({"nz": 8, "ngf": 8, "ndf": 4, "noise": 4}, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> PackedDataset:
    return noise(32, train=20)


def plan_for(arch: str) -> TrainingPlan:
    settings, recipe = RECIPES[arch]
    plan = TrainingPlan(
        network=NetworkConfig(arch, 32, settings),
        batch=2,
        seed=3,
        lr=2e-4,
        lr_discriminator=2e-4,
        beta1=0.5,
        ema="power",
        augment=("translation", "brightness"),
        augment_probability=0.8,
        snapshot_kimg=1,
        images=6,
        lr_decay=0.5,
        quality_samples=4,
    )
    return replace(plan, **recipe)


@pytest.mark.parametrize("arch", RECIPES)
def test_a_resumed_training_of_every_network_equals_an_undisturbed_one_bit_for_bit(arch, dataset, tmp_path):
    torch.use_deterministic_algorithms(True)
    try:
        whole, halves = (_trained(plan_for(arch), dataset, tmp_path / name) for name in ("whole", "halves"))
    finally:
        torch.use_deterministic_algorithms(False)
    for network in ("generator", "discriminator"):
        one, other = getattr(whole, network).state_dict(), getattr(halves, network).state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert all(tensor.isfinite().all() for tensor in one.values())
    one, other = whole.networks.ema.average.state_dict(), halves.networks.ema.average.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def _trained(plan: TrainingPlan, dataset: PackedDataset, states: Path) -> Trainer:
    """To its end, through a stop and a new start where the directory is called halves."""
    with Progress("train", 1, "kimg") as progress:
        if states.name == "halves":
            first = Trainer(plan, dataset, CPU, states)
            with pytest.raises(Stopped):
                first.train(progress, stop=lambda: first.step == 1)
        trainer = Trainer(plan, dataset, CPU, states)
        assert trainer.resume() == (states.name == "halves")
        trainer.train(progress)
    return trainer
