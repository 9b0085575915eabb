"""Muon: orthogonal steps of the length of Adam's, and a state that can be saved."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from atelier.training import optimizers
from atelier.training.optimizers import ITERATIONS, NEWTON_SCHULZ, Muon, make_optimizer
from atelier.training.state import TrainingState, load_state, save_state


@pytest.mark.parametrize("shape", [(3, 8, 72), (2, 40, 12), (1, 16, 16)])
def test_singular_values_are_brought_to_about_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weights = [nn.Parameter(torch.zeros(shape[1:])) for _ in matrices]
    for weight, matrix in zip(weights, matrices, strict=True):
        weight.grad = matrix
    Muon(weights, lr=1.0, momentum=0.0, adjust_lr="original").step()
    result = -torch.stack([weight.detach() for weight in weights]) / max(1, shape[1] / shape[2]) ** 0.5
    values = torch.linalg.svdvals(result)
    assert result.shape == matrices.shape
    assert values.min() > 0.5 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert (result * (u @ v)).sum((1, 2)).min() > 0.8 * min(shape[1:])  # the same directions


@pytest.mark.parametrize("shape", [(48, 200), (64, 64)])
def test_a_step_is_the_published_iterations_to_float32s_precision(shape: tuple[int, int]) -> None:
    """Also where singular values span six orders of magnitude, whose squares are more than float32 can tell apart."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator).double(), full_matrices=False)
    gradient = (u * torch.logspace(0, -6, min(shape), dtype=torch.float64)) @ v
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = gradient.float()
    Muon([weight], lr=1.0, momentum=0.0, adjust_lr="original").step()
    a, b, c = NEWTON_SCHULZ
    x = gradient / gradient.norm()
    for _ in range(ITERATIONS):
        x = a * x + (b * x @ x.mT + c * x @ x.mT @ x @ x.mT) @ x
    assert (weight + x).norm() < 1e-3 * x.norm()


def test_the_memory_format_of_a_kernel_does_not_matter_to_its_step() -> None:
    gradient = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    kernels = [nn.Parameter(torch.zeros_like(gradient, memory_format=layout)) for layout in (
        torch.contiguous_format, torch.channels_last,
    )]  # fmt: skip
    for kernel in kernels:
        kernel.grad = gradient.clone()
        Muon([kernel], lr=0.1).step()
    assert torch.allclose(*kernels, atol=1e-6)


def test_weights_without_a_gradient_do_not_change() -> None:
    kernel = nn.Parameter(torch.ones(4, 4, 3, 3))
    optimizer = Muon([kernel], lr=1.0)
    optimizer.step()
    kernel.grad = torch.zeros_like(kernel)
    optimizer.step()
    assert torch.equal(kernel, torch.ones(4, 4, 3, 3))


def test_a_step_has_the_length_of_adams() -> None:
    kernel = nn.Parameter(torch.zeros(48, 48, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=1e-3).step()
    assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(0.2e-3, rel=0.3)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_for_matrices_the_steps_equal_those_of_torchs_muon(shape, adjust_lr) -> None:
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    optimizers = (
        Muon([ours], 0.02, momentum=0.5, adjust_lr=adjust_lr),
        torch.optim.Muon([theirs], 0.02, weight_decay=0, momentum=0.5, adjust_lr_fn=adjust_lr),
    )
    for seed in range(3):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert (ours - theirs).norm() < 0.05 * theirs.norm()  # theirs is rounded to bfloat16 five times over


def test_a_step_for_which_memory_does_not_suffice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> tuple[nn.Sequential, Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 1, 3))
        for weight in network.parameters():
            weight.grad = torch.ones_like(weight)
        return network, make_optimizer(network, "muon", 0.1, 0.1, (0.5, 0.9))

    def fails(grams: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    (once, optimizer), (again, repeated) = made(), made()
    optimizer.step()
    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(optimizers, "orthogonalizers", fails)
        repeated.step()
    repeated.step()
    for one, other in ((once, again), (optimizer, repeated)):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_saved_and_loaded_optimiser_continues_bit_for_bit(tmp_path: Path) -> None:
    def steps(layer: nn.Conv2d, optimizer: Muon, seeds: range) -> None:
        for seed in seeds:
            layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    layers = []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(nn.Conv2d(6, 6, 3).to(memory_format=torch.channels_last))
    whole, resumed = layers
    optimizer = Muon([whole.weight], lr=0.1)
    steps(whole, optimizer, range(3))
    save_state(tmp_path / "state", 3, TrainingState({"a": whole}, {"muon": (optimizer, whole)}))
    steps(whole, optimizer, range(3, 6))
    again = Muon([resumed.weight], lr=0.1)
    assert load_state(tmp_path / "state", TrainingState({"a": resumed}, {"muon": (again, resumed)}))
    steps(resumed, again, range(3, 6))
    assert torch.equal(resumed.weight, whole.weight)
