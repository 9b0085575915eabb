"""The rows of a training's snapshots, and what follows from them: the best snapshot, a collapse, advice.

All of it follows from the rows alone, so that a resumed training comes to the same conclusions.

What a training does about a collapse, and which states belong to one that does so. Decides, and does nothing.

Sums of what the steps tell, on the device: a mean is asked for now and then, and nothing waits for it before.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from atelier.errors import AtelierError

Row = dict[str, float]

COLLAPSED = 0.5  # of the best coverage so far: more than the curve's noise explains

WORTH_LOSING = 0.25  # a training whose coverage was never above this has nothing to fall from

IN_A_ROW = 2  # snapshots: one may be bad luck

# loss_d of a discriminator that guesses, and below which it knows
GUESSING = {"relativistic": math.log(2), "nonsaturating": 2 * math.log(2)}

WON = {"relativistic": 0.1, "nonsaturating": 0.5}

NEAR = 0.02  # of guessing

NOTHING = 0.02  # a loss_d that leaves the generator no gradient

RISING = 3  # rows of a growing loss_g

PINNED = {
    "relativistic": "D-loss pinned at ln 2 (0.69) or above: the penalties leave the discriminator no say, gamma is too "
    "large; lower train.gamma",
    "nonsaturating": "D-loss pinned at 2 ln 2 (1.39) or above: the discriminator only guesses; raise "
    "train.lr_discriminator or widen it",
}

OVERFIT = {
    "relativistic": "D-loss below 0.1 and G-loss rising: over-fitting; raise train.augment_probability or train.gamma, "
    "or use more paintings",
    "nonsaturating": "D-loss below 0.5 and G-loss rising: over-fitting; raise train.augment_probability, lower "
    "train.lr_discriminator, or use more paintings",
}

LOST = {
    "relativistic": "D-loss at 0: the discriminator tells all apart, and the generator learns nothing from it; raise "
    "train.gamma or lower train.lr",
    "nonsaturating": "D-loss at 0: the discriminator tells all apart, and the generator learns nothing from it; lower "
    "train.lr or train.lr_discriminator, or narrow the discriminator",
}


@dataclass(frozen=True)
class Rollback:
    """The training went back from `from_kimg` to the best snapshot at `to_kimg`, because of `reason`."""

    from_kimg: float
    to_kimg: float
    reason: str


@dataclass
class Curves:
    """One row a snapshot; losses are means over the images since the row before."""

    losses: list[Row] = field(default_factory=list)
    quality: list[Row] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)

    @classmethod
    def of(cls, notes: Mapping[str, list[Any]]) -> Self:
        """From what `dataclasses.asdict` made of them."""
        return cls(notes["losses"], notes["quality"], [Rollback(**row) for row in notes["rollbacks"]])

    def went_past_a_collapse(self, kimg: float) -> bool:
        """Whether a training that is at `kimg` has gone on after its snapshots showed a collapse."""
        past = [end for end, row in enumerate(self.quality, 1) if row["kimg"] < kimg]
        return any(collapse(self.quality[:end]) for end in past)


def best(quality: Sequence[Row]) -> Row | None:
    """The row with the lowest kid_coarse, of those that have not collapsed; None without rows."""
    return min(
        (row for row, fallen in zip(quality, _fallen(quality), strict=True) if not fallen),
        key=lambda row: row["kid_coarse"],
        default=None,
    )


def collapse(quality: Sequence[Row]) -> str | None:
    """What has happened, in words, where the last snapshots' coverage is at half its best or below."""
    fallen = list(_fallen(quality))
    if len(fallen) < IN_A_ROW or not all(fallen[-IN_A_ROW:]):
        return None
    top = max(quality, key=lambda row: row["coverage"])
    last = " and ".join(f"{row['coverage']:.2f} at {row['kimg']:g}" for row in quality[-IN_A_ROW:])
    return f"coverage fell from {top['coverage']:.2f} at {top['kimg']:g} kimg to {last}"


