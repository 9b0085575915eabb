"""A GAN on the packed set: data/dataset → data/model, data/training."""

import csv
import functools
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from atelier import __version__
from atelier.data.dataset import PackedDataset, open_dataset
from atelier.device import is_out_of_memory
from atelier.errors import AtelierError
from atelier.files import digest, digest_tree, write_bytes, write_json
from atelier.metrics.features import read_lite0_weights
from atelier.metrics.quick_panel import QUICK_PICTURES, check_counts
from atelier.networks import NetworkConfig, save_network
from atelier.settings.schema import Train
from atelier.training.config import RECIPES, Precision, Recipe, TrainingPlan, pick_precision
from atelier.training.distributed import World
from atelier.training.initial import Start, open_start, start_path
from atelier.training.monitor import Curves, best
from atelier.training.trainer import Stopped, Trainer
from tasks.stage import DATA, Stage, main
from tasks.states import States
from tasks.trainer import asked_to_stop, deterministic_device, in_processes


def run(stage: Stage) -> str:
    """Train to `train.kimg`, going on from the state of the same inputs where there is one."""
    params = stage.params.train
    summary = in_processes(params.gpus, params.device, params.step_batch, functools.partial(train, stage))
    stage.after_success.append(functools.partial(tidy, stage))
    return summary


def train(stage: Stage, world: World) -> str:
    """The whole stage in one process of `world`, of which the first alone writes."""
    params = stage.params.train
    dataset = open_dataset(DATA / "dataset")
    # before any work: the first snapshot could not be scored
    read_lite0_weights()
    check_counts(QUICK_PICTURES, len(dataset.train.images), len(dataset.held_out.images))
    device = deterministic_device("train", params.device)
    precision, why = pick_precision(params.precision, device)
    print(f"train: computes in {precision}, {why}")
    plan = training_plan(params, dataset, precision)
    tell_recipe(params, plan)
    data_digest = digest_tree(DATA / "dataset")
    path = start_path(params.init_from, plan.network)
    start = open_start(path, plan.network) if path else None
    print(f"train: starts from {path or 'nothing'}")
    states = States.of(stage, deciding(params, plan, data_digest, device, start))
    if not world.all(world.told_by_first(lambda: states.directory.name) == states.directory.name):
        raise AtelierError(
            "the machines of this training differ in params.yaml, data/dataset, Atelier or torch: make them equal"
        )
    if world.first:
        states.begin()
    trainer: Trainer | None = None
    try:
        trainer = Trainer(plan, dataset, device, states.directory, start, world)
        tell_resumed(trainer.resume(), trainer, states)
        train_to_the_end(trainer, stage)
        return write_outs(trainer, dataset, params, data_digest, start)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        at_a_time = trainer.micro_batch if trainer else params.step_batch // world.size
        raise AtelierError(out_of_memory(params, device, world.size, at_a_time)) from None


def train_to_the_end(trainer: Trainer, stage: Stage) -> None:
    """Train, with a progress bar. Raises SystemExit where the process is asked to stop, with the state saved."""
    with asked_to_stop() as stopping:
        total = trainer.plan.images / 1000
        progress = stage.progress(total, "kimg", trainer.kimg, silent=not trainer.world.first)
        try:
            with progress:
                trainer.train(progress, stopping.is_set)
        except Stopped:
            print(f"train: stopped at {trainer.kimg:g} kimg; `dvc repro` goes on from there")
            raise SystemExit(143) from None


