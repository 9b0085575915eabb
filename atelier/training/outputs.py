"""The files that a finished training leaves: the networks with model.json, the curves as CSV, and sheets of samples."""

import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from atelier import __version__
from atelier.data.dataset import PackedDataset
from atelier.files import digest, write_bytes, write_json
from atelier.networks import OWN, save_network
from atelier.networks.efficientnet import LITE0
from atelier.settings.training import Train
from atelier.training.config import TrainingPlan
from atelier.training.initial import Start
from atelier.training.monitor import Curves, best
from atelier.training.trainer import Trainer

# settings of `train` that model.json repeats: those of params.yaml, and those in which a plan replaces `auto` and null
FROM_PARAMS = ("arch", "kimg", "seed", "generation", "pick")
FROM_PLAN = (
    "batch", "snapshot_kimg", "lr", "lr_discriminator", "optimizer", "warm_start", "lr_decay", "beta1", "beta2", "loss",
    "ema", "augment_probability", "minutes", "on_collapse",
)  # fmt: skip


def write_outputs(
    data: Path, trainer: Trainer, dataset: PackedDataset, params: Train, dataset_sha256: str, start: Start | None
) -> str:
    """Write `training/` and `model/` in the directory `data`, and return a one-line summary.

    With `train.pick: best` the networks are those of the best snapshot. All processes call this; rank 0 writes.
    """
    writes = trainer.group.is_rank0
    curves = trainer.final_curves()
    course = _course(trainer, curves, params)
    if writes:
        trainer.copy_sheets(data / "training" / "grids")
        columns = trainer.plan.adversarial_loss().columns
        _write_csv(data / "training" / "losses.csv", ["kimg", *columns], curves.losses)
        _write_csv(data / "training" / "quality.csv", list(curves.quality[0]), curves.quality)
    length = f"{trainer.kimg:g} kimg" + (" in train.minutes" if course["ended_by"] == "minutes" else "")
    picked = best(curves.quality) if params.pick == "best" else None
    if picked:
        trainer.go_to(picked)
        length += f", the best at {trainer.kimg:g}"
    if writes:
        facts = {
            "kimg": trainer.kimg,
            "seed": params.seed,
            "generation": params.generation,
            "mirror": dataset.mirror,
            **({"crops": dataset.strips.crops} if dataset.strips else {}),
            "paintings": len(dataset.train.images),
            "dataset_sha256": dataset_sha256,
            "versions": {"atelier": __version__, "torch": torch.__version__, "python": platform.python_version()},
            **({"start": start.lineage} if start else {}),
            **_not_own(trainer.plan),
        }
        _write_networks(data / "model", trainer, params, facts, course)
    row = picked or curves.quality[-1]
    return f"{length}, kid {row['kid']:.3g}, kid_coarse {row['kid_coarse']:.3g}, on {trainer.device.type}"


def settings_used(params: Train, plan: TrainingPlan) -> dict[str, Any]:
    """The settings of `train` that made the model, with the values that replaced `auto` and null."""
    muon, frozen = plan.optimizer == "muon", plan.freeze_discriminator
    return {
        **{name: getattr(params, name) for name in FROM_PARAMS},
        **{name: getattr(plan, name) for name in FROM_PLAN},
        "muon_lr": plan.muon_lr if muon else None,
        "muon_lr_discriminator": plan.muon_lr_discriminator if muon else None,
        "gamma": plan.start_gamma() if plan.loss == "relativistic" else None,
        "augment": list(plan.augment),
        **({"freeze_discriminator": frozen} if frozen else {}),
        **_not_own(plan),
        **({} if plan.deterministic else {"deterministic": False}),
        **({"labels": params.labels} if params.labels != "none" else {}),
    }


def _not_own(plan: TrainingPlan) -> dict[str, str]:
    return {} if plan.discriminator == OWN else {"discriminator": plan.discriminator}


def _course(trainer: Trainer, curves: Curves, params: Train) -> dict[str, Any]:
    """How the training went, for model.json."""
    rows = {"last": curves.quality[-1], "best": best(curves.quality)}
    scores = {name: {key: row[key] for key in ("kimg", "kid", "kid_coarse")} for name, row in rows.items() if row}
    course: dict[str, Any] = {
        "pick": {"which": params.pick, **scores},
        **({} if trainer.judge == LITE0 else {"features": trainer.judge.version}),  # of the scores
        "precision": trainer.plan.precision,
        "ended_by": trainer.ended_by(),
        "rollbacks": [asdict(rollback) for rollback in curves.rollbacks],
        "micro_batch": trainer.micro_batch,
        "processes": trainer.group.size,
    }
    if trainer.plan.augment_probability == "adaptive":
        course["last_augment_probability"] = trainer.augment_probability
    return course


def _write_networks(
    directory: Path, trainer: Trainer, params: Train, facts: dict[str, Any], course: dict[str, Any]
) -> None:
    """Write the averaged generator and the discriminator, with `facts` in their headers, and model.json."""
    network, generator = trainer.plan.network, directory / "generator.safetensors"
    save_network(generator, trainer.averaged_generator(), network, facts)
    save_network(directory / "discriminator.safetensors", trainer.discriminator, network, facts)
    trained = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    model = {
        **facts,
        **course,
        **asdict(network),
        "training": settings_used(params, trainer.plan),
        "parameters": {name: sum(p.numel() for p in module.parameters()) for name, module in trained.items()},
        "generator_sha256": digest(generator),
    }
    write_json(directory / "model.json", model)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    """Write a curve with six significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode())
