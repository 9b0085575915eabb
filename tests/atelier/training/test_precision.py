"""Training in bfloat16: the choice by hardware, exact resumption, and the size of the rounding."""

from dataclasses import replace

import pytest
import torch

from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, make_networks, r3gan
from atelier.progress import Progress
from atelier.training.config import TrainingPlan, in_precision, pick_precision
from atelier.training.losses import AdversarialLoss, NonSaturating, Relativistic
from atelier.training.state import generator_for
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
SMALL = {"nz": 8, "ngf": 8, "ndf": 4}
NETWORKS = {
    "dcgan": SMALL,
    "sketch": {"nz": 8, "ngf": 24, "ndf": 4, "noise": 8},
    "r3gan": {"preset": "narrow", "nz": 8},
}
PLAN = TrainingPlan(
    network=NetworkConfig("dcgan", 16, SMALL), batch=4, seed=3, lr=2e-4, lr_discriminator=2e-4, beta1=0.5, ema=0.9,
    augment=("translation",), augment_probability=1.0, snapshot_kimg=1, images=16, lr_decay=0, precision="bfloat16",
    quality_samples=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _narrow_r3gan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(r3gan.PRESETS, "narrow", (64, 1))


def test_auto_precision_depends_on_the_hardware_and_gives_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert pick_precision("auto", CPU)[0] == precision
        assert pick_precision("float32", CPU) == ("float32", "as asked")
    assert "not made for it" in pick_precision("bfloat16", CPU)[1]
    with pytest.raises(AtelierError, match=r"set it to auto or float32"):
        pick_precision("bfloat16", torch.device("mps"))


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_training_in_bfloat16_has_float32_weights_and_resumes_bit_for_bit(arch, tmp_path):
    game = "relativistic" if arch == "r3gan" else "nonsaturating"
    plan = replace(PLAN, network=NetworkConfig(arch, 16, NETWORKS[arch]), loss=game)
    if arch == "r3gan":
        plan = replace(plan, batch=2, images=6)
    data = noise(16, train=20)
    torch.set_deterministic_debug_mode("error")
    try:
        with Progress("train", 1, "kimg") as progress:
            whole = Trainer(plan, data, CPU, tmp_path / "whole")
            whole.train(progress)
            first = Trainer(plan, data, CPU, tmp_path / "halves")
            with pytest.raises(Stopped):
                first.train(progress, stop=lambda: first.step == 2)
            halves = Trainer(plan, data, CPU, tmp_path / "halves")
            assert halves.resume()
            halves.train(progress)
    finally:
        torch.set_deterministic_debug_mode("default")
    for network in ("generator", "discriminator"):
        one, other = getattr(whole, network).state_dict(), getattr(halves, network).state_dict()
        assert all(tensor.dtype != torch.bfloat16 and tensor.isfinite().all() for tensor in one.values())
        assert all(torch.equal(one[name], other[name]) for name in one)
    float32 = Trainer(replace(plan, precision="float32"), data, CPU, tmp_path / "float32")
    for _ in range(whole.step):
        float32.advance()
    assert not torch.equal(next(whole.generator.parameters()), next(float32.generator.parameters()))


@pytest.mark.parametrize("arch, game", [
    ("dcgan", NonSaturating()), ("sketch", Relativistic(0.2)), ("r3gan", Relativistic(0.2)),
])  # fmt: skip
def test_gradients_in_bfloat16_have_the_direction_of_those_in_float32(arch, game):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        networks = make_networks(NetworkConfig(arch, 16, NETWORKS[arch]))
    exact, rounded = (gradients(game, *networks, precision) for precision in ("float32", "bfloat16"))
    for one, other in zip(exact, rounded, strict=True):
        assert torch.nn.functional.cosine_similarity(one, other, 0) > 0.99


def gradients(game: AdversarialLoss, generator, discriminator, precision) -> list[torch.Tensor]:
    """The discriminator's, penalties and all, and the generator's, a line each."""
    paints, judges = in_precision(generator, precision), in_precision(discriminator, precision)
    real = torch.rand(8, 3, 16, 16, generator=generator_for("real")) * 2 - 1
    fake = paints(torch.randn(8, generator.inputs, generator=generator_for("z")))
    found = []
    for network, loss in (
        (discriminator, lambda: game.discriminator(judges, real, fake.detach(), 0).loss),
        (generator, lambda: game.generator(judges, real, fake)),
    ):
        network.zero_grad()
        loss().backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    return found
