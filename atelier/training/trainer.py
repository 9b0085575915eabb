"""The training loop around the steps of step.py: snapshots, the response to a collapse, and exact resumption."""

import functools
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.metrics.features import judge_for
from atelier.networks.latent_field import FieldGenerator
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.initial import Start
from atelier.training.monitor import (
    Curves,
    Previews,
    Rollback,
    Row,
    advice,
    collapse,
    passes_through,
    rollback_target,
    snapshots_to_keep,
)
from atelier.training.state import Checkpoints, read_notes, tensors_of
from atelier.training.step import TrainingStep

CHECK_STEPS = 50  # the losses are read from the device, for the progress line, once in so many steps


class Stopped(Exception):
    """The training was asked to stop. Its state is saved, and the same call resumes it."""


class Trainer:
    """Trains one generator against one discriminator, on one device per process of `group`.

    All processes call the same methods in the same order; only rank 0 reads and writes. `states` is the directory of
    resumable states, `start` the weights to start from, None for random ones. After `train`, `averaged_generator()` is
    the generator that paints; `final_curves()` and `copy_sheets()` report how the training went.
    """

    def __init__(
        self, plan: TrainingPlan, dataset: PackedDataset, device: torch.device, states: Path,
        start: Start | None = None, group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:  # fmt: skip
        self.plan, self.device, self.group = plan, device, group
        self._checkpoints = Checkpoints(states)
        self._training_step = TrainingStep(plan, dataset, device, start, group)
        self._micro_batches, self._losses = self._training_step.micro_batches, self._training_step.losses
        self.networks = self._training_step.networks
        self.generator, self.discriminator = self.networks.generator, self.networks.discriminator
        self.judge = judge_for({"discriminator": plan.discriminator, "start": start and start.lineage})
        self._previews = Previews(self.networks.ema, dataset, plan.quality_samples, device, self.judge)
        self.curves = Curves()
        self.passed_over: list[str] = []
        self.step = 0
        self.seconds = 0.0  # of training, over all runs
        group.broadcast(tensors_of(self._training_step.state()))  # another kind of CPU may draw other weights

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.plan.batch

    @property
    def kimg(self) -> float:
        """Thousands of real images shown to the discriminator so far."""
        return self.images_seen / 1000

    @property
    def sheets(self) -> Path:
        """The directory of the sheets of samples, `<kimg>.png`, one per snapshot."""
        return self._checkpoints.directory / "grids"

    @property
    def augment_probability(self) -> float:
        """The probability with which the next step augments an image."""
        return self._training_step.augment_probability(self.step)

    @property
    def micro_batch(self) -> int:
        """How many images are computed at a time; fewer than a batch once memory has run out."""
        return -(-self.plan.batch // self.group.size // self._micro_batches.count)

    @property
    def warm(self) -> bool:
        """Whether all steps so far belong to the warm start, in which the discriminator is not trained."""
        return self.step <= self.plan.warm_steps

    def ended_by(self) -> str | None:
        """The setting that ends the training here: `kimg`, `minutes`, or None."""
        if self.images_seen >= self.plan.images:
            return "kimg"
        limit = self.plan.minutes
        return "minutes" if limit is not None and self.step and self.seconds >= 60 * limit else None

    def train(self, bar: Progress, stop: Callable[[], bool] = lambda: False) -> None:
        """Train until the plan's images have been seen (rounded up to whole batches) or its minutes are over.

        Raises Stopped, after saving the state, when `stop()` returns True in any process between two steps, and
        AtelierError where the training has collapsed and the plan does not say how to continue. In any case the last
        state is written when this returns.
        """
        try:
            self._train(bar, stop)
        finally:
            self._checkpoints.wait()

    def _train(self, bar: Progress, stop: Callable[[], bool]) -> None:
        began_s = time.monotonic() - self.seconds
        self._check_collapse(bar)
        while not self.ended_by():
            micro_batch = self.micro_batch
            self.advance()
            if self.micro_batch < micro_batch:
                bar.print_line(
                    f"train: out of memory at {micro_batch} pictures a time; goes on with {self.micro_batch} a time, "
                    f"and still {self.plan.batch} a step"
                )
            elapsed_s = time.monotonic() - began_s
            # all processes must end at the same step, by the clock of rank 0
            asked, self.seconds = self.group.sums(
                stop() or self._checkpoints.failed, elapsed_s if self.group.is_rank0 else 0
            )
            checking, every = self.step % CHECK_STEPS == 0, self.plan.snapshot_kimg * 1000
            at_snapshot = self.images_seen // every > (self.images_seen - self.plan.batch) // every
            if (checking or at_snapshot or self.ended_by() or asked) and not self._training_step.is_finite():
                self._handle_collapse("its losses are no numbers any more", bar, diverged=True)
                continue
            bar.update(self.kimg, self._note(bar) if checking else "")
            if at_snapshot:
                self._snapshot(bar)
                self._check_collapse(bar)
            if asked:
                self.save()
                raise Stopped
        self.save()

    def advance(self) -> None:
        """Train on one batch."""
        self._training_step.run(self.step, rollbacks=len(self.curves.rollbacks))
        self.step += 1

    def save(self) -> None:
        """Write the resumable state after this step, and delete all but the last few and the best snapshots'."""
        self._begin_save()
        self.group.on_rank0(self._checkpoints.wait)

    def _begin_save(self) -> None:
        """As `save`, but return as soon as the state is copied."""
        count = self._micro_batches.count
        notes = {"curves": asdict(self.curves), "seconds": self.seconds, "micro_batches": count}
        keep = {self._step_of(row) for row in snapshots_to_keep(self.curves.quality)}
        self.group.on_rank0(lambda: self._checkpoints.begin_save(self.step, self._training_step.state(), notes, keep))

    def resume(self) -> bool:
        """Load the latest saved state that this training would reach, if any; `passed_over` says why not later ones."""
        self.passed_over = []
        for step in self.group.on_rank0(self._checkpoints.steps):
            if step * self.plan.batch >= self.plan.images + self.plan.batch:
                continue  # of a longer training
            reason = self.group.on_rank0(functools.partial(self._why_unusable, step))
            if reason is None:
                if self._load(step):
                    return True
                reason = "is damaged, or of other networks"
            self.passed_over.append(f"{self._checkpoints.path(step)} {reason}: not gone on with")
        return False

    def go_to(self, row: Row) -> None:
        """Load the state of the snapshot at this row of quality. Raises AtelierError where it is missing or damaged."""
        step = self._step_of(row)
        if step != self.step and not self._load(step):
            raise AtelierError(
                f"the state of the best snapshot, {self._checkpoints.path(step)}, is missing or damaged: "
                f"delete {self._checkpoints.directory} and train again"
            )

    def averaged_generator(self) -> FieldGenerator:
        """The averaged generator, ready to paint: in eval mode, with batch norm statistics measured for its weights."""
        return self._previews.generator()

    def final_curves(self) -> Curves:
        """The curves up to now, with a last row for the steps since the last snapshot."""
        curves = Curves([*self.curves.losses], [*self.curves.quality], self.curves.rollbacks)
        if self._losses and not self.warm:
            curves.losses.append(self._losses_row())
        if self._losses or not curves.quality:
            curves.quality.append(self._quality_row())
        return curves

    def copy_sheets(self, directory: Path) -> None:
        """Copy this training's sheets to `directory`, and draw the last one if there is none yet."""
        directory.mkdir(parents=True, exist_ok=True)
        drawn = [_sheet_name(row["kimg"]) for row in self.curves.losses]
        for name in drawn:
            shutil.copyfile(self.sheets / name, directory / name)
        if (last := _sheet_name(self.kimg)) not in drawn:
            self._previews.draw_sheet(directory / last, self.micro_batch)

    def _snapshot(self, bar: Progress) -> None:
        """Add a row to each curve, draw a sheet, save the state and print a line."""
        if self.warm:  # curves and sheets begin with the adversarial training
            bar.print_line(f"train: {self.kimg:g} kimg, {self._note(bar)}")
            self._losses.clear()
            self._begin_save()
            return
        self.curves.losses.append(self._losses_row())
        self.curves.quality.append(self._quality_row())
        self._losses.clear()
        sheet = self.sheets / _sheet_name(self.kimg)
        if self.group.is_rank0:
            self._previews.draw_sheet(sheet, self.micro_batch)
            bar.show_picture(sheet, self.curves.quality)
        self._begin_save()
        row = self.curves.quality[-1]
        p = f", p {self.augment_probability:.2f}" if self._training_step.adaptive else ""
        scores = f"kid {row['kid']:.3g}, kid_coarse {row['kid_coarse']:.3g}, coverage {row['coverage']:.2f}"
        bar.print_line(f"train: {self.kimg:g} kimg, {scores}{p}, {self.sheets}")
        for sentence in advice(self.curves.losses, self.plan.loss):
            bar.print_line(f"train: {sentence}")

    def _check_collapse(self, bar: Progress) -> None:
        """Handle a collapse that the latest snapshots show, including those of a resumed training."""
        if reason := collapse(self.curves.quality):
            self._handle_collapse(reason, bar, diverged=False)

    def _handle_collapse(self, reason: str, bar: Progress, diverged: bool) -> None:
        """Roll back, continue, or raise AtelierError, by `train.on_collapse`."""
        what = f"the training has collapsed at {self.kimg:g} kimg: {reason}"
        top = rollback_target(self.plan.on_collapse, self.curves, what, diverged)
        if top is None:
            bar.print_line(f"train: {what}; train.on_collapse says to ignore it")
            return
        from_kimg, rollbacks, seconds = self.kimg, self.curves.rollbacks, self.seconds
        micro_batches = self._micro_batches.count
        self.go_to(top)
        self.seconds, self._micro_batches.count = seconds, micro_batches
        self.curves.rollbacks = [*rollbacks, Rollback(from_kimg, self.kimg, reason)]
        self.save()  # replaces the state of the same step, which lacks the rollback
        self.group.on_rank0(lambda: self._checkpoints.drop_after(self.step))
        bar.print_line(f"train: {what}; back to {self.kimg:g} kimg with halved learning rates")

    def _losses_row(self) -> Row:
        return {"kimg": self.kimg, **self._losses.means()}

    def _quality_row(self) -> Row:
        scores = self.group.on_rank0(lambda: self._previews.quality(self.micro_batch))
        return {"kimg": self.kimg, **scores}

    def _note(self, bar: Progress) -> str:
        row = self._losses_row()
        if self.warm:
            return f"{bar.rate * 1000:,.0f} img/s, warm start, L1 {row['loss_g']:.2f}"
        return f"{bar.rate * 1000:,.0f} img/s, D {row['loss_d']:.2f}, G {row['loss_g']:.2f}"

    def _step_of(self, row: Row) -> int:
        return round(row["kimg"] * 1000 / self.plan.batch)

    def _why_unusable(self, step: int) -> str | None:
        """Why this training, with its `train.on_collapse`, would not reach this state; None where it would."""
        notes = read_notes(self._checkpoints.path(step))
        if notes is None:
            return "is damaged, or of another version of Atelier"
        curves = Curves.from_dict(notes["curves"])
        policy = self.plan.on_collapse
        if not passes_through(policy, curves, step * self.plan.batch / 1000):
            return f"is of a training that answered a collapse as train.on_collapse: {policy} does not"
        needed = snapshots_to_keep(curves.quality)[:1]
        if not all(self._checkpoints.path(self._step_of(row)).exists() for row in needed):
            return "lacks the state of its best snapshot"
        return None

    def _load(self, step: int) -> bool:
        if not (loaded := self._checkpoints.load(step, self._training_step.state(), self.group)):
            return False
        self.step, notes = loaded
        self.curves = Curves.from_dict(notes["curves"])
        self.seconds, self._micro_batches.count = notes["seconds"], notes["micro_batches"]
        if self.step:  # at step 0 the average is what the training starts from
            self.networks.ema.has_own_statistics = False
        return True


def _sheet_name(kimg: float) -> str:
    return f"{kimg:010.3f}.png"  # of fixed width, so that names sort by time
