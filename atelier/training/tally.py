"""Sums of what the steps tell, on the device: a mean is asked for now and then, and nothing waits for it before."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


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
