"""The optimisers of the networks: Adam, or Muon for the kernels of hidden convolutions and Adam for all other weights.

Muon (https://kellerjordan.github.io/posts/muon/, arXiv 2502.16982) makes each momentum matrix orthogonal, so that all
directions learn at the same rate. `torch.optim.Muon` accepts matrices only, so convolutions need our own.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.networks.latent_field import IMAGE_CHANNELS

GAN_MOMENTUM = 0.5  # of Muon, as Adam's β₁ in DCGAN: with more the two networks oscillate

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the iteration, as published
ITERATIONS = 5
ADAM_STEP_RMS = 0.2  # root mean square of one of Adam's steps, relative to the learning rate (arXiv 2502.16982 §2.2)
EPSILON = 1e-7


def make_optimizer(
    network: nn.Module, kind: Literal["adam", "muon"], lr: float, muon_lr: float, betas: tuple[float, float]
) -> Optimizer:
    """The optimiser of the weights of one network that require gradients, which frozen ones do not.

    The first parameter group is Adam's; with Muon, the second one is Muon's.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    hidden = [weight for weight in hidden_kernels(network) if weight.requires_grad] if kind == "muon" else []
    if not hidden:
        return torch.optim.Adam(weights, lr, betas, fused=True)
    ids = {id(weight) for weight in hidden}
    others = [weight for weight in weights if id(weight) not in ids]
    muon = Muon(hidden, muon_lr, GAN_MOMENTUM, "original")
    return MuonAndAdam(network, torch.optim.Adam(others, lr, betas, fused=True), muon)


def hidden_kernels(network: nn.Module) -> list[nn.Parameter]:
    """The kernels of convolutions between features: not those that read or write images, or write a logit."""
    return [
        weight for weight in network.parameters() if weight.ndim == 4 and not {1, IMAGE_CHANNELS} & {*weight.shape[:2]}
    ]


class MuonAndAdam(Optimizer):
    """Muon and Adam as one optimiser with one state, for different weights of the same network."""

    def __init__(self, network: nn.Module, adam: torch.optim.Adam, muon: "Muon") -> None:
        super().__init__(network.parameters(), {})
        self._both = (adam, muon)
        self.param_groups = [*adam.param_groups, *muon.param_groups]
        adam.state = muon.state = self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient. Where memory runs out, none is changed."""
        adam, muon = self._both
        updates = muon.updates()
        adam.step()
        muon.apply(updates)


class Muon(Optimizer):
    """Muon for weights (out, in, …), each treated as a matrix (out, rest), in float32.

    `momentum` is the decay of the running average of gradients, used in Nesterov's form. `adjust_lr` is as in
    `torch.optim.Muon`: "match_rms_adamw" multiplies a step by 0.2 · √max(rows, columns), which gives it the length of
    one of Adam's at the same rate; "original" by √max(1, rows / columns).
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95,
        adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    ) -> None:  # fmt: skip
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._adjust_lr = adjust_lr

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient. Where memory runs out, none is changed."""
        self.apply(self.updates())

    def updates(self) -> "list[_Update]":
        """Compute what `apply` changes. This takes memory for another two copies of the weights."""
        found = []
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            averages = [self.state[weight].setdefault("average", torch.zeros_like(weight)) for weight in weights]
            moved = [*torch._foreach_lerp(averages, gradients, 1 - group["momentum"])]
            steps = torch._foreach_lerp(moved, gradients, 1 - group["momentum"])  # Nesterov's momentum
            # the Gram matrices of one size are computed in one batch
            by_size: defaultdict[int, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
            for weight, step in zip(weights, steps, strict=True):
                matrix, step = _matrix(weight, weight), _matrix(step, weight)
                rows, columns = matrix.shape
                scale = max(1.0, rows / columns) ** 0.5
                if self._adjust_lr == "match_rms_adamw":
                    scale = ADAM_STEP_RMS * max(rows, columns) ** 0.5
                if len(matrix) > matrix.shape[1]:
                    matrix, step = matrix.mT, step.mT
                by_size[len(matrix)].append((matrix, step, group["lr"] * scale))
            products = [
                (matrix, factor, step, length)
                for same in by_size.values()
                for (matrix, step, length), factor in zip(
                    same, orthogonalizers(torch.stack([step @ step.mT for _, step, _ in same])), strict=True
                )
            ]
            found.append(_Update(averages, moved, products))
        return found

    def apply(self, updates: "list[_Update]") -> None:
        """Change the weights and the gradients' averages."""
        for update in updates:
            torch._foreach_copy_(update.averages, update.moved)
            for matrix, factor, step, length in update.products:
                matrix.addmm_(factor, step, alpha=-length)


@dataclass(frozen=True)
class _Update:
    """One group's step: the new values of the gradients' averages, and the products to subtract from the weights."""

    averages: list[Tensor]
    moved: list[Tensor]
    products: list[tuple[Tensor, Tensor, Tensor, float]]  # a matrix of weights, factor, step, length


def orthogonalizers(grams: Tensor) -> Tensor:
    """Symmetric matrices Q (n, r, r) for which QX has X's singular vectors and singular values of about 1 (.7 to 1.2).

    The Newton-Schulz iteration replaces X by P(XXᵀ) · X repeatedly, where P is a polynomial. Each P commutes with XXᵀ,
    so all iterations can be computed on `grams`, the XXᵀ (n, r, r), instead of on the larger X (r, columns). This
    squares the singular values, which needs the precision of float32; in bfloat16 the small ones would be lost.
    """
    a, b, c = NEWTON_SCHULZ
    norms = grams.diagonal(dim1=1, dim2=2).sum(1).sqrt()  # Frobenius norms of the X
    scales = (norms + EPSILON).reciprocal()[:, None, None]
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
    """The tensor as a matrix (out, rest) with columns in the memory order of `weight`, whose own matrix is a view."""
    axes = sorted(range(1, weight.ndim), key=weight.stride, reverse=True)
    return tensor.permute(0, *axes).flatten(1)
