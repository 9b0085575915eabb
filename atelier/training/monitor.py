"""The rows of a training's snapshots, and what follows from them: the best snapshot, a collapse, advice.

All of it follows from the rows alone, so that a resumed training comes to the same conclusions.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

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