def write_outs(
    trainer: Trainer, dataset: PackedDataset, params: Train, data_digest: str, start: Start | None
) -> str:
    """Write the curves, the grids and the networks; the stage's summary."""
    plan, world = trainer.plan, trainer.world
    if plan.warm_steps and trainer.warm and world.first:
        print(
            f"train: ended in its warm start, the first {plan.warm_start:.0%} of train.kimg {params.kimg:g}: the "
            "generator was not yet trained against the discriminator; lower train.kimg to what train.minutes allows, "
            "or train.warm_start"
        )
    curves = trainer.final_curves()
    course = course_of(trainer, curves, params)
    if world.first:
        trainer.copy_grids(DATA / "training" / "grids")
        write_csv(DATA / "training" / "losses.csv", ["kimg", *plan.game().columns], curves.losses)
        write_csv(DATA / "training" / "quality.csv", list(curves.quality[0]), curves.quality)
    length = f"{trainer.kimg:g} kimg" + (" in train.minutes" if course["ended_by"] == "minutes" else "")
    picked = best(curves.quality) if params.pick == "best" else None
    if picked:
        trainer.turn_to(picked)
        length += f", the best at {trainer.kimg:g}"
    if world.first:
        write_networks(trainer, dataset, params, data_digest, course, start)
    row = picked or curves.quality[-1]
    scores = f"kid {row['kid']:.3g}, kid_coarse {row['kid_coarse']:.3g}"
    return f"{length}, {scores}, on {trainer.device.type}"


def tidy(stage: Stage) -> None:
    """Keep the states of the training that has just succeeded, and of the others only what may be of use."""
    if said := States.latest(stage).finish():
        print(f"{stage.name}: {said}")


def deciding(
    params: Train, plan: TrainingPlan, data_digest: str, device: torch.device, start: Start | None
) -> dict[str, Any]:
    """What decides the weights besides the code: a resumable state of other settings is never gone on with.

    What changes no step's arithmetic but for the order of sums is not in it. Without a schedule a longer training goes
    on from a shorter one's end.
    """
    ends = {"kimg", "gamma", "pick", "minutes", "on_collapse"}
    network = {f"train.{plan.network.arch}.{name}": value for name, value in plan.network.settings.items()}
    return {
        **network,
        **{f"train.{name}": value for name, value in settings_of(params, plan).items() if name not in ends},
        "train.gamma": plan.gamma,
        "train.kimg": plan.images / 1000 if plan.depends_on_length else "any",
        "train.precision": plan.precision,
        "train.device": device.type,
        "train.init_from": start and start.lineage,
        "data/dataset": data_digest,
    }


def settings_of(params: Train, plan: TrainingPlan) -> dict[str, Any]:
    """The settings of `train` by which the model came about, with what `auto` and null came to."""
    relativistic = plan.loss == "relativistic"
    return {
        "arch": params.arch,
        "kimg": params.kimg,
        "batch": plan.batch,
        "seed": params.seed,
        "generation": params.generation,
        "snapshot_kimg": plan.snapshot_kimg,
        "lr": plan.lr,
        "lr_discriminator": plan.lr_discriminator,
        "optimizer": plan.optimizer,
        "muon_lr": plan.muon_lr if plan.optimizer == "muon" else None,
        "muon_lr_discriminator": plan.muon_lr_discriminator if plan.optimizer == "muon" else None,
        "warm_start": plan.warm_start,
        "lr_decay": plan.lr_decay,
        "beta1": plan.beta1,
        "beta2": plan.beta2,
        "loss": plan.loss,
        "gamma": plan.first_gamma() if relativistic else None,
        "ema": plan.ema,
        "augment": list(plan.augment),
        "augment_probability": plan.augment_probability,
        "pick": params.pick,
        "minutes": plan.minutes,
        "on_collapse": plan.on_collapse,
    }


def tell_recipe(params: Train, plan: TrainingPlan) -> None:
    """Print where the settings leave the architecture's recipe."""
    recipe = asdict(recipe_of(params, plan.network))
    others = [
        f"{name} {getattr(plan, name)} ({value})"
        for name, value in recipe.items()
        if getattr(plan, name) != value
    ]
    if others:
        print(
            f"train: {params.arch}, with other settings than its own (which auto gives): {', '.join(others)}"
        )


def tell_resumed(resumed: bool, trainer: Trainer, states: States) -> None:
    """Print what the training goes on from, or why it begins anew although there are states."""
    for reason in trainer.passed_over:
        print(f"train: {reason}")
    if resumed:
        print(f"train: goes on from {trainer.kimg:g} kimg ({states.directory})")
        if said := states.another_torch():
            print(f"train: {said}")
    elif said := states.not_taken():
        print(f"train: begins anew; {said}")


