"""Muon: momentum whose matrices are made orthogonal, so that all directions learn at one rate.

From https://kellerjordan.github.io/posts/muon/ and arXiv 2502.16982. It is for the kernels of hidden convolutions;
`torch.optim.Muon` takes matrices only. All other weights of a network belong to Adam.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # its iteration's coefficients, as published
ITERATIONS = 5
ADAMS_SIZE = 0.2  # steps are as long as Adam's at the same learning rate (arXiv 2502.16982 §2.2)
TINY = 1e-7


class Muon(Optimizer):
    """Steps for weights (out, in, …), each seen as a matrix (out, rest).

    The arithmetic is float32: see `orthogonalizers`.

    Args:
        weights: parameters of at least two dimensions.
        lr: the learning rate.
        momentum: share of the running average that is kept at each step; Nesterov's form is used.
        adjust_lr: as `torch.optim.Muon` has it. "match_rms_adamw" multiplies a step by 0.2 · √max(rows, columns), which
            makes it as long as Adam's at the same rate; "original" by √max(1, rows / columns).
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._adjust_lr = adjust_lr

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            # Gram matrices of one size are iterated together
            by_size: defaultdict[int, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
            for weight, step in zip(weights, self._momenta(weights, group["momentum"]), strict=True):
                matrix, step = _matrix(weight, weight), _matrix(step, weight)
                length = group["lr"] * self._scale(*matrix.shape)
                if len(matrix) > matrix.shape[1]:
                    matrix, step = matrix.mT, step.mT
                by_size[len(matrix)].append((matrix, step, length))
            for same in by_size.values():
                factors = orthogonalizers(torch.stack([step @ step.mT for _, step, _ in same]))
                for (matrix, step, length), factor in zip(same, factors, strict=True):
                    matrix.addmm_(factor, step, alpha=-length)

    def _scale(self, rows: int, columns: int) -> float:
        if self._adjust_lr == "original":
            return float(max(1.0, rows / columns) ** 0.5)
        return float(ADAMS_SIZE * max(rows, columns) ** 0.5)

    def _momenta(self, weights: Sequence[nn.Parameter], momentum: float) -> Sequence[Tensor]:
        """Nesterov's momentum of each weight."""
        if not weights:
            return []
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self.state[w].setdefault("average", torch.zeros_like(w)) for w in weights]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return torch._foreach_lerp(averages, gradients, 1 - momentum)


def orthogonalizers(grams: Tensor) -> Tensor:
    """Symmetric matrices Q (n, r, r), such that QX has singular values of about 1 (.7 to 1.2) and X's directions.

    Newton and Schulz replace X by P(XXᵀ) · X again and again, where P is a polynomial. Each P commutes with every XXᵀ,
    so that all iterations can be made on `grams`, the XXᵀ (n, r, r), instead of on the larger X (r, columns).
    The singular values are squared there, which takes float32's precision: bfloat16's would lose the small ones.
    """
    a, b, c = NEWTON_SCHULZ
    norms = grams.diagonal(dim1=1, dim2=2).sum(1).sqrt()  # Frobenius norms of the X
    scales = (norms + TINY).reciprocal()[:, None, None]
    x = grams * scales.square()
    product = None
    for iteration in range(ITERATIONS):
        p = torch.baddbmm(x, x, x, beta=b, alpha=c)
        p.diagonal(dim1=1, dim2=2).add_(a)
        product = p if product is None else p @ product
        if iteration < ITERATIONS - 1:
            x = p @ x @ p
    assert product is not None
    return product * scales


def _matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """The tensor as (out, rest), with columns in the order in which `weight` has them in memory.

    The order of columns does not matter to a step. In this one no element of `weight` is copied.
    """
    axes = sorted(range(1, weight.ndim), key=weight.stride, reverse=True)
    return tensor.permute(0, *axes).flatten(1)
