"""Trainings that start from a model with frozen layers, or from a smaller model that grows."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from atelier.errors import AtelierError
from atelier.model_store import store_model
from atelier.networks import NetworkConfig, make_networks, r3gan, save_network
from atelier.networks.labels import EMBEDDING, Labels
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.initial import Networks, Start, open_start
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise
from tests.models import LABELS

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
r3gan.PRESETS["narrow"] = (32, 1)
SKETCH = NetworkConfig("sketch", 16, {"nz": 4, "ngf": 12, "ndf": 12, "noise": 4})
PLAN = TrainingPlan(
    network=SKETCH, batch=4, seed=3, lr=2e-4, lr_discriminator=2e-4, beta1=0.5, ema=0.9, augment=("translation",),
    augment_probability=0.8, snapshot_kimg=1, images=80, lr_decay=0, quality_samples=16,
)  # fmt: skip
MUON, RELATIVISTIC = {"optimizer": "muon"}, {"loss": "relativistic", "beta1": 0.0}
R3GAN = NetworkConfig("r3gan", 16, {"preset": "narrow", "nz": 4})

# the picture's side and the settings of networks whose coarse layers are equal
SIZES = {
    "dcgan": {px: {"nz": 4, "ngf": 192 // px, "ndf": 96 // px} for px in (8, 16, 32)},
    "r3gan": {px: {"preset": "S", "nz": 4} for px in (8, 16, 32)},
    "sketch": {px: {"nz": 4, "ngf": 192 // px, "ndf": 96 // px, "noise": 4} for px in (8, 16, 32)},
}
STEPS = [(8, 16), (16, 32), (8, 32)]


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress("train", 1, "kimg") as bars:
        yield bars


def network(arch: str, px: int, **settings: object) -> NetworkConfig:
    return NetworkConfig(arch, px, {**SIZES[arch][px], **settings})


def made(config: NetworkConfig, seed: int = 7) -> tuple[nn.Module, nn.Module]:
    """Networks with running statistics as after a training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = make_networks(config)
        for module in (module for each in networks for module in each.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 1.5)
    return networks


def in_memory(config: NetworkConfig) -> Start:
    generator, discriminator = made(config)
    return Start(generator.state_dict(), discriminator.state_dict(), {})


def stored(folder: Path, config: NetworkConfig, discriminator: bool = True) -> Path:
    """A model directory as `atelier import` makes it."""
    facts = {"kimg": 12.0, "seed": 7}

    def fill(directory: Path) -> None:
        for name, each in zip(("generator", "discriminator"), made(config), strict=True):
            if name == "generator" or discriminator:
                save_network(directory / f"{name}.safetensors", each, config, facts)

    return store_model(folder, "small", fill)


def first_layers(discriminator: nn.Module, convolutions: int) -> set[str]:
    """The names of the weights up to the batch norm behind this number of convolutions."""
    names, seen = set(), 0
    for name, module in discriminator.named_modules():
        seen += isinstance(module, nn.Conv2d)
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and seen <= convolutions:
            names |= {f"{name}.{weight}" for weight, _ in module.named_parameters()}
    return names


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "config, changes, frozen",
    [(SKETCH, {}, 1), (SKETCH, MUON, 2), (SKETCH, RELATIVISTIC, 2), (R3GAN, RELATIVISTIC, 3), (R3GAN, MUON, 5)],
)
def test_frozen_layers_keep_their_weights_bit_for_bit_and_all_others_learn(config, changes, frozen, tmp_path):
    start = in_memory(config)
    plan = replace(PLAN, network=config, freeze_discriminator=frozen, **changes)
    trainer = Trainer(plan, noise(16, train=20), CPU, tmp_path, start)
    for _ in range(10):
        trainer.advance()
    kept = first_layers(trainer.discriminator, frozen)
    assert len(kept) >= frozen
    weights = dict(trainer.discriminator.named_parameters())
    assert {name for name in weights if torch.equal(weights[name], start.discriminator[name])} == kept
    assert {name for name, weight in weights.items() if not weight.requires_grad} == kept
    optimised = {id(weight) for group in trainer.networks.optimizer_d.param_groups for weight in group["params"]}
    assert {name for name, weight in weights.items() if id(weight) not in optimised} == kept


def test_frozen_batch_norms_measure_their_statistics_on_the_new_pictures(tmp_path):
    start = in_memory(SKETCH)
    trainer = Trainer(replace(PLAN, freeze_discriminator=2), noise(16, train=20), CPU, tmp_path, start)
    trainer.advance()
    norm = next(module for module in trainer.discriminator.modules() if isinstance(module, nn.BatchNorm2d))
    assert not norm.weight.requires_grad
    statistics = [value for name, value in start.discriminator.items() if name.endswith("running_mean")]
    assert not torch.equal(norm.running_mean, statistics[0])