def out_of_memory(params: Train, device: torch.device, processes: int, at_a_time: int) -> str:
    """What a person can do."""
    less = f"make the networks (train.{params.arch}) or augment.resolution smaller"
    if processes > 1 and params.arch != "r3gan":
        return (
            f"{device} has not enough memory for {at_a_time} pictures at a time, and the batch norms of {params.arch}, "
            f"which {processes} processes share, cannot do a step in parts: lower train.batch, {less}, or use more GPUs"
        )
    return (
        f"{device} has not enough memory, not even for {at_a_time} of train.batch {params.step_batch} pictures at a "
        f"time: {less}, or use another device"
    )


def training_plan(params: Train, dataset: PackedDataset, precision: Precision = "float32") -> TrainingPlan:
    """What params.yaml's `train` means for this dataset and this machine; `generation` is a further seed."""
    network = NetworkConfig(params.arch, dataset.resolution, dict(getattr(params, params.arch)))
    recipe = recipe_of(params, network)
    recipe = recipe.chosen({name: getattr(params, name) for name in asdict(recipe)})
    return TrainingPlan(
        network=network,
        seed=params.seed + params.generation * 2**31,
        batch=params.step_batch,
        lr=params.lr,
        lr_discriminator=params.lr_discriminator or params.lr,
        muon_lr=params.muon_lr,
        muon_lr_discriminator=params.muon_lr_discriminator or params.muon_lr,
        augment=tuple(params.augment),
        snapshot_kimg=params.snapshot_kimg,
        images=math.ceil(params.kimg * 1000),
        gamma=params.gamma,
        minutes=params.minutes,
        on_collapse=params.on_collapse,
        precision=precision,
        **asdict(recipe),
    )


def recipe_of(params: Train, network: NetworkConfig) -> Recipe:
    """The values of `auto` settings: those of the architecture, without a warm start where a model is given."""
    recipe = RECIPES[params.arch]
    return replace(recipe, warm_start=0.0) if start_path(params.init_from, network) else recipe


def course_of(trainer: Trainer, curves: Curves, params: Train) -> dict[str, Any]:
    """What model.json says of how the training went, besides its settings."""
    top = best(curves.quality)
    scores = {"last": curves.quality[-1], "best": top}
    course: dict[str, Any] = {
        "pick": {
            "which": params.pick,
            **{
                name: {key: row[key] for key in ("kimg", "kid", "kid_coarse")}
                for name, row in scores.items()
                if row
            },
        },
        "precision": trainer.plan.precision,
        "ended_by": trainer.ended_by(),
        "rollbacks": [asdict(rollback) for rollback in curves.rollbacks],
        "micro_batch": trainer.micro_batch,
        "processes": trainer.world.size,
    }
    if trainer.plan.augment_probability == "adaptive":
        course["last_augment_probability"] = trainer.augment_probability
    return course


def write_networks(
    trainer: Trainer,
    dataset: PackedDataset,
    params: Train,
    data_digest: str,
    course: Mapping[str, Any],
    start: Start | None,
) -> None:
    """The averaged generator, its opponent, and model.json, which says what they are."""
    facts = {
        "kimg": trainer.kimg,
        "seed": params.seed,
        "generation": params.generation,
        "mirror": dataset.mirror,
        "paintings": len(dataset.train.images),
        "dataset_sha256": data_digest,
        "versions": {"atelier": __version__, "torch": torch.__version__, "python": platform.python_version()},
        **({"start": start.lineage} if start else {}),
    }
    directory, network = DATA / "model", trainer.plan.network
    save_network(directory / "generator.safetensors", trainer.painter(), network, facts)
    save_network(directory / "discriminator.safetensors", trainer.discriminator, network, facts)
    model = {
        **facts,
        **course,
        "arch": network.arch,
        "resolution": network.resolution,
        "settings": network.settings,
        "training": settings_of(params, trainer.plan),
        "parameters": {
            "generator": sum(p.numel() for p in trainer.generator.parameters()),
            "discriminator": sum(p.numel() for p in trainer.discriminator.parameters()),
        },
        "generator_sha256": digest(directory / "generator.safetensors"),
    }
    write_json(directory / "model.json", model)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    """One of the curves, six significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode())


if __name__ == "__main__":
    main("train", run)
