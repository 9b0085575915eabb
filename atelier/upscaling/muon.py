"""Muon (arXiv 2502.16982): momentum whose matrices are made orthogonal, so that all directions learn at one speed.

For the kernels of hidden convolutions; torch's own takes matrices only. Whatever else a network has is Adam's.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # its iteration's coefficients, as published
ITERATIONS = 5
ADAMS_SIZE = 0.2  # steps are as long as Adam's at the same learning rate (its §2.2)
TINY = 1e-7


class Muon(Optimizer):
    """Steps for weights (out, in, …), each a matrix of out rows; those of one shape are done at once."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                moved = orthogonal(torch.stack([self._momentum(w, group["momentum"]) for w in weights]))
                length = group["lr"] * ADAMS_SIZE * max(moved.shape[1:]) ** 0.5
                for weight, step in zip(weights, moved, strict=True):
                    weight.sub_(step.view(shape), alpha=length)

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's, as a matrix."""
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