@pytest.mark.parametrize("changes", [{}, MUON, RELATIVISTIC])
def test_a_training_with_frozen_layers_resumes_bit_for_bit(changes, progress, tmp_path):
    plan, dataset = replace(PLAN, freeze_discriminator=2, images=40, **changes), noise(16, train=20)
    whole = Trainer(plan, dataset, CPU, tmp_path / "whole", in_memory(SKETCH))
    whole.train(progress)
    first = Trainer(plan, dataset, CPU, tmp_path / "halves", in_memory(SKETCH))
    with pytest.raises(Stopped):
        first.train(progress, stop=lambda: first.step == 5)
    second = Trainer(plan, dataset, CPU, tmp_path / "halves", in_memory(SKETCH))
    assert second.resume()
    assert second.step == 5
    assert all(weight.grad is None for weight in second.discriminator.parameters())
    second.train(progress)
    assert same(whole.discriminator.state_dict(), second.discriminator.state_dict())
    assert same(whole.generator.state_dict(), second.generator.state_dict())
    kept = first_layers(second.discriminator, 2)
    assert all(
        torch.equal(second.discriminator.state_dict()[name], in_memory(SKETCH).discriminator[name]) for name in kept
    )


def test_layers_are_frozen_only_where_the_start_has_them_and_one_is_left_to_train():
    plan, start = replace(PLAN, freeze_discriminator=1), in_memory(SKETCH)
    with pytest.raises(
        AtelierError, match="freeze_discriminator holds 1; it may hold 0, because the training does not"
    ):
        Networks.create(plan, None, CPU)
    with pytest.raises(AtelierError, match="does not start from a model with a discriminator"):
        Networks.create(plan, replace(start, discriminator=None), CPU)
    with pytest.raises(AtelierError, match="the first layers of a model that grows from 8 px are new"):
        Networks.create(plan, replace(start, grown_from_px=8), CPU)
    Networks.create(replace(PLAN, freeze_discriminator=2), start, CPU)
    with pytest.raises(
        AtelierError, match="holds 3; it may hold at most 2, because the discriminator has 3 convolutions"
    ):
        Networks.create(replace(PLAN, freeze_discriminator=3), start, CPU)


@pytest.mark.parametrize("arch", SIZES)
@pytest.mark.parametrize("small_px, large_px", STEPS)
def test_the_coarse_layers_of_a_grown_model_compute_what_those_of_the_small_one_do(arch, small_px, large_px, tmp_path):
    small, large = network(arch, small_px), network(arch, large_px)
    start = open_start(stored(tmp_path, small), large)
    assert start.grown_from_px == start.lineage["grown_from_px"] == small_px
    grown = Networks.create(replace(PLAN, network=large), start, CPU)
    generator, discriminator = (each.eval() for each in made(small))
    picture = 1 if arch == "r3gan" else 2  # layers between features and picture
    # sketch's noise comes in one layer earlier
    coarse = len(generator.layers) - (5 if arch == "sketch" else picture)
    found = []
    for each in (generator, grown.generator.eval()):
        each.layers[coarse - 1].register_forward_hook(lambda *call: found.append(call[2].detach().clone()))
        latent = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
        each(torch.cat([latent, torch.ones(3, each.inputs - 4)], 1))
    assert found[0].shape[2] == small_px // (1 if arch == "r3gan" else 2)
    torch.testing.assert_close(found[0], found[1])

    added = len(grown.discriminator.layers) - len(discriminator.layers)
    features = []
    layer = grown.discriminator.eval().layers[picture + added]
    layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach().clone()))
    logits = grown.discriminator(torch.randn(3, 3, large_px, large_px))
    assert features[0].shape[2] == small_px // (1 if arch == "r3gan" else 2)
    torch.testing.assert_close(discriminator.layers[picture:](features[0]).flatten(), logits)


@pytest.mark.parametrize("arch", SIZES)
def test_the_layers_that_a_grown_model_adds_have_the_random_weights_of_the_seed(arch, tmp_path):
    large = network(arch, 16)
    start = open_start(stored(tmp_path, network(arch, 8)), large)
    plan = replace(PLAN, network=large)
    grown, fresh = Networks.create(plan, start, CPU), Networks.create(plan, None, CPU)
    for side in ("generator", "discriminator"):
        copied, new = getattr(start, side), getattr(grown, side).state_dict()
        random = getattr(fresh, side).state_dict()
        assert copied.keys() < new.keys()
        assert all(torch.equal(new[name], copied.get(name, random[name])) for name in new)
    assert not grown.ema.has_own_statistics
    assert same(grown.ema.average.state_dict(), grown.generator.state_dict())
    assert not grown.optimizer_g.state and not grown.optimizer_d.state


