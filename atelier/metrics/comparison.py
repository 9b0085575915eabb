"""The result of comparing two generators (champion and challenger) by their distances from held-out paintings.

Data and words only, without torch: `atelier.metrics.compare` writes a `Comparison` as JSON, the nightly flow reads it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

MEANING = (
    "kid: distance of generated pictures from held-out paintings, in the features of an image-recognition network; "
    "0 is as good as real, smaller is better.\n"
    "kid_coarse: the same with all pictures blurred by 1 px, which keeps forms and colours and removes the grain.\n"
    "better, worse: the interval of the gain is entirely above or below 0. even: it contains 0, so chance may "
    "explain the difference.\n"
    "The challenger wins if it is better in one of the two and worse in neither."
)


@dataclass(frozen=True, slots=True)
class Gain:
    """One distance of both models, and the bootstrap interval of champion − challenger."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better` if the whole interval is above 0, `worse` if it is below 0, else `even`."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "even"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The gains in both distances. `confidence` is the probability that both intervals contain the true gain."""

    kid: Gain
    kid_coarse: Gain
    confidence: float

    @property
    def gains(self) -> dict[str, Gain]:
        """The gains by the name of their distance."""
        return {"kid": self.kid, "kid_coarse": self.kid_coarse}

    @property
    def wins(self) -> bool:
        """Whether the challenger is better in one distance beyond chance, and worse in neither."""
        verdicts = {gain.verdict for gain in self.gains.values()}
        return "better" in verdicts and "worse" not in verdicts

    @property
    def reason(self) -> str:
        """Both distances of both models, with their intervals and verdicts, in one line."""
        percent = 100 * (1 + self.confidence) / 2  # of each interval: both hold together with `confidence` (Bonferroni)
        return "; ".join(
            f"{name} {gain.champion:.4g} -> {gain.challenger:.4g}, {gain.verdict} "
            f"({percent:g}% of resamplings gain {gain.low:.3g} to {gain.high:.3g})"
            for name, gain in self.gains.items()
        )

    @property
    def short(self) -> str:
        """For example `kid 11.7 -> 6.35 (better), kid_coarse 3.75 -> 3.6 (even)`."""
        return ", ".join(
            f"{name} {gain.champion:.3g} -> {gain.challenger:.3g} ({gain.verdict})" for name, gain in self.gains.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file: each gain with its verdict, the confidence, `wins` and `reason`."""
        gains = {name: {**asdict(gain), "verdict": gain.verdict} for name, gain in self.gains.items()}
        return {**gains, "confidence": self.confidence, "wins": self.wins, "reason": self.reason}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that holds `to_json`. Raises OSError, ValueError, KeyError or TypeError for anything else."""
        values = json.loads(path.read_text(encoding="utf-8"))
        keys = ("champion", "challenger", "low", "high")
        kid, kid_coarse = (Gain(*(values[name][key] for key in keys)) for name in ("kid", "kid_coarse"))
        return cls(kid, kid_coarse, values["confidence"])
