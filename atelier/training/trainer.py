"""The training loop: steps, running averages, snapshots, and an exact way back into the middle of it."""

import functools
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.distributed import ALONE, World
from atelier.training.ema import Showing
from atelier.training.initial import Start
from atelier.training.monitor import Curves, Rollback, Row, advice, collapse, needed, passes_through, way_back
from atelier.training.state import States, load_state, read_notes, save_state, tensors_of, with_moments
from atelier.training.step import Steps

LOOK_STEPS = 50  # how often the losses leave the device for the progress line


class Stopped(Exception):
    """The training was asked to stop; its state is saved, and the same call goes on from there."""


class Trainer:
    """One generator against one discriminator on one device, or on one device of each process of `world`.

    All processes call the same methods in the same order; the first alone reads and writes states and grids. After
    `train`, `ema` is the averaged generator, `discriminator` its opponent, `curves` and `grids` the account.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        dataset: PackedDataset,
        device: torch.device,
        states: Path,
        start: Start | None = None,
        world: World = ALONE,
    ) -> None:
        self.plan, self.device, self._states, self.world = plan, device, States(states), world
        self._steps = Steps(plan, dataset, device, start, world)
        players = self._steps.players
        self.generator, self.discriminator, self.ema = players.generator, players.discriminator, players.ema
        self._showing = Showing(self.ema, dataset, plan.quality_samples, device)
        self.curves = Curves()
        self.passed_over: list[str] = []
        self.step = 0
        self.seconds = 0.0  # of training, over all runs
        world.as_first(tensors_of(self._steps.state()))  # another kind of CPU may draw other weights

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.plan.batch

    @property
    def kimg(self) -> float:
        """The same in thousands."""
        return self.images_seen / 1000

    @property
    def grids(self) -> Path:
        """Where the sample grids lie, `<kimg>.png` each."""
        return self._states.directory / "grids"

    @property
    def augment_probability(self) -> float:
        """The share of images that the next step augments."""
        return self._steps.augment_probability(self._done)

    @property
    def micro_batch(self) -> int:
        """How many images memory held at once so far."""
        return -(-self.plan.batch // self.world.size // self._steps.parts)

    def resume(self) -> bool:
        """Go back to the latest saved state that this training passes through; False where there is none.

        `passed_over` says of each later state why it is not taken.
        """
        self.passed_over = []
        for step in self.world.told_by_first(self._states.steps):
            if step * self.plan.batch >= self.plan.images + self.plan.batch:
                continue  # a longer training's: the shorter one is on the way to it, but not in it
            why_not = self.world.told_by_first(functools.partial(self._why_not, step))
            if why_not is None:
                if self._load(step):
                    return True
                why_not = "is damaged, or of other networks"
            self.passed_over.append(f"{self._states.path(step)} {why_not}: not gone on with")
        return False

    def train(self, progress: Progress, stop: Callable[[], bool] = lambda: False) -> None:
        """Train until the plan's images have been seen (rounded up to whole batches), or its minutes are over.

        Raises Stopped after saving the state, when `stop()` of any process says so between two steps; AtelierError
        where the training has collapsed and the plan does not say how to go on.
        """
        began_s = time.monotonic() - self.seconds
        self._answer_collapse(progress)
        while not self.ended_by():
            self._advance_saying(progress)
            elapsed_s = time.monotonic() - began_s
            # all must end at the same step, by the first one's clock
            asked, self.seconds = self.world.sums(stop(), elapsed_s if self.world.first else 0)
            looking = self.step % LOOK_STEPS == 0
            saving = self._crosses_snapshot() or self.ended_by() or asked
            if (looking or saving) and not self._steps.finite():
                self._collapsed("its losses are no numbers any more", progress, hopeless=True)
                continue
            progress.update(self.kimg, self._note(progress) if looking else "")
            if self._crosses_snapshot():
                self._snapshot(progress)
                self._answer_collapse(progress)
            if asked:
                self.save()
                raise Stopped
        self.save()

    @property
    def warm(self) -> bool:
        """Whether all steps so far belong to the warm start, in which the discriminator is not trained."""
        return self.step <= self.plan.warm_steps

    def ended_by(self) -> str | None:
        """The setting that ends the training here: kimg, or minutes, or None."""
        if self.images_seen >= self.plan.images:
            return "kimg"
        limit = self.plan.minutes
        return "minutes" if limit is not None and self.step and self.seconds >= 60 * limit else None

    def save(self) -> None:
        """Write the resumable state of this step, and drop all but the last few and those of the best snapshots."""
        self.world.told_by_first(self._save)

    def painter(self) -> nn.Module:
        """The averaged generator as it paints, with batch statistics of its own, in eval mode."""
        return self._showing.painter()

    def turn_to(self, row: Row) -> None:
        """Become what the training was at this row of its quality curve: the last one, or the best snapshot's.

        Raises AtelierError where its state has been deleted or damaged by hand.
        """
        if self._step_of(row) != self.step and not self._load(self._step_of(row)):
            raise AtelierError(
                f"the state of the best snapshot, {self._states.path(self._step_of(row))}, is missing or damaged: "
                f"delete {self._states.directory} and train again"
            )

    def final_curves(self) -> Curves:
        """The curves up to now, with a last row for what came after the last snapshot."""
        curves = Curves([*self.curves.losses], [*self.curves.quality], self.curves.rollbacks)
        if self._steps.tally and not self.warm:
            curves.losses.append(self._losses_row())
        if self._steps.tally or not curves.quality:
            curves.quality.append(self._quality_row())
        return curves

    def copy_grids(self, directory: Path) -> None:
        """Copy this training's grids, and draw the last one where no snapshot fell on the end."""
        directory.mkdir(parents=True, exist_ok=True)
        for row in self.curves.losses:
            name = _grid_name(row["kimg"])
            shutil.copyfile(self.grids / name, directory / name)
        self._showing.draw_grid(directory / _grid_name(self.kimg), self.micro_batch)

    def advance(self) -> None:
        """One step: the discriminator on real and generated, then the generator on the same generated pictures."""
        self._steps.take(self.step, self._done, rollbacks=len(self.curves.rollbacks))
        self.step += 1

    @property
    def _done(self) -> float:
        return self.images_seen / self.plan.images

    def _advance_saying(self, progress: Progress) -> None:
        """One step, and a line where it did not fit into memory."""
        before = self.micro_batch
        self.advance()
        if self.micro_batch < before:
            progress.print_line(
                f"train: out of memory at {before} pictures a time; goes on with {self.micro_batch} a time, and "
                f"still {self.plan.batch} a step"
            )

    def _crosses_snapshot(self) -> bool:
        every = self.plan.snapshot_kimg * 1000
        return self.images_seen // every > (self.images_seen - self.plan.batch) // every

    def _snapshot(self, progress: Progress) -> None:
        if self.warm:  # quality and grids begin with the adversarial training
            progress.print_line(f"train: {self.kimg:g} kimg, {self._note(progress)}")
            self._steps.tally.clear()
            self.save()
            return
        self.curves.losses.append(self._losses_row())
        self.curves.quality.append(self._quality_row())
        self._steps.tally.clear()
        if self.world.first:
            self._showing.draw_grid(self.grids / _grid_name(self.kimg), self.micro_batch)
            progress.show_picture(self.grids / _grid_name(self.kimg), self.curves.quality)
        self.save()
        row = self.curves.quality[-1]
        p = f", p {self.augment_probability:.2f}" if self._steps.adaptive else ""
        scores = f"kid {row['kid']:.3g}, kid_coarse {row['kid_coarse']:.3g}, coverage {row['coverage']:.2f}"
        for words in (
            f"{self.kimg:g} kimg, {scores}{p}, {self.grids}",
            *advice(self.curves.losses, self.plan.loss),
        ):
            progress.print_line(f"train: {words}")

    def _answer_collapse(self, progress: Progress) -> None:
        """Do what the plan says where the latest snapshots show a collapse, also where a resumed training shows it."""
        if reason := collapse(self.curves.quality):
            self._collapsed(reason, progress, hopeless=False)

    def _collapsed(self, reason: str, progress: Progress, hopeless: bool) -> None:
        """Roll back, go on, or raise AtelierError; from NaN nothing goes on."""
        what = f"the training has collapsed at {self.kimg:g} kimg: {reason}"
        if top := way_back(self.plan.on_collapse, self.curves, what, hopeless):
            self._roll_back(top, reason)
            progress.print_line(f"train: {what}; back to {self.kimg:g} kimg with halved learning rates")
        else:
            progress.print_line(f"train: {what}; train.on_collapse says to ignore it")

    def _roll_back(self, top: Row, reason: str) -> None:
        from_kimg, before = self.kimg, (self.curves.rollbacks, self.seconds, self._steps.parts)
        self.turn_to(top)
        rollbacks, self.seconds, self._steps.parts = before
        self.curves.rollbacks = [*rollbacks, Rollback(from_kimg, self.kimg, reason)]
        self.save()  # over the same step's state, which differs only in not knowing what lies ahead
        if self.world.first:
            self._states.drop_after(self.step)

    def _losses_row(self) -> Row:
        return {"kimg": self.kimg, **self._steps.tally.means(self._steps.columns)}

    def _quality_row(self) -> Row:
        scores = self.world.told_by_first(lambda: self._showing.quality(self.micro_batch))
        return {"kimg": self.kimg, **scores}

    def _note(self, progress: Progress) -> str:
        row = self._losses_row()
        if self.warm:
            return f"{progress.rate * 1000:,.0f} img/s, warm start, L1 {row['loss_g']:.2f}"
        return f"{progress.rate * 1000:,.0f} img/s, D {row['loss_d']:.2f}, G {row['loss_g']:.2f}"

    def _step_of(self, row: Row) -> int:
        return round(row["kimg"] * 1000 / self.plan.batch)

    def _why_not(self, step: int) -> str | None:
        """Why this training, with what it does about collapses, does not come to this state; None where it does."""
        notes = read_notes(self._states.path(step))
        if notes is None:
            return "is damaged, or of another version of Atelier"
        curves = Curves.of(notes["curves"])
        policy = self.plan.on_collapse
        if not passes_through(policy, curves, step * self.plan.batch / 1000):
            return f"is of a training that answered a collapse as train.on_collapse: {policy} does not"
        if not all(self._states.path(self._step_of(row)).exists() for row in needed(curves.quality)[:1]):
            return "lacks the state of its best snapshot"
        return None

    def _save(self) -> None:
        notes = {"curves": asdict(self.curves), "seconds": self.seconds, "parts": self._steps.parts}
        save_state(self._states.path(self.step), self.step, self._steps.state(), notes)
        self._states.prune(self.step, {self._step_of(row) for row in needed(self.curves.quality)})

    def _load(self, step: int) -> bool:
        state = self._steps.state()
        loaded = self.world.told_by_first(lambda: load_state(self._states.path(step), state))
        if not loaded:
            return False
        moments_of = self.world.told_by_first(lambda: with_moments(state))
        self.world.as_first(tensors_of(state, moments_of))
        self.step, notes = loaded
        self.curves = Curves.of(notes["curves"])
        self.seconds, self._steps.parts = notes["seconds"], notes["parts"]
        self.ema.keeps_statistics = False
        return True


def _grid_name(kimg: float) -> str:
    return f"{kimg:010.3f}.png"  # fixed width, so that names sort by time
