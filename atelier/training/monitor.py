"""The curves of a training and what follows from them: the best snapshot, a collapse, advice.

These are computed from the rows of the curves alone, so a resumed training reaches the same conclusions. `RunningMean`
and `Previews` provide the rows: the mean losses, and the quality of the averaged generator, with sheets of its images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import PackedDataset
from atelier.errors import AtelierError
from atelier.metrics.distances import QuickPanel
from atelier.networks.efficientnet import LITE0, LiteVariant
from atelier.networks.latent_field import FieldGenerator, draw_inputs, random_inputs, render_batch
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.training.initial import Ema
from atelier.training.losses import Logs
from atelier.training.state import generator_for

Row = dict[str, float]  # of losses.csv or quality.csv, by column

COLLAPSE_COVERAGE_RATIO = 0.5  # of the best coverage so far: more than the noise of the curve explains
MIN_BEST_COVERAGE = 0.25  # a training whose coverage was never above this cannot collapse
CONSECUTIVE_ROWS = 2  # a single one may be chance
MAX_ROLLBACKS = 3  # after which the settings are the likely cause

GUESSING_LOSS_D = {"relativistic": math.log(2), "nonsaturating": 2 * math.log(2), "hinge": 2.0}  # of one that guesses
GUESSING_TOLERANCE = 0.02  # relative
OVERFIT_LOSS_D = {"relativistic": 0.1, "nonsaturating": 0.5, "hinge": 0.5}
VANISHING_LOSS_D = 0.02  # leaves the generator no gradient
RISING_ROWS = 3  # of a growing loss_g

CALIBRATION_BATCHES, CALIBRATION_BATCH = 16, 64  # latents on which batch norm statistics are measured
SHEET_SEED, SHEET_COUNT = 0, 64
QUALITY_SEED = 1
MIN_QUALITY_IMAGES = 32  # with few held-out paintings, coverage is a mean over several groups of images

PINNED = {
    "relativistic": "D-loss pinned at ln 2 (0.69) or above: the penalties leave the discriminator no say, gamma is too "
    "large; lower train.gamma",
    "nonsaturating": "D-loss pinned at 2 ln 2 (1.39) or above: the discriminator only guesses; raise "
    "train.lr_discriminator or widen it",
    "hinge": "D-loss pinned at 2 or above: the discriminator only guesses; raise train.lr_discriminator",
}
OVERFIT = {
    "relativistic": "D-loss below 0.1 and G-loss rising: over-fitting; raise train.augment_probability or train.gamma, "
    "or use more paintings",
    "nonsaturating": "D-loss below 0.5 and G-loss rising: over-fitting; raise train.augment_probability, lower "
    "train.lr_discriminator, or use more paintings",
    "hinge": "D-loss below 0.5 and G-loss rising: over-fitting; raise train.augment_probability, lower "
    "train.lr_discriminator, or use more paintings",
}
VANISHED = {
    "relativistic": "D-loss at 0: the discriminator tells all apart, and the generator learns nothing from it; raise "
    "train.gamma or lower train.lr",
    "nonsaturating": "D-loss at 0: the discriminator tells all apart, and the generator learns nothing from it; lower "
    "train.lr or train.lr_discriminator, or narrow the discriminator",
    "hinge": "D-loss at 0: the discriminator tells all apart by more than the hinge loss asks for; lower "
    "train.lr_discriminator or train.muon_lr_discriminator",
}


@dataclass(frozen=True)
class Rollback:
    """A return from `from_kimg` to the best snapshot at `to_kimg`, because of `reason`."""

    from_kimg: float
    to_kimg: float
    reason: str


@dataclass
class Curves:
    """The rows of losses.csv and quality.csv, one per snapshot; losses are means since the previous row."""

    losses: list[Row] = field(default_factory=list)
    quality: list[Row] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)

    @classmethod
    def from_dict(cls, notes: Mapping[str, list[Any]]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(notes["losses"], notes["quality"], [Rollback(**row) for row in notes["rollbacks"]])

    def continued_after_collapse(self, kimg: float) -> bool:
        """Whether a training that is at `kimg` has continued after its snapshots showed a collapse."""
        past = [end for end, row in enumerate(self.quality, 1) if row["kimg"] < kimg]
        return any(collapse(self.quality[:end]) for end in past)


def best(quality: Sequence[Row]) -> Row | None:
    """The row with the lowest kid_coarse among those that have not collapsed; None without rows."""
    sound = (row for row, collapsed in zip(quality, _collapsed(quality), strict=True) if not collapsed)
    return min(sound, key=lambda row: row["kid_coarse"], default=None)


def snapshots_to_keep(quality: Sequence[Row]) -> list[Row]:
    """The snapshots whose states may still be needed: the best, and the best before the last, for going back."""
    return [row for row in (best(quality), best(quality[:-1])) if row]


def collapse(quality: Sequence[Row]) -> str | None:
    """A description of the collapse if the coverage of the last snapshots is at most half its best, else None."""
    collapsed = list(_collapsed(quality))
    if len(collapsed) < CONSECUTIVE_ROWS or not all(collapsed[-CONSECUTIVE_ROWS:]):
        return None
    top = max(quality, key=lambda row: row["coverage"])
    last = " and ".join(f"{row['coverage']:.2f} at {row['kimg']:g}" for row in quality[-CONSECUTIVE_ROWS:])
    return f"coverage fell from {top['coverage']:.2f} at {top['kimg']:g} kimg to {last}"


def rollback_target(policy: str, curves: Curves, what: str, diverged: bool) -> Row | None:
    """The snapshot to go back to after a collapse, by `train.on_collapse`; None to continue as if nothing had happened.

    Raises AtelierError, which begins with `what`, where the policy ends the training, and where weights or losses are
    not finite (`diverged`) and there is no snapshot to go back to.
    """
    top = best(curves.quality)
    if policy == "rollback" and top and len(curves.rollbacks) < MAX_ROLLBACKS:
        return top
    if policy == "ignore" and not diverged:
        return None
    raise AtelierError(f"{what}. {remedy(policy, top, len(curves.rollbacks), diverged)}")


def remedy(policy: str, top: Row | None, rollbacks: int, diverged: bool) -> str:
    """What a person can do about a collapse that ends the training; `top` is the best snapshot."""
    cure = "Lower train.lr, or widen the generator" if diverged else "More paintings or a lower train.lr help"
    if top is None:
        return f"{cure}; there is no snapshot yet to go back to"
    if policy == "rollback":
        return f"{cure}; it went back {rollbacks} times already"
    back = f"train.on_collapse: rollback goes back to {top['kimg']:g} kimg with halved learning rates"
    return f"{cure}; {back}" + ("" if diverged else ", ignore goes on (train.pick: best keeps the best)")


def passes_through(policy: str, curves: Curves, kimg: float) -> bool:
    """Whether a training with this `train.on_collapse` would reach a state at `kimg` with these curves."""
    return not (curves.continued_after_collapse(kimg) if policy == "rollback" else curves.rollbacks)


def advice(losses: Sequence[Row], loss: str) -> list[str]:
    """Sentences about settings that the course of the losses suggests to change; usually none."""
    latest = [row["loss_d"] for row in losses[-CONSECUTIVE_ROWS:]]
    if len(latest) == CONSECUTIVE_ROWS and min(latest) >= (1 - GUESSING_TOLERANCE) * GUESSING_LOSS_D[loss]:
        return [PINNED[loss]]
    if len(latest) == CONSECUTIVE_ROWS and max(latest) <= VANISHING_LOSS_D:
        return [VANISHED[loss]]
    rising = [row["loss_g"] for row in losses[-RISING_ROWS:]]
    if len(rising) == RISING_ROWS and rising == sorted(set(rising)) and latest[-1] < OVERFIT_LOSS_D[loss]:
        return [OVERFIT[loss]]
    return []


def _collapsed(quality: Sequence[Row]) -> Iterator[bool]:
    """For each row, whether its coverage is at most half the best so far."""
    top = 0.0
    for row in quality:
        top = max(top, row["coverage"])
        yield top >= MIN_BEST_COVERAGE and row["coverage"] <= COLLAPSE_COVERAGE_RATIO * top


class RunningMean:
    """The means of named values over the steps since `clear`, summed on the device without waiting for it."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = names
        self._sums = torch.zeros(len(names), dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        self._steps = torch.zeros((), dtype=torch.int64)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, logs: Logs) -> None:
        """Add the values of one step; a name that is missing counts as 0."""
        zero = torch.zeros_like(next(iter(logs.values())))
        self._sums += torch.stack([logs.get(name, zero) for name in self._names]).to(self._sums)
        self._steps += 1

    def means(self) -> dict[str, float]:
        """The means by name, in the order of `names`; waits for the device."""
        means = (self._sums / self._steps.to(self._sums)).tolist()
        return dict(zip(self._names, means, strict=True))

    def isfinite(self) -> Tensor:
        """Whether all sums are finite, still on the device."""
        return self._sums.isfinite().all()

    def clear(self) -> None:
        self._sums.zero_()
        self._steps.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a resumable state keeps."""
        return {"sums": self._sums, "steps": self._steps}


class Previews:
    """Sheets and quality scores of the averaged generator, of at most `samples` images from always the same latents.

    The scores are in the features of the network `judge`.
    """

    def __init__(
        self, ema: Ema, dataset: PackedDataset, samples: int, device: torch.device, judge: LiteVariant = LITE0
    ) -> None:
        self._ema, self._device, self._judge = ema, device, judge
        self._dataset, self._samples = dataset, samples
        self._panel: QuickPanel | None = None
        self._generator: FieldGenerator | None = None
        self._calibrated_for: list[Tensor] = []

    def generator(self) -> FieldGenerator:
        """The averaged generator, in eval mode, with statistics measured on 1,024 latents; kept until it changes."""
        state = [torch.tensor(self._ema.has_own_statistics), *self._ema.average.state_dict().values()]
        if self._generator is None or not all(map(torch.equal, state, self._calibrated_for)):
            draws = (generator_for("calibrate", index) for index in range(CALIBRATION_BATCHES))
            inputs = (random_inputs(self._ema.average, CALIBRATION_BATCH, each).to(self._device) for each in draws)
            self._generator = self._ema.calibrated(inputs)
            self._calibrated_for = [tensor.clone() for tensor in state]
        return self._generator

    def draw_sheet(self, path: Path, batch: int) -> None:
        """Write a sheet of 64 images, generated `batch` at a time."""
        write_sheet(path, self._generate(SHEET_SEED, SHEET_COUNT, batch))

    def quality(self, batch: int) -> dict[str, float]:
        """The columns of quality.csv except kimg, of images that are generated `batch` at a time."""
        training, held_out = self._dataset.train.images, self._dataset.held_out.images
        if self._panel is None:
            self._panel = QuickPanel(training, held_out, self._device, QUALITY_SEED, self._judge)
        count = min(self._samples, max(MIN_QUALITY_IMAGES, len(held_out)))
        return asdict(self._panel.scores(self._generate(QUALITY_SEED, count, batch)))

    def _generate(self, seed: int, count: int, batch: int) -> Pixels:
        """The images of this seed: (count, H, W, 3)."""
        generator = self.generator()
        z = torch.cat([draw_inputs(generator, seed, index) for index in range(count)])
        return np.concatenate([render_batch(generator, part) for part in torch.split(z, batch)])
