"""The training loop: steps, running averages, snapshots, curves, and an exact way back into the middle of it."""

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atelier.canvas import latents, render_batch
from atelier.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, make_networks
from atelier.progress import Progress
from atelier.quality import RandomFeatures, Reference
from atelier.sheets import write_sheet
from atelier.training.augment import Augment
from atelier.training.checkpoint import TrainingState, load_state, save_state
from atelier.training.data import ResidentData
from atelier.training.ema import Ema
from atelier.training.losses import NonSaturating
from atelier.training.seeds import generator_for

KEPT_STATES = 2
LOOK_STEPS = 50  # how often the losses leave the device for the progress line
CALIBRATION_BATCHES, CALIBRATION_BATCH = 16, 64  # latents that the painter's batch statistics are measured on
GRID_SEED, GRID_COUNT = 0, 64
QUALITY_SEED = 1
LOSSES = ("loss_d", "loss_g", "d_real", "d_fake")


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained and how; `lr_discriminator` and the rest as params.yaml's `train` describes them."""

    network: NetworkConfig
    batch: int
    seed: int
    lr: float
    lr_discriminator: float
    beta1: float
    ema: float
    augment: tuple[str, ...]
    augment_probability: float
    snapshot_kimg: float
    images: int  # how many the training is to see in all
    lr_decay: float  # share of them, at the end, over which the learning rates fall to 0
    quality_samples: int = 512  # pictures behind a row of the quality curve


@dataclass
class Curves:
    """What the snapshots tell, one row each; means are over the images since the row before."""

    losses: list[dict[str, float]] = field(default_factory=list)
    quality: list[dict[str, float]] = field(default_factory=list)


class Stopped(Exception):
    """The training was asked to stop; its state is saved, and the same call goes on from there."""


