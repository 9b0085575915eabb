"""The two games, and one step of the duel: whole, or in parts where memory does not suffice."""

import copy
import itertools

import pytest
import torch
from torch import nn

from atelier.networks import NetworkConfig, make_networks
from atelier.training.augment import Augment
from atelier.training.losses import NonSaturating, Relativistic, gamma_for
from atelier.training.schedules import gamma_at
from atelier.training.state import generator_for
from atelier.training.step import Duel

NZ, BATCH = 8, 8


class Bowl(nn.Module):
    """D(x) = a · Σx²: its gradient is 2 a x, which a test can work out."""

    def __init__(self, a: float = 0.1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.a * images.square().sum((1, 2, 3))


class Plain(nn.Module):
    """Two layers without a norm; refuses more than `most` items at a time as a full card does."""

    def __init__(self, layers: nn.Sequential, most: int) -> None:
        super().__init__()
        self.layers, self.most = layers, most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("as CUDA says it")
        return self.layers(x)


def pictures(name: str, count: int = BATCH) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator_for(name)) * 2 - 1


def duel(game, most_g: int = BATCH, most_d: int = BATCH) -> Duel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g = nn.Sequential(nn.Linear(NZ, 3 * 64), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
        d = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 1), nn.Flatten(0)
        )
    generator, discriminator = Plain(g, most_g), Plain(d, most_d)
    adams = [torch.optim.SGD(network.parameters(), 0.1) for network in (generator, discriminator)]
    return Duel(generator, discriminator, *adams, game, Augment(["translation", "brightness"], 0.7))


def played(contest: Duel, steps: int = 3) -> tuple[list[torch.Tensor], torch.Tensor]:
    for step in range(steps):
        z = torch.randn(BATCH, NZ, generator=generator_for("z", step))
        told = contest.step(pictures(f"real {step}"), z, generator_for("draws", step), 0.0)
    weights = [*contest.generator.parameters(), *contest.discriminator.parameters()]
    return weights, told


def test_relativistic_pairs_each_painting_with_a_generated_picture():
    bowl, real, fake = Bowl(), pictures("real"), pictures("fake")
    gap = bowl(real) - bowl(fake)
    verdict = Relativistic(gamma=0).discriminator(bowl, real, fake, 0)
    assert verdict.loss.item() == pytest.approx(nn.functional.softplus(-gap).mean().item())
    assert verdict.told.tolist()[:2] == pytest.approx([verdict.loss.item(), gap.mean().item()], abs=1e-6)
    expected = nn.functional.softplus(gap).mean()
    assert Relativistic(1).generator(bowl, real, fake).item() == pytest.approx(expected.item())


def test_both_penalties_are_the_squared_gradients_and_have_gradients_themselves():
    bowl, real, fake = Bowl(0.1), pictures("real"), pictures("fake")
    verdict = Relativistic(gamma=3).discriminator(bowl, real, fake, 0)
    squares = sum(x.square().sum((1, 2, 3)).mean().item() for x in (real, fake))
    assert verdict.told[2].item() == pytest.approx(4 * 0.1**2 * squares, rel=1e-5)
    without = Relativistic(gamma=0).discriminator(bowl, real, fake, 0).loss
    (with_penalty,) = torch.autograd.grad(verdict.loss, bowl.a)
    (alone,) = torch.autograd.grad(without, bowl.a)
    assert (with_penalty - alone).item() == pytest.approx(3 / 2 * 8 * 0.1 * squares, rel=1e-4)


def test_the_generators_loss_asks_for_no_gradient_of_the_paintings():
    real, fake = pictures("real").requires_grad_(), pictures("fake").requires_grad_()
    Relativistic(1).generator(Bowl(), real, fake).backward()
    assert real.grad is None
    assert fake.grad is not None


def test_gamma_follows_the_resolution_and_falls_to_a_tenth():
    assert [gamma_for(side) for side in (64, 128, 256)] == pytest.approx([2, 17.1, 147], rel=0.01)
    assert [gamma_at(2, done) for done in (0, 0.5, 1, 1.2)] == pytest.approx([2, 1.1, 0.2, 0.2])


