"""What each process of a training in several processes runs, in a module that it can import."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from atelier.data.dataset import PackedDataset, WorkRow
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, r3gan
from atelier.networks.labels import Labels
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.distributed import ProcessGroup
from atelier.training.trainer import Stopped, Trainer
from tests import judged_small
from tests.datasets import noise

CPU = torch.device("cpu")
r3gan.PRESETS["narrow"] = (32, 1)  # imported by every process of the training
TINY = {"nz": 4, "ngf": 4, "ndf": 4}
PLANS = {
    name: TrainingPlan(
        network=NetworkConfig(name.split("-")[0], 8 if name == "r3gan" else 16, settings),
        batch=4,
        seed=3,
        lr=2e-4,
        lr_discriminator=1e-4,
        beta1=0.5,
        ema=0.9,
        augment=("translation", "brightness", "saturation", "contrast", "cutout"),
        augment_probability=0.8,
        snapshot_kimg=0.012,
        images=16,
        lr_decay=0.5,
        loss=loss,
        quality_samples=4,
    )
    for name, settings, loss in (
        ("dcgan", TINY, "nonsaturating"),
        ("dcgan-relativistic", TINY, "relativistic"),
        ("sketch-adaptive", {**TINY, "noise": 2}, "nonsaturating"),
        ("r3gan", {"preset": "narrow", "nz": 4}, "relativistic"),
    )
}
PLANS["sketch-adaptive"] = replace(
    PLANS["sketch-adaptive"], augment_probability="adaptive", images=72, snapshot_kimg=0.04
)
PLANS["sketch-warm"] = replace(
    PLANS["dcgan"],
    network=NetworkConfig("sketch", 16, {**TINY, "noise": 2}),
    optimizer="muon",
    warm_start=0.5,
)
GENRES = ["marine", "landscape", "", "marine"]
PLANS["sketch-labels"] = replace(
    PLANS["sketch-warm"],
    network=PLANS["sketch-warm"].network.with_labels(Labels("genre", ("marine", "landscape"), (8, 4), 4)),
)
MIDDLES = {"one": 1, "two": 3}  # steps after which a training changes hands between one process and two


def dataset(name: str) -> PackedDataset:
    data = noise(PLANS[name].network.resolution, train=16)
    works = [WorkRow(id, genre, "", "", "") for id, genre in zip(data.train.ids, 4 * GENRES, strict=True)]
    return replace(data, train=replace(data.train, works=works))


def trained(
    name: str, states: Path, stop_at: int | None = None, group: ProcessGroup | None = None
) -> dict[str, Tensor]:
    """Resume the training in `states` to its end or to a step; returns weights and curves."""
    trainer = Trainer(PLANS[name], dataset(name), CPU, states, group=group or ProcessGroup())
    if trainer._training_step.adaptive:
        trainer._training_step.adaptive.p.fill_(0.5)  # so that it can move either way
    trainer.resume()
    last = trainer.group.size - 1
    with Progress("train", 1, "kimg") as progress:
        try:
            # one asks, all stop
            trainer.train(progress, stop=lambda: trainer.step == stop_at and trainer.group.rank == last)
        except Stopped:
            assert trainer.step == stop_at
    curves = trainer.final_curves()
    rows = [value for row in [*curves.losses, *curves.quality] for value in row.values()]
    return {
        **_named("g", trainer.generator.state_dict()),
        **_named("d", trainer.discriminator.state_dict()),
        **_named("ema", trainer.networks.ema.average.state_dict()),
        "curves": torch.tensor(rows, dtype=torch.float64),
        "p": torch.tensor(trainer.augment_probability),
    }


def gradients(name: str, group: ProcessGroup | None = None, device: torch.device = CPU) -> dict[str, Tensor]:
    """The gradients of both networks in the first step."""
    trainer = Trainer(PLANS[name], dataset(name), device, Path("none"), group=group or ProcessGroup())
    trainer.advance()
    return {**_gradients("g", trainer.generator), **_gradients("d", trainer.discriminator)}


def train_all(folder: Path, group: ProcessGroup) -> str:
    """Train every plan undisturbed, stopped and resumed, and in the middle of a training in a single process.

    At last the second process runs out of memory, with networks that can repeat the step and with some that cannot.
    """
    torch.set_deterministic_debug_mode("error")
    judged_small.apply()  # as the fixture does in the test's own process
    for name in PLANS:
        results = {
            "gradients": gradients(name, group),
            "undisturbed": trained(name, folder / name / "two", group=group),
        }
        trained(name, folder / name / "stopped", stop_at=2, group=group)
        results["resumed"] = trained(name, folder / name / "stopped", group=group)
        trained(name, folder / name / "mixed", stop_at=MIDDLES["two"], group=group)
        for what, tensors in results.items():
            save_file(tensors, folder / name / f"{what}-{group.rank}.safetensors")
    save_file(_in_parts("r3gan", group), folder / "r3gan" / f"in-parts-{group.rank}.safetensors")
    try:
        _in_parts("dcgan", group)
    except torch.OutOfMemoryError:
        raise AtelierError(f"no memory in {group.rank}") from None
    return "never"


def compare_on_gpus(folder: Path, group: ProcessGroup) -> str:
    """Every plan's gradients, on one GPU a process."""
    for name in PLANS:
        save_file(gradients(name, group, torch.device("cuda")), folder / f"{name}-{group.rank}.safetensors")
    return f"on {torch.cuda.current_device()}"


def _in_parts(name: str, group: ProcessGroup) -> dict[str, Tensor]:
    """The first step's gradients where the second process can hold one real and one generated picture at a time."""

    def refuses(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not group.is_rank0 and len(inputs[0]) > (2 if PLANS[name].loss == "relativistic" else 1):
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer = Trainer(PLANS[name], dataset(name), CPU, Path("none"), group=group)
    trainer.discriminator.register_forward_pre_hook(refuses)
    trainer.advance()
    assert trainer.micro_batch == 1
    return _gradients("d", trainer.discriminator)


def _gradients(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return _named(prefix, {name: p.grad for name, p in network.named_parameters() if p.grad is not None})


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