class Trainer:
    """One generator against one discriminator on one device.

    After `train`, `ema` is the averaged generator, `discriminator` its opponent, `curves` and `grids` the account.
    """

    def __init__(
        self, plan: TrainingPlan, dataset: PackedDataset, device: torch.device, states: Path
    ) -> None:
        self.plan, self.device, self._states = plan, device, states
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)  # weights are drawn on the CPU, the same for every device
            generator, discriminator = make_networks(plan.network)
        self.generator = _placed(generator, device)
        self.discriminator = _placed(discriminator, device)
        self.ema = Ema(self.generator, plan.ema)
        betas = (plan.beta1, 0.999)
        self._adam_g = torch.optim.Adam(self.generator.parameters(), plan.lr, betas, fused=True)
        self._adam_d = torch.optim.Adam(
            self.discriminator.parameters(), plan.lr_discriminator, betas, fused=True
        )
        self._nz = int(plan.network.settings["nz"])
        self._data = ResidentData(dataset.train, plan.seed, device)
        self._held_out = dataset.held_out
        self._reference: Reference | None = None
        self._augment = Augment(plan.augment, plan.augment_probability)
        self._sums = torch.zeros(
            len(LOSSES), dtype=torch.float64, device="cpu" if device.type == "mps" else device
        )
        self._summed = torch.zeros((), dtype=torch.int64)
        self.curves = Curves()
        self.step = 0

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.plan.batch

    @property
    def grids(self) -> Path:
        """Where the sample grids lie, `<kimg>.png` each."""
        return self._states / "grids"

    def resume(self) -> bool:
        """Go back to the latest saved state that this training passes through; False where there is none."""
        for path in sorted(self._states.glob("state-*.safetensors"), reverse=True):
            if int(path.stem.removeprefix("state-")) * self.plan.batch >= self.plan.images + self.plan.batch:
                continue  # a longer training's: the shorter one is on the way to it, but not in it
            if loaded := load_state(path, self._state()):
                self.step, notes = loaded
                self.curves = Curves(notes["losses"], notes["quality"])
                return True
        return False

    def train(self, progress: Progress, stop: Callable[[], bool] = lambda: False) -> None:
        """Train until the plan's images have been seen (rounded up to whole batches).

        Raises Stopped after saving the state, when `stop()` says so between two steps; AtelierError where a loss
        is no longer a number.
        """
        while self.images_seen < self.plan.images:
            self.advance()
            if self.step % LOOK_STEPS == 0:
                progress.update(self.images_seen / 1000, self._note(progress))
            else:
                progress.update(self.images_seen / 1000)
            if self._crosses_snapshot():
                self._snapshot(progress)
            if stop():
                self.save()
                raise Stopped
        self.save()

    def save(self) -> None:
        """Write the resumable state of this step, and drop all but the last few."""
        self._states.mkdir(parents=True, exist_ok=True)
        path = self._states / f"state-{self.step:09d}.safetensors"
        save_state(path, self.step, self._state(), asdict(self.curves))
        for old in sorted(self._states.glob("state-*.safetensors"))[:-KEPT_STATES]:
            old.unlink()

    def painter(self) -> nn.Module:
        """The averaged generator as it paints, with batch statistics of its own, in eval mode."""
        generators = (generator_for("calibrate", index) for index in range(CALIBRATION_BATCHES))
        return self.ema.painter(
            torch.randn(CALIBRATION_BATCH, self._nz, generator=generator).to(self.device)
            for generator in generators
        )

    def final_curves(self) -> Curves:
        """The curves up to now, with a last row for what came after the last snapshot."""
        curves = Curves([*self.curves.losses], [*self.curves.quality])
        if self._summed:
            curves.losses.append(self._losses_row())
            curves.quality.append(self._quality_row())
        return curves

    def copy_grids(self, directory: Path) -> None:
        """Copy this training's grids, and draw the last one where no snapshot fell on the end."""
        directory.mkdir(parents=True, exist_ok=True)
        for row in self.curves.losses:
            name = _grid_name(row["kimg"])
            shutil.copyfile(self.grids / name, directory / name)
        self._draw_grid(directory / _grid_name(self.images_seen / 1000))

    def advance(self) -> None:
        """One step: the discriminator on real and generated, then the generator on the same generated pictures."""
        plan, step = self.plan, self.step
        real = self._data.batch(step, plan.batch)
        z = torch.randn(plan.batch, self._nz, generator=generator_for("z", plan.seed, step))
        fake = self.generator(z.to(self.device))
        draws = generator_for("augment", plan.seed, step)

        real_logits = self.discriminator(self._augment(real, draws))
        fake_logits = self.discriminator(self._augment(fake.detach(), draws))
        self._set_learning_rates()
        loss_d = NonSaturating.discriminator(real_logits, fake_logits)
        self._adam_d.zero_grad(set_to_none=True)
        loss_d.backward()  # type: ignore[no-untyped-call]
        self._adam_d.step()

        self.discriminator.requires_grad_(False)  # its weights' gradients would be thrown away
        loss_g = NonSaturating.generator(self.discriminator(self._augment(fake, draws)))
        self._adam_g.zero_grad(set_to_none=True)
        loss_g.backward()  # type: ignore[no-untyped-call]
        self._adam_g.step()
        self.discriminator.requires_grad_(True)

        self.ema.update(step)
        parts = (loss_d, loss_g, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean())
        self._sums += torch.stack([part.detach() for part in parts]).to(self._sums)
        self._summed += 1
        self.step += 1

    def _set_learning_rates(self) -> None:
        plan = self.plan
        left = max(plan.images - self.images_seen, 0) / plan.images
        factor = min(1.0, left / plan.lr_decay) if plan.lr_decay else 1.0
        for adam, lr in ((self._adam_g, plan.lr), (self._adam_d, plan.lr_discriminator)):
            adam.param_groups[0]["lr"] = lr * factor

    def _crosses_snapshot(self) -> bool:
        every = self.plan.snapshot_kimg * 1000
        return self.images_seen // every > (self.images_seen - self.plan.batch) // every

    def _snapshot(self, progress: Progress) -> None:
        self.curves.losses.append(self._losses_row())
        self.curves.quality.append(self._quality_row())
        self._sums.zero_()
        self._summed.zero_()
        self._draw_grid(self.grids / _grid_name(self.images_seen / 1000))
        self.save()
        kid = self.curves.quality[-1]["kid_rand"]
        progress.line(f"train: {self.images_seen / 1000:g} kimg, kid_rand {kid:.3f}, {self.grids}")

    def _losses_row(self) -> dict[str, float]:
        means = (self._sums / self._summed.to(self._sums)).tolist()
        return {"kimg": self.images_seen / 1000, **dict(zip(LOSSES, means, strict=True))}

    def _quality_row(self) -> dict[str, float]:
        features = RandomFeatures(self.device)
        if self._reference is None:
            self._reference = Reference.of(features(self._held_out.images[: self.plan.quality_samples]))
        kid = self._reference.kid(features(self._paint(QUALITY_SEED, self.plan.quality_samples)))
        return {"kimg": self.images_seen / 1000, "kid_rand": kid}

    def _draw_grid(self, path: Path) -> None:
        write_sheet(path, self._paint(GRID_SEED, GRID_COUNT))

    def _paint(self, seed: int, count: int) -> npt.NDArray[np.uint8]:
        """Pictures of the painter, always the same latents: (count, H, W, 3)."""
        painter = self.painter()
        z = torch.cat([latents(seed, index, self._nz) for index in range(count)])
        return np.concatenate([render_batch(painter, part) for part in torch.split(z, self.plan.batch)])

    def _note(self, progress: Progress) -> str:
        row = self._losses_row()
        if not all(map(math.isfinite, row.values())):
            raise AtelierError(
                f"the training's losses are no numbers any more after {self.images_seen / 1000:g} kimg: "
                "lower train.lr, or widen the generator (train.dcgan.ngf)"
            )
        return f"{progress.rate * 1000:,.0f} img/s, D {row['loss_d']:.2f}, G {row['loss_g']:.2f}"

    def _state(self) -> TrainingState:
        return TrainingState(
            {"g": self.generator, "d": self.discriminator, "ema": self.ema.average},
            {"adam_g": (self._adam_g, self.generator), "adam_d": (self._adam_d, self.discriminator)},
            {"sums": self._sums, "summed": self._summed},
        )


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, channels last: what its convolutions like best."""
    return network.to(device).to(memory_format=torch.channels_last)


def _grid_name(kimg: float) -> str:
    return f"{kimg:010.3f}.png"  # fixed width, so that names sort by time