def way_out(policy: str, top: Row | None, rollbacks: int, hopeless: bool) -> str:
    """What a person may do about a collapse that ends the training; `hopeless` where nothing but numbers is left."""
    cure = "Lower train.lr, or widen the generator" if hopeless else "More paintings or a lower train.lr help"
    if top is None:
        return f"{cure}; there is no snapshot yet to go back to"
    if policy == "rollback":
        return f"{cure}; it went back {rollbacks} times already"
    back = f"train.on_collapse: rollback goes back to {top['kimg']:g} kimg with halved learning rates"
    return f"{cure}; {back}" + ("" if hopeless else ", ignore goes on (train.pick: best hands on the best)")


def advice(losses: Sequence[Row], game: str) -> list[str]:
    """What the losses' course says about the settings, in words; usually nothing."""
    latest = [row["loss_d"] for row in losses[-IN_A_ROW:]]
    if len(latest) == IN_A_ROW and min(latest) >= (1 - NEAR) * GUESSING[game]:
        return [PINNED[game]]
    if len(latest) == IN_A_ROW and max(latest) <= NOTHING:
        return [LOST[game]]
    rising = [row["loss_g"] for row in losses[-RISING:]]
    if len(rising) == RISING and rising == sorted(set(rising)) and latest[-1] < WON[game]:
        return [OVERFIT[game]]
    return []


def _fallen(quality: Sequence[Row]) -> Iterator[bool]:
    """Of each row, whether its coverage is at half the best so far or below."""
    top = 0.0
    for row in quality:
        top = max(top, row["coverage"])
        yield top >= WORTH_LOSING and row["coverage"] <= COLLAPSED * top


MOST_ROLLBACKS = 3  # then the settings are wrong, not the luck


def way_back(policy: str, curves: Curves, what: str, hopeless: bool) -> Row | None:
    """The snapshot to go back to, or None to go on as if nothing were.

    Raises AtelierError, which begins with `what` has happened, where the training ends there; `hopeless` where
    nothing but numbers is left.
    """
    top = best(curves.quality)
    if policy == "rollback" and top and len(curves.rollbacks) < MOST_ROLLBACKS:
        return top
    if policy == "ignore" and not hopeless:
        return None
    raise AtelierError(f"{what}. {way_out(policy, top, len(curves.rollbacks), hopeless)}")


def passes_through(policy: str, curves: Curves, kimg: float) -> bool:
    """Whether a training with this policy comes to a state at `kimg` with these curves."""
    if policy == "rollback":
        return not curves.went_past_a_collapse(kimg)
    return not curves.rollbacks


def needed(quality: Sequence[Row]) -> list[Row]:
    """The snapshots whose states a training may go back to or hand on; the first is the best.

    The one before last may have had another best, and may yet be gone back to.
    """
    return [row for row in (best(quality), best(quality[:-1])) if row]


class Tally:
    """The sums of four numbers over the steps since the last snapshot."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        self._summed = torch.zeros((), dtype=torch.int64)

    def __bool__(self) -> bool:
        return bool(self._summed)

    def add(self, told: Tensor) -> None:
        """One step's four numbers (4,)."""
        self._sums += told.to(self._sums)
        self._summed += 1

    def means(self, columns: Sequence[str]) -> dict[str, float]:
        """By name; waits for the device."""
        means = (self._sums / self._summed.to(self._sums)).tolist()
        return dict(zip(columns, means, strict=True))

    def isfinite(self) -> Tensor:
        """Whether all of it are numbers, still on its device."""
        return self._sums.isfinite().all()

    def clear(self) -> None:
        """Begin anew."""
        self._sums.zero_()
        self._summed.zero_()

    def tensors(self) -> Mapping[str, Tensor]:
        """What a resumable state keeps of it."""
        return {"sums": self._sums, "summed": self._summed}