@pytest.mark.parametrize("arch, settings", [
    ("dcgan", {"nz": NZ, "ngf": 8, "ndf": 4}), ("sketch", {"nz": NZ, "ngf": 8, "ndf": 4, "noise": 4}),
    ("r3gan", {"preset": "S", "nz": NZ}),
])  # fmt: skip
def test_the_penalties_are_the_same_bits_twice_on_our_own_networks(arch, settings):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        _, discriminator = make_networks(NetworkConfig(arch, 16, settings))
    real, fake = (torch.rand(2, 3, 16, 16, generator=generator_for(name)) for name in ("real", "fake"))
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(2):
            discriminator.zero_grad()
            Relativistic(2).discriminator(discriminator, real, fake, 0).loss.backward()
            found.append([parameter.grad.clone() for parameter in discriminator.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(gradient.isfinite().all() for gradient in found[0])


@pytest.mark.parametrize("game", [NonSaturating(), Relativistic(0.5)])
@pytest.mark.parametrize("most_g, most_d", [(BATCH, 4), (3, BATCH)])
def test_a_step_that_does_not_fit_is_done_in_parts_and_is_the_same_mathematics(game, most_g, most_d):
    contest = duel(game, most_g, most_d)
    whole, told = played(duel(game))
    in_parts, told_in_parts = played(contest)
    assert contest.parts == {4: 2, BATCH: 4}[most_d]
    for one, other in zip(whole, in_parts, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(told, told_in_parts, atol=1e-6)


def test_memory_that_runs_out_after_the_discriminators_step_does_not_repeat_it():
    """The discriminator's step passes whole; the fourth call of D, in the generator's step, fails once."""
    calls = itertools.count()

    def fails_once(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if next(calls) == 2:
            raise torch.OutOfMemoryError("as CUDA says it")

    contest = duel(NonSaturating())
    contest.discriminator.register_forward_pre_hook(fails_once)
    weights, _ = played(contest, 1)
    assert contest.parts == 2
    for one, other in zip(played(duel(NonSaturating()), 1)[0], weights, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_where_a_single_picture_does_not_fit_the_step_gives_up_and_changes_nothing():
    contest = duel(NonSaturating(), most_d=0)
    before = copy.deepcopy(contest.generator.state_dict())
    with pytest.raises(torch.OutOfMemoryError):
        played(contest, 1)
    assert all(torch.equal(before[name], now) for name, now in contest.generator.state_dict().items())


def test_a_step_over_a_batch_norm_in_parts_is_another_step():
    """What docs/training.md says: a batch norm's statistics are those of the part."""
    found = []
    for parts in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks = make_networks(NetworkConfig("dcgan", 8, {"nz": NZ, "ngf": 4, "ndf": 4}))
        adams = [torch.optim.SGD(network.parameters(), 0.1) for network in networks]
        contest = Duel(*networks, *adams, NonSaturating(), Augment([], 0), parts)
        _, told = played(contest, 1)
        found.append(contest.fake)
        assert told.isfinite().all()
    whole, in_parts = found
    assert (whole - in_parts).abs().max() > 0.01 * whole.abs().max()


@pytest.mark.parametrize("said", [
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDA error: out of memory",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    "MPS backend out of memory (MPS allocated: 9.00 GB)",
])  # fmt: skip
def test_memory_that_a_library_refuses_in_its_own_words_is_no_other_error(said):
    """They are plain RuntimeErrors, where PyTorch's own allocator raises torch.OutOfMemoryError."""

    def refuses_more_than_two(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise RuntimeError(said)

    contest = duel(NonSaturating())
    contest.discriminator.register_forward_pre_hook(refuses_more_than_two)
    weights, _ = played(contest, 1)
    assert contest.parts == BATCH // 2
    for one, other in zip(played(duel(NonSaturating()), 1)[0], weights, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_another_runtime_error_is_not_taken_for_memory():
    def fails(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    contest = duel(NonSaturating())
    contest.discriminator.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        played(contest, 1)
    assert contest.parts == 1


@pytest.mark.parametrize("batch", range(1, 14))
def test_whatever_the_batch_a_step_comes_down_to_one_picture_and_not_below(batch):
    seen = []

    def refuses_two(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("as CUDA says it")

    contest = duel(NonSaturating())
    contest.discriminator.register_forward_pre_hook(refuses_two)
    z = torch.randn(batch, NZ, generator=generator_for("z"))
    contest.step(pictures("real", batch), z, generator_for("draws"), 0)
    assert contest.parts == batch
    assert seen[-1] == 1
    tried = list(dict.fromkeys(seen))
    assert tried == sorted(tried, reverse=True)
    assert all(later <= before / 2 for before, later in itertools.pairwise(tried))


def test_the_look_at_over_fitting_is_made_in_parts_too_and_finds_the_same():
    """`train.augment_probability: adaptive` looks at a whole batch of real, unseen and generated pictures."""
    batches = [pictures(name) for name in ("real", "unseen", "fake")]
    whole = duel(NonSaturating()).mean_logits(batches, generator_for("draws"))
    contest = duel(NonSaturating(), most_d=3)
    in_parts = contest.mean_logits(batches, generator_for("draws"))
    assert contest.parts == 4
    assert torch.allclose(whole, in_parts, atol=1e-6)
    assert not in_parts.requires_grad