def test_sketchs_finest_features_are_copied_without_their_noise(tmp_path):
    small, large = network("sketch", 16), network("sketch", 32)
    start = open_start(stored(tmp_path, small), large)
    before = made(small)[0].state_dict()
    assert {name for name in before if name not in start.generator} == {"layers.5.noise", "layers.8.weight"}


def test_sketch_of_a_model_without_noise_grows(tmp_path):
    start = open_start(stored(tmp_path, network("sketch", 8, noise=None)), network("sketch", 16, noise=4))
    assert {name.split(".")[1] for name in start.generator if name.startswith("layers.")} == {"0"}


def test_a_model_without_a_discriminator_grows_with_any_new_one(tmp_path):
    large = network("sketch", 16, ndf=5)
    start = open_start(stored(tmp_path, network("sketch", 8), discriminator=False), large)
    plan = replace(PLAN, network=large)
    fresh = Networks.create(plan, None, CPU).discriminator
    assert same(Networks.create(plan, start, CPU).discriminator.state_dict(), fresh.state_dict())


def test_a_grown_training_gives_the_same_bytes_again_and_resumes_bit_for_bit(progress, tmp_path):
    path, dataset = stored(tmp_path, network("sketch", 8)), noise(16, train=20)
    large = network("sketch", 16)
    plan = replace(PLAN, network=large, optimizer="muon", warm_start=0.2, images=40)
    whole, again, halves = (
        Trainer(plan, dataset, CPU, tmp_path / name, open_start(path, large)) for name in ("whole", "again", "halves")
    )
    whole.train(progress)
    again.train(progress)
    with pytest.raises(Stopped):
        halves.train(progress, stop=lambda: halves.step == 5)
    resumed = Trainer(plan, dataset, CPU, tmp_path / "halves", open_start(path, large))
    assert resumed.resume()
    resumed.train(progress)
    for other in (again, resumed):
        assert same(whole.generator.state_dict(), other.generator.state_dict())
        assert same(whole.discriminator.state_dict(), other.discriminator.state_dict())
        assert same(whole.averaged_generator().state_dict(), other.averaged_generator().state_dict())


@pytest.mark.parametrize(
    "small, large, change",
    [
        (network("dcgan", 8), network("dcgan", 16, ngf=24), "set train.dcgan.ngf to 12 to grow it"),
        (network("dcgan", 8), network("dcgan", 32, nz=5), "set train.dcgan.nz to 4 to grow it"),
        (network("sketch", 8), network("sketch", 16, ndf=3), "set train.sketch.ndf to 6 to grow it"),
        (
            network("sketch", 8), NetworkConfig("sketch", 32, {"nz": 4, "ngf": 24, "ndf": 12, "noise": 8}),
            "set train.sketch.ndf to 3, train.sketch.ngf to 6, train.sketch.noise to 6 to grow it, or "
            "augment.resolution to 8",
        ),
        (network("r3gan", 8), network("r3gan", 16, preset="M"), "set train.r3gan.preset to S to grow it"),
        (
            network("sketch", 8, ngf=25), network("sketch", 16), "ngf and ndf must be multiples of 2: set augment.resol"
        ),
        (network("dcgan", 8), network("sketch", 16), "set augment.resolution, train.arch and train.dcgan"),
        (network("dcgan", 16), network("dcgan", 8), "set augment.resolution, train.arch and train.dcgan"),
    ],
)  # fmt: skip
def test_where_coarse_layers_differ_a_sentence_names_the_settings_to_change(small, large, change, tmp_path):
    with pytest.raises(AtelierError, match=r"train.init_from: .*small-[0-9a-f]{16} is ") as refused:
        open_start(stored(tmp_path, small), large)
    assert change in str(refused.value)


def test_a_grown_model_is_not_passed_on_untrained(tmp_path):
    large = network("sketch", 16)
    start = open_start(stored(tmp_path, network("sketch", 8)), large)
    with pytest.raises(AtelierError, match="holds 0; it may hold a number above 0, because the new layers"):
        Networks.create(replace(PLAN, network=large, images=0), start, CPU)


