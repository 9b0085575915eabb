"""Trainings with labels: what each image's label is, exact resumption, and starts from models with other labels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.data.dataset import PackedDataset, WorkRow
from atelier.errors import AtelierError
from atelier.model_store import store_model
from atelier.networks import NetworkConfig, make_networks, save_network
from atelier.networks.labels import Labels
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.data import RandomWindows, ResidentData, StepLabels
from atelier.training.initial import Networks, open_start
from atelier.training.trainer import Stopped, Trainer
from tests.datasets import noise, noise_with_strips

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
GENRES = ["marine", "landscape", "", "marine"] * 5
LABELS = Labels("genre", ("marine", "landscape"), (10, 5), 5)
SKETCH = NetworkConfig("sketch", 16, {"nz": 4, "ngf": 4, "ndf": 4, "noise": 2})
PLAN = TrainingPlan(
    network=SKETCH.with_labels(LABELS), batch=8, seed=3, lr=2e-3, lr_discriminator=2e-3, beta1=0.5, ema=0.9,
    augment=("translation",), augment_probability=0.8, snapshot_kimg=0.08, images=160, lr_decay=0, quality_samples=8,
    warm_start=0.3, optimizer="muon",
)  # fmt: skip


def labelled(dataset: PackedDataset, genres: list[str] = GENRES) -> PackedDataset:
    works = [WorkRow(id, genre, "", "", "") for id, genre in zip(dataset.train.ids, genres, strict=False)]
    return replace(dataset, train=replace(dataset.train, works=works))


@pytest.fixture(scope="module")
def dataset() -> PackedDataset:
    return labelled(noise(16, train=20))


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress("train", 1, "kimg") as bars:
        yield bars


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": tensor.clone() for name, module in trainer._training_step.state().modules.items()
            for key, tensor in module.state_dict().items()}  # fmt: skip


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("crops", [1, 4])
def test_mirror_images_and_windows_have_the_label_of_their_painting(crops):
    data = labelled(noise_with_strips(16, train=20) if crops > 1 else noise(16, train=20))
    source = RandomWindows(data.strips, 16, True, 3, CPU) if data.strips else ResidentData(data.train, 3, CPU)
    paintings = torch.cat([source.paintings(step, 40) for step in range(crops)])  # one epoch
    assert torch.bincount(paintings, minlength=20).tolist() == [2 * crops] * 20
    (weights,) = StepLabels(LABELS, data.train.values("genre"), 3).of(paintings, 0)
    rows = LABELS.rows(GENRES)[paintings]
    kept = weights.sum(1) > 0
    assert torch.equal(weights[kept].argmax(1), rows[kept])
    assert not kept[rows < 0].any()


def test_a_share_of_the_images_loses_its_labels_by_seed_and_step_alone():
    labels = StepLabels(LABELS, ["marine"] * 1000, 3)
    (one,), (again,), (other,) = (
        labels.of(torch.arange(1000), 5),
        labels.of(torch.arange(1000), 5),
        labels.of(torch.arange(1000), 6),
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert 0.06 < 1 - float(one.sum() / 1000) < 0.14


def test_a_training_with_labels_resumes_bit_for_bit_from_its_warm_start_and_from_behind_it(dataset, progress, tmp_path):
    whole = Trainer(PLAN, dataset, CPU, tmp_path / "whole")
    whole.train(progress)
    for stop in (3, 12):
        for _ in range(2):
            stopped = Trainer(PLAN, dataset, CPU, tmp_path / f"stopped at {stop}")
            stopped.resume()
            try:
                stopped.train(progress, lambda stopped=stopped, stop=stop: stopped.step == stop)
            except Stopped:
                assert stopped.step == stop
        assert same(weights(whole), weights(stopped))
    for network in (whole.generator, whole.discriminator):
        assert (network.embed.weight.abs().sum(1) > 0).all()


def test_labels_of_the_works_decide_the_training(dataset, progress, tmp_path):
    others = labelled(dataset, GENRES[1:] + GENRES[:1])
    trainings = [Trainer(PLAN, data, CPU, tmp_path / name) for name, data in (("one", dataset), ("other", others))]
    for training in trainings:
        training.train(progress)
    assert not same(*map(weights, trainings))


def test_a_data_set_without_the_catalogs_facts_is_refused(tmp_path):
    with pytest.raises(AtelierError, match=r"train.labels holds genre, .* `dvc repro augment` makes it"):
        Trainer(PLAN, noise(16, train=20), CPU, tmp_path)


def stored(folder: Path, config: NetworkConfig) -> Path:
    """A model whose labels' vectors are not zero."""

    def fill(directory: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            for name, network in zip(("generator", "discriminator"), make_networks(config), strict=True):
                if network.embed:
                    torch.nn.init.normal_(network.embed.weight)
                save_network(directory / f"{name}.safetensors", network, config, {"kimg": 1.0})

    return store_model(folder, "start", fill)


@pytest.mark.parametrize("found", [None, LABELS, Labels("genre", ("portrait", "landscape"), (9, 9)),
                                   Labels("style", ("marine", "landscape"), (9, 9))])  # fmt: skip
@pytest.mark.parametrize("wanted", [None, LABELS])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_training_starts_from_a_model_with_other_labels_or_none_and_may_grow(found, wanted, factor, tmp_path):
    small = SKETCH.with_labels(found)
    large = NetworkConfig("sketch", 16 * factor, {**SKETCH.settings, "ngf": 4 // factor, "ndf": 4 // factor})
    start = open_start(stored(tmp_path, small), large.with_labels(wanted))
    plan = replace(PLAN, network=large.with_labels(wanted))
    networks = Networks.create(plan, start, CPU)
    known = {*LABELS.names} & {*found.names} if found and found.kind == "genre" else set()
    for network in (networks.generator, networks.discriminator):
        if wanted is None:
            assert network.embed is None
            continue
        for row, name in enumerate(wanted.names):
            assert bool(network.embed.weight[row].count_nonzero()) == (name in known)


def test_a_model_of_other_sizes_is_refused_without_a_list_of_its_labels(tmp_path):
    path = stored(tmp_path, SKETCH.with_labels(LABELS))
    with pytest.raises(AtelierError, match=r"is sketch of 16 px, {ndf: 4, ngf: 4, noise: 2, nz: 4}; params.yaml asks"):
        open_start(path, NetworkConfig("sketch", 16, {**SKETCH.settings, "nz": 8}))
