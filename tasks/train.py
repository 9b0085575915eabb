"""Stage train: trains a GAN on data/dataset and writes data/model and data/training."""

import functools
from dataclasses import asdict
from typing import Any

import torch

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.device import deterministic_device, is_out_of_memory, relax_determinism
from atelier.errors import AtelierError
from atelier.files import digest_tree
from atelier.metrics.distances import QUICK_PICTURES, check_counts
from atelier.model_store import start_path
from atelier.networks.efficientnet import LITE0, LITE1, read_lite_weights
from atelier.networks.labels import Labels
from atelier.paths import DATA, DATASET
from atelier.settings.training import Train
from atelier.training.config import TrainingPlan, pick_precision, recipe_for, training_plan
from atelier.training.distributed import ProcessGroup
from atelier.training.initial import Start, open_start
from atelier.training.outputs import settings_used, write_outputs
from atelier.training.processes import run_in_processes, stop_requests
from atelier.training.trainer import Stopped, Trainer
from tasks.stage import Stage, main
from tasks.states import States

# Settings that change no step's arithmetic, except for the order of sums.
NOT_IN_STATE_KEY = {"kimg", "gamma", "pick", "minutes", "on_collapse"}


def run(stage: Stage) -> str:
    """Train to `train.kimg`, from the saved state of the same inputs if there is one."""
    params = stage.params.train
    summary = run_in_processes(params.gpus, params.device, params.step_batch, functools.partial(train, stage))
    stage.after_success.append(lambda: States.latest(stage).finish(stage.name))
    return summary


def train(stage: Stage, group: ProcessGroup) -> str:
    """The whole stage in one process of `group`; only rank 0 writes files."""
    params = stage.params.train
    dataset = open_dataset(DATASET)
    # checked before any work, because the first snapshot could not be scored
    read_lite_weights(LITE0 if params.discriminator == "own" else LITE1)
    check_counts(QUICK_PICTURES, len(dataset.train.images), len(dataset.held_out.images))
    device = deterministic_device("train", params.device)
    precision, why = pick_precision(params.precision, device)
    print(f"train: computes in {precision}, {why}")
    relaxed = not params.deterministic and relax_determinism(device)
    if relaxed:
        print("train: not deterministic, as asked: another run, and a resumed one, end with slightly other weights")
    labels = labels_of(params, dataset)
    plan = training_plan(params, dataset.resolution, precision, not relaxed, labels, dataset.aspect)
    others = {name: own for name, own in recipe_for(params, plan.network).items() if getattr(plan, name) != own}
    if others:
        words = ", ".join(f"{name} {getattr(plan, name)} ({own})" for name, own in others.items())
        print(f"train: {params.arch}, with other settings than its own (which auto gives): {words}")
    dataset_sha256 = digest_tree(DATASET)
    path = start_path(params.init_from, asdict(plan.network.with_labels(None)), stage.params.scrape.source)
    start = open_start(path, plan.network, plan.discriminator) if path else None
    print(f"train: starts from {path or 'nothing'}{_new_layers(start, dataset)}")
    states = States.of(stage, state_key(params, plan, dataset_sha256, device, start))
    if not group.all_agree(group.on_rank0(lambda: states.directory.name) == states.directory.name):
        raise AtelierError(
            "the machines of this training differ in params.yaml, data/dataset, Atelier or torch: make them equal"
        )
    if group.is_rank0:
        states.begin()
    trainer: Trainer | None = None
    try:
        trainer = Trainer(plan, dataset, device, states.directory, start, group)
        resumed = trainer.resume()
        for reason in trainer.passed_over:
            print(f"train: {reason}")
        states.print_resumed("train", resumed, f"{trainer.kimg:g} kimg")
        train_to_end(trainer, stage)
        return write_outputs(DATA, trainer, dataset, params, dataset_sha256, start)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        micro_batch = trainer.micro_batch if trainer else params.step_batch // group.size
        raise AtelierError(out_of_memory(params, device, group.size, micro_batch)) from None


def labels_of(params: Train, dataset: PackedDataset) -> Labels | None:
    """The classes that `train.labels` asks for, which are printed; None for none."""
    if params.labels == "none":
        return None
    values = dataset.train.values(params.labels)
    labels = Labels.of(params.labels, values)
    print(f"train: {labels.in_words(values)}")
    return labels


def train_to_end(trainer: Trainer, stage: Stage) -> None:
    """Train with a progress bar. Raises SystemExit, after the state is saved, where the process is asked to stop."""
    plan, rank0 = trainer.plan, trainer.group.is_rank0
    with stop_requests() as stopping:
        bar = stage.progress(plan.images / 1000, "kimg", trainer.kimg, silent=not rank0)
        try:
            with bar:
                trainer.train(bar, stopping.is_set)
        except Stopped:
            print(f"train: stopped at {trainer.kimg:g} kimg; `dvc repro` goes on from there")
            raise SystemExit(143) from None
    if plan.warm_steps and trainer.warm and rank0:
        print(
            f"train: ended in its warm start, the first {plan.warm_start:.0%} of train.kimg "
            f"{stage.params.train.kimg:g}: the generator was not yet trained against the discriminator; lower "
            "train.kimg to what train.minutes allows, or train.warm_start"
        )


def _new_layers(start: Start | None, dataset: PackedDataset) -> str:
    words = []
    if start and start.grown_from_px:
        sizes = f"{start.grown_from_px} to {dataset.resolution} px"
        words.append(f", which grows from {sizes}: its coarse layers are copied, finer ones new")
    if start and start.reshaped_from:
        shapes = f"of shape {start.reshaped_from} instead of {dataset.aspect}"
        words.append(f", made for pictures {shapes}: the layers of the base cells are new, the others copied")
    return ";".join(words)


def state_key(
    params: Train, plan: TrainingPlan, dataset_sha256: str, device: torch.device, start: Start | None
) -> dict[str, Any]:
    """What decides the weights besides the code: a saved state is resumed only where all of this is equal.

    Without a schedule that depends on the length, a longer training continues from the end of a shorter one.
    """
    network = {f"train.{plan.network.arch}.{name}": value for name, value in plan.network.settings.items()}
    settings = settings_used(params, plan).items()
    return {
        **network,
        **{f"train.{name}": value for name, value in settings if name not in NOT_IN_STATE_KEY},
        "train.gamma": plan.gamma,
        "train.freeze_discriminator": plan.freeze_discriminator,
        "train.deterministic": plan.deterministic,
        "train.kimg": plan.images / 1000 if plan.depends_on_length else "any",
        "train.precision": plan.precision,
        "train.device": device.type,
        "train.init_from": start and start.lineage,
        DATASET.as_posix(): dataset_sha256,
    }


def out_of_memory(params: Train, device: torch.device, processes: int, micro_batch: int) -> str:
    """The error message for a training that does not fit even with `micro_batch` images at a time."""
    less = f"make the networks (train.{params.arch}) or augment.resolution smaller"
    if processes > 1 and (params.arch != "r3gan" or params.discriminator != "own"):
        layers = params.arch if params.arch != "r3gan" else "its discriminator"
        return (
            f"{device} has not enough memory for {micro_batch} pictures at a time, and the batch norms of "
            f"{layers}, which {processes} processes share, cannot do a step in parts: lower train.batch, {less}, "
            "or use more GPUs"
        )
    return (
        f"{device} has not enough memory, not even for {micro_batch} of train.batch {params.step_batch} pictures at a "
        f"time: {less}, or use another device"
    )


if __name__ == "__main__":
    main("train", run)