@pytest.mark.parametrize(
    "damage",
    [
        {"label_counts": None},
        {"labels": [["a"], "b"]},
        {"labels_of": 3},
        {"unlabelled": None},
        {"label_counts": [0, 0]},
    ],
)
def test_a_start_with_damaged_labels_is_refused_with_a_sentence(damage, tmp_path):
    settings = {**SKETCH.settings, **Labels("genre", ("a", "b"), (2, 3)).settings(), **damage}

    def fill(directory: Path) -> None:
        save_network(directory / "generator.safetensors", made(SKETCH)[0], replace(SKETCH, settings=settings), {})

    with pytest.raises(AtelierError, match="the names or the counts of its labels are damaged"):
        open_start(store_model(tmp_path, "small", fill), SKETCH)


@pytest.mark.parametrize(
    ("found", "wanted"), [(None, LABELS), (LABELS, None), (LABELS, replace(LABELS, kind="artist"))]
)
def test_a_training_of_no_steps_does_not_change_the_labels(found, wanted, tmp_path):
    plan = replace(PLAN, network=SKETCH.with_labels(wanted), images=0)
    with pytest.raises(AtelierError, match="because the vectors of other labels than the model's are untrained"):
        Networks.create(plan, open_start(stored(tmp_path, SKETCH.with_labels(found)), plan.network), CPU)
    again = replace(LABELS, names=LABELS.names[::-1], counts=LABELS.counts[::-1])
    plan = replace(plan, network=SKETCH.with_labels(again))
    Networks.create(plan, open_start(stored(tmp_path, SKETCH.with_labels(LABELS)), plan.network), CPU)


def test_a_training_of_no_steps_keeps_the_start_also_when_it_is_resumed(progress, tmp_path):
    plan, data = replace(PLAN, images=0), noise(16, train=20)
    start = open_start(stored(tmp_path, SKETCH), SKETCH)
    for resumed in (False, True):
        trainer = Trainer(plan, data, CPU, tmp_path / "states", start)
        assert trainer.resume() == resumed
        trainer.train(progress)
        assert same(trainer.averaged_generator().state_dict(), start.generator)


@pytest.mark.parametrize("arch", SIZES)
@pytest.mark.parametrize("small_px", [8, 16])
def test_a_model_gives_pictures_of_another_shape_all_layers_but_those_of_the_base_cells(arch, small_px, tmp_path):
    square, wide = network(arch, small_px), network(arch, 16, aspect="3:2")
    start = open_start(stored(tmp_path, square), wide)
    assert start.reshaped_from == start.lineage["reshaped_from"] == "square"
    plan = replace(PLAN, network=wide)
    networks, fresh = Networks.create(plan, start, CPU), Networks.create(plan, None, CPU)
    assert networks.generator.size_px == (16, 24)
    if small_px == 16:
        first, last = ("basis" if arch == "r3gan" else "project.weight"), [*fresh.discriminator.layers.state_dict()][-1]
        if arch == "r3gan":  # the convolution over all cells is the one before the logit's
            last = [*fresh.discriminator.layers.state_dict()][-2]
        assert fresh.generator.state_dict().keys() - start.generator.keys() == {first}
        assert fresh.discriminator.state_dict().keys() - start.discriminator.keys() == {f"layers.{last}"}
    assert not networks.ema.has_own_statistics
    z = torch.randn(2, networks.generator.inputs)
    assert networks.discriminator(networks.generator(z)).shape == (2,)


def test_a_model_of_another_shape_is_not_passed_on_untrained_and_back_to_squares_it_goes_too(tmp_path):
    wide, square = network("sketch", 16, aspect="4:3"), network("sketch", 16)
    start = open_start(stored(tmp_path, wide), square)
    assert start.reshaped_from == "4:3"
    with pytest.raises(AtelierError, match="because the new layers of a model that was made for pictures"):
        Networks.create(replace(PLAN, network=square, images=0), start, CPU)
    same_shape = open_start(stored(tmp_path, wide), wide)
    assert same_shape.reshaped_from is None and "reshaped_from" not in same_shape.lineage
    with pytest.raises(AtelierError, match=r"set augment\.resolution, train\.arch and train\.sketch"):
        open_start(stored(tmp_path, wide), network("sketch", 16, ngf=5))


@pytest.mark.parametrize("found", ["square", "2:3"])  # with another number of base cells, and with as many
@pytest.mark.parametrize("arch", SIZES)
def test_with_labels_a_start_of_another_shape_gives_the_vectors_that_fit(arch, found, tmp_path):
    other, wide = (network(arch, 16).with_aspect(aspect).with_labels(LABELS) for aspect in (found, "3:2"))
    start = open_start(stored(tmp_path, other), wide)
    # r3gan's vectors are those of all base cells, the others' have a part for each
    assert (EMBEDDING in start.generator) == (EMBEDDING in start.discriminator) == (arch == "r3gan")
    assert Networks.create(replace(PLAN, network=wide), start, CPU).generator.classes == len(LABELS.names)
