"""Muon: momentum whose matrices are made orthogonal, so that all directions learn at one rate.

From https://kellerjordan.github.io/posts/muon/ and arXiv 2502.16982. It is for the kernels of hidden convolutions;
`torch.optim.Muon` takes matrices only. All other weights of a network belong to Adam.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # its iteration's coefficients, as published
ITERATIONS = 5
ADAMS_SIZE = 0.2  # steps are as long as Adam's at the same learning rate (arXiv 2502.16982 §2.2)
TINY = 1e-7


class Muon(Optimizer):
    """Steps for weights (out, in, …), each seen as a matrix (out, rest); those of one shape are computed together.

    Args:
        weights: parameters of at least two dimensions.
        lr: the learning rate.
        momentum: share of the running average that is kept at each step; Nesterov's form is used.
        adjust_lr: as `torch.optim.Muon` has it. "match_rms_adamw" multiplies a step by 0.2 · √max(rows, columns), which
            makes it as long as Adam's at the same rate; "original" by √max(1, rows / columns).
        dtype: arithmetic of the orthogonalisation; bfloat16 is enough for it where the hardware has it.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._adjust_lr, self._dtype = adjust_lr, dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                matrices = torch.stack([self._momentum(w, group["momentum"]) for w in weights])
                steps = orthogonal(matrices.to(self._dtype)).to(matrices.dtype)
                length = group["lr"] * self._scale(*matrices.shape[1:])
                for weight, step in zip(weights, steps, strict=True):
                    weight.sub_(step.view(shape), alpha=length)

    def _scale(self, rows: int, columns: int) -> float:
        if self._adjust_lr == "original":
            return float(max(1.0, rows / columns) ** 0.5)
        return float(ADAMS_SIZE * max(rows, columns) ** 0.5)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum as a matrix."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        average: Tensor = state.setdefault("average", torch.zeros_like(weight))
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular values brought to about 1 (.7 to 1.2), their directions kept."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + TINY)
    for _ in range(ITERATIONS):
        squares = x @ x.mT
        x = a * x + (b * squares + c * squares @ squares) @ x
    return x.mT if tall else x
