"""A GAN on the packed set: data/dataset → data/model, data/training."""

import csv
import functools
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from atelier import __version__
from atelier.dataset import PackedDataset, open_dataset
from atelier.errors import AtelierError
from atelier.files import digest, digest_tree, write_bytes, write_json
from atelier.networks import NetworkConfig, save_network
from atelier.params import ARCHS, Train
from atelier.start import Start, open_start
from atelier.training.checkpoint import inputs_key
from atelier.training.curves import Curves, best
from atelier.training.loop import Stopped, Trainer
from atelier.training.plan import TrainingPlan
from atelier.training.precision import Precision, pick_precision
from atelier.training.world import World
from tasks.processes import in_processes
from tasks.stage import DATA, Stage, main
from tasks.trainer import asked_to_stop, deterministic_device

# none of these changes a step's arithmetic, but for the order of sums (without a schedule, a longer training goes on
# from a shorter one's end); the settings of the architecture in use are in the key, those of the others are not, and
# of the precision what it comes to on this machine
NOT_IN_KEY = {"kimg", "init_from", "device", "precision", "gpus", "minutes", "pick", "on_collapse", *ARCHS}


def run(stage: Stage) -> str:
    """Train to `train.kimg`, going on from the state of the same inputs where there is one."""
    params = stage.params.train
    return in_processes(params.gpus, params.device, params.batch, functools.partial(train, stage))


def train(stage: Stage, world: World) -> str:
    """The whole stage in one process of `world`, of which the first alone writes."""
    params = stage.params.train
    dataset = open_dataset(DATA / "dataset")
    device = deterministic_device("train", params.device)
    precision, why = pick_precision(params.precision, device)
    print(f"train: computes in {precision}, {why}")
    plan = training_plan(params, dataset, precision)
    data_digest = digest_tree(DATA / "dataset")
    schedule = plan.images if plan.depends_on_length else None
    start = open_start(Path(params.init_from), plan.network) if params.init_from else None
    settings, begun = params.model_dump(exclude=NOT_IN_KEY), start and start.lineage
    key = inputs_key(settings, schedule, plan.network.settings, data_digest, device.type, precision, begun)
    if not world.all(world.told_by_first(lambda: key) == key):
        raise AtelierError(
            "the machines of this training differ in params.yaml, data/dataset, Atelier or torch: make them equal"
        )
    trainer = Trainer(plan, dataset, device, stage.state / key, start, world)
    if trainer.resume():
        print(f"train: goes on from {trainer.kimg:g} kimg (.atelier/train/{key})")
    with asked_to_stop() as stopping:
        progress = stage.progress(plan.images / 1000, "kimg", trainer.kimg, silent=not world.first)
        try:
            with progress:
                trainer.train(progress, stopping.is_set)
        except Stopped:
            print(f"train: stopped at {trainer.kimg:g} kimg; `dvc repro` goes on from there")
            raise SystemExit(143) from None
        except torch.OutOfMemoryError:
            raise AtelierError(out_of_memory(trainer, params)) from None
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
    kid = (picked or curves.quality[-1])["kid_rand"]
    return f"{length}, kid_rand {kid:.3f}, on {device.type}"


def out_of_memory(trainer: Trainer, params: Train) -> str:
    """What a person can do."""
    many = trainer.world.size
    less = f"make the networks (train.{params.arch}) or augment.resolution smaller"
    if many > 1 and params.arch != "r3gan":
        return (
            f"{trainer.device} has not enough memory for {trainer.micro_batch} pictures at a time, and the batch norms "
            f"of {params.arch}, which {many} processes share, cannot do a step in parts: lower train.batch, {less}, or "
            "use more GPUs"
        )
    return (
        f"{trainer.device} has not enough memory, not even for {trainer.micro_batch} of train.batch {params.batch} "
        f"pictures at a time: {less}, or use another device"
    )


def training_plan(params: Train, dataset: PackedDataset, precision: Precision = "float32") -> TrainingPlan:
    """What params.yaml's `train` means for this dataset and this machine; `generation` is a further seed."""
    settings = getattr(params, params.arch).model_dump()
    return TrainingPlan(
        network=NetworkConfig(params.arch, dataset.resolution, settings),
        batch=params.batch,
        seed=params.seed + params.generation * 2**31,
        lr=params.lr,
        lr_discriminator=params.lr_discriminator or params.lr,
        beta1=params.beta1,
        beta2=params.beta2,
        ema=params.ema,
        augment=tuple(params.augment),
        augment_probability=params.augment_probability,
        snapshot_kimg=params.snapshot_kimg,
        images=math.ceil(params.kimg * 1000),
        lr_decay=params.lr_decay,
        loss=params.loss,
        gamma=params.gamma,
        minutes=params.minutes,
        on_collapse=params.on_collapse,
        precision=precision,
    )


def course_of(trainer: Trainer, curves: Curves, params: Train) -> dict[str, Any]:
    """What model.json says of how the training went, besides its settings."""
    top = best(curves.quality)
    scores = {"last": curves.quality[-1], "best": top}
    course: dict[str, Any] = {
        "pick": {
            "which": params.pick,
            **{name: {key: row[key] for key in ("kimg", "kid_rand")} for name, row in scores.items() if row},
        },
        "precision": trainer.plan.precision,
        "ended_by": trainer.ended_by(),
        "rollbacks": [asdict(rollback) for rollback in curves.rollbacks],
        "micro_batch": trainer.micro_batch,
        "processes": trainer.world.size,
    }
    if params.augment_probability == "adaptive":
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
        "training": params.model_dump(exclude={"device", "gpus", "init_from", "precision", *ARCHS}),
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
