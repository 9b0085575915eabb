"""Trainings against a discriminator over pretrained features: exact resumption, the losses, the start and the judge."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.device import deterministic_device
from atelier.importers.__main__ import import_model
from atelier.metrics.features import judge_for
from atelier.networks import NetworkConfig, load_generator, read_model
from atelier.networks.efficientnet import LITE0, LITE1
from atelier.progress import Progress
from atelier.settings.schema import Params
from atelier.training.config import TrainingPlan, training_plan
from atelier.training.losses import Hinge, NonSaturating, OwnAndFeatures
from atelier.training.trainer import Stopped, Trainer
from tasks import evaluate, generate
from tasks.stage import Stage
from tasks.train import run
from tests.datasets import noise, pack_blots

pytestmark = pytest.mark.usefixtures("judged_small")

GPU = pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
])  # fmt: skip
SMALL = {"nz": 8, "ngf": 8, "ndf": 4}
PLAN = TrainingPlan(
    network=NetworkConfig("dcgan", 32, SMALL), batch=2, seed=3, lr=2e-4, lr_discriminator=2e-4, beta1=0.5, ema=0.9,
    augment=("translation",), augment_probability="adaptive", snapshot_kimg=1, images=8, lr_decay=0,
    quality_samples=4, optimizer="muon", discriminator="features", loss="hinge",
)  # fmt: skip
BOTH = replace(PLAN, discriminator="both", loss="nonsaturating")
TWO_STEPS = {"images": 4}  # a step in bfloat16 takes seconds on a CPU without its instructions
SETTINGS = {
    "arch": "dcgan", "kimg": 0.008, "batch": 4, "snapshot_kimg": 1, "lr_decay": 0, "device": "cpu", "dcgan": SMALL,
    "precision": "float32", "init_from": None,
}  # fmt: skip
MODEL = Path("data/model")


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = {"g": trainer.averaged_generator(), "d": trainer.discriminator}
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("plan", [PLAN, replace(BOTH, precision="bfloat16", **TWO_STEPS)], ids=["features", "both"])
def test_a_stopped_training_ends_with_the_bits_of_an_undisturbed_one(plan, device, tmp_path: Path) -> None:
    data, place = noise(32, train=20), deterministic_device("train", device)
    half = plan.images // plan.batch // 2
    with Progress("train", 1, "kimg") as progress:
        whole = Trainer(plan, data, place, tmp_path / "whole")
        whole.train(progress)
        first = Trainer(plan, data, place, tmp_path / "halves")
        with pytest.raises(Stopped):
            first.train(progress, stop=lambda: first.step == half)
        second = Trainer(plan, data, place, tmp_path / "halves")
        assert second.resume() and second.step == half
        second.train(progress)
    ours, theirs = weights(whole), weights(second)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.final_curves() == second.final_curves()
    assert whole.augment_probability == second.augment_probability
    assert list(whole.final_curves().losses[0]) == ["kimg", *plan.adversarial_loss().columns]
    assert whole.judge == LITE1


def test_the_hinge_loss_is_of_every_logit_and_two_where_the_discriminator_guesses() -> None:
    def network(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1)[:, :2]

    real, fake = torch.zeros(3, 3, 2, 2), torch.zeros(3, 3, 2, 2)
    assert float(Hinge().discriminator(network, real, fake, 0.0).loss) == 2
    real[:, 0, 0, 0], fake[:, 0, 0, 0] = 3.0, -0.5  # one of two logits
    loss, logs = Hinge().discriminator(network, real, fake, 0.0)
    assert float(loss) == pytest.approx((0 + 1) / 2 + (0.5 + 1) / 2)
    assert float(logs["logit_real"]) == 1.5
    assert float(Hinge().generator(network, real, fake)) == 0.25


def test_the_losses_of_both_are_added() -> None:
    class Network(torch.nn.Module):
        own = staticmethod(lambda pictures: pictures.mean((1, 2, 3)))
        features = staticmethod(lambda pictures: pictures.flatten(1))

    real, fake = torch.rand(4, 3, 2, 2), torch.rand(4, 3, 2, 2)
    both = OwnAndFeatures(NonSaturating())
    alone = [(NonSaturating(), Network.own), (Hinge(), Network.features)]
    loss, logs = both.discriminator(Network(), real, fake, 0.0)
    assert torch.allclose(loss, sum(each.discriminator(net, real, fake, 0.0).loss for each, net in alone))
    assert torch.allclose(loss, logs["loss_d"] + logs["features_loss_d"])
    assert {*logs, "loss_g"} == {*both.columns}
    generated = both.generator(Network(), real, fake)
    assert torch.allclose(generated, sum(each.generator(net, real, fake) for each, net in alone))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "relativistic"}, "train.loss holds relativistic; it may hold auto, because train.discriminator"),
        ({"gamma": 2.0}, "train.gamma holds 2.0; it may hold null, because train.discriminator is features"),
        ({"freeze_discriminator": 1}, "train.freeze_discriminator holds 1; it may hold 0, because"),
        ({"freeze_discriminator": 1, "discriminator": "both"}, "train.discriminator is both: its pretrained layers"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: Mapping[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Params.model_validate({"train": {"discriminator": "features", **settings}})


def test_the_loss_follows_from_the_discriminator() -> None:
    for kind, loss in (("own", "nonsaturating"), ("features", "hinge"), ("both", "nonsaturating")):
        train = Params.model_validate({"train": {**SETTINGS, "discriminator": kind}}).train
        plan = training_plan(train, 32)
        assert (plan.loss, plan.discriminator) == (loss, kind)


def test_lite1_judges_what_lite0_has_trained_also_at_the_start_of_its_training() -> None:
    features = {"discriminator": "features"}
    assert judge_for({}, {"start": {"kimg": 1}}) == judge_for({"start": None}) == LITE0
    for headers in ([features], [{}, {"discriminator": "both"}], [{"start": {"start": features}}]):
        assert judge_for(*headers) == LITE1


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pack_blots()


def stage(name: str, **sections: Mapping[str, object]) -> Stage:
    return Stage(name, Params.model_validate(sections))


def train(**settings: object) -> dict:
    run(stage("train", train={**SETTINGS, **settings}))
    return json.loads((MODEL / "model.json").read_text())


def kept(name: str) -> str:
    return str(import_model(MODEL, None, Path("models"), name))


def discriminator(folder: Path = MODEL) -> dict[str, torch.Tensor]:
    return read_model(folder / "discriminator.safetensors")[1]


def test_the_files_say_what_trained_the_model_and_the_next_stages_follow(studio) -> None:
    facts = train(discriminator="features")
    assert facts["discriminator"] == facts["training"]["discriminator"] == "features"
    assert facts["training"]["loss"] == "hinge" and facts["training"]["gamma"] is None
    assert facts["features"] == "lite1-v1"
    assert load_generator(MODEL / "generator.safetensors")[1]["discriminator"] == "features"
    columns = Path("data/training/losses.csv").read_text().splitlines()[0]
    assert columns == "kimg,loss_d,loss_g,logit_real,logit_fake"

    evaluate.run(stage("evaluate", evaluate={"samples": 32, "device": "cpu"}))
    metrics = json.loads(Path("metrics.json").read_text())
    assert metrics["compared"]["features"] == "lite1-v1" and metrics["compared"]["trained_by"] == "lite0-v1"
    assert metrics["kid"] == metrics["kid_lite1"]

    generate.run(stage("generate", generate={"count": 2, "pick": "1 of 2", "device": "cpu"}))
    assert len([*Path("data/artworks").glob("*.png")]) == 2


def test_a_training_of_its_own_discriminator_says_nothing_of_kinds(studio) -> None:
    facts = train()
    assert "discriminator" not in facts and "discriminator" not in facts["training"] and "features" not in facts
    assert "discriminator" not in read_model(MODEL / "discriminator.safetensors")[0]


def test_a_training_starts_from_the_part_of_the_discriminator_that_both_have(studio) -> None:
    slowly = {"lr": 1e-9, "lr_discriminator": 1e-9, "ema": 0}
    train()
    own, of_own = discriminator(), kept("own")
    facts = train(**slowly, discriminator="both", init_from=of_own)
    both, of_both = discriminator(), kept("both")
    assert facts["start"]["discriminator_sha256"] is not None
    assert all(torch.allclose(both[f"own.{name}"], value, atol=1e-4) for name, value in own.items() if "weight" in name)

    facts = train(**slowly, discriminator="features", init_from=of_both)
    features = discriminator()
    fixed = [name for name in features if name.startswith("mix_")]
    assert len(fixed) == 8 and all(torch.equal(both[f"features.{name}"], features[name]) for name in fixed)
    assert facts["start"]["discriminator"] == "both"

    facts = train(**slowly, init_from=kept("features"))  # which has no part in common with an own one
    assert facts["start"]["discriminator_sha256"] is None
    assert facts["features"] == "lite1-v1", "features have trained it, at the start of its training"


def test_a_model_over_features_grows_with_its_discriminator(studio) -> None:
    train(discriminator="features")
    before, path = discriminator(), kept("small")
    pack_blots(resolution=64)
    train(discriminator="features", init_from=path, dcgan={"nz": 8, "ngf": 4, "ndf": 2}, lr_discriminator=1e-9)
    after = discriminator()
    assert all(torch.allclose(before[name], value, atol=1e-4) for name, value in after.items() if "weight" in name)
