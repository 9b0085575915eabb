"""One step of training: on a whole batch, or in micro-batches where memory is short."""

import copy
import itertools

import pytest
import torch
from torch import nn

from atelier.networks import NetworkConfig, make_networks
from atelier.training.augment import Augment
from atelier.training.losses import Logs, NonSaturating, Relativistic
from atelier.training.state import generator_for
from atelier.training.step import AdversarialStep, MicroBatches

NZ, BATCH = 8, 8


class Plain(nn.Module):
    """Layers without a norm, which run out of memory at more than `most` items at a time."""

    def __init__(self, layers: nn.Sequential, most: int) -> None:
        super().__init__()
        self.layers, self.most = layers, most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layers(x)


def images(name: str, count: int = BATCH) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator_for(name)) * 2 - 1


def adversarial_step(loss, most_g: int = BATCH, most_d: int = 2 * BATCH) -> AdversarialStep:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g = nn.Sequential(nn.Linear(NZ, 3 * 64), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
        d = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 1), nn.Flatten(0))
    generator, discriminator = Plain(g, most_g), Plain(d, most_d)
    adams = [torch.optim.SGD(network.parameters(), 0.1) for network in (generator, discriminator)]
    return AdversarialStep(generator, discriminator, *adams, loss, Augment(["translation", "brightness"], 0.7))


def trained(step: AdversarialStep, steps: int = 3) -> tuple[list[torch.Tensor], Logs]:
    """The weights of both networks after some steps, and the logs of the last one."""
    for number in range(steps):
        z = torch.randn(BATCH, NZ, generator=generator_for("z", number))
        logs = step.run(images(f"real {number}"), z, generator_for("draws", number), 0.0)
    return [*step.generator.parameters(), *step.discriminator.parameters()], logs


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic(0.5)])
@pytest.mark.parametrize("most_g, most_d", [(BATCH, 4), (3, 2 * BATCH)])
def test_a_step_that_does_not_fit_into_memory_gives_the_same_result_in_micro_batches(loss, most_g, most_d):
    step = adversarial_step(loss, most_g, most_d)
    whole, logs = trained(adversarial_step(loss))
    in_parts, logs_in_parts = trained(step)
    # a relativistic loss shows the discriminator real and generated images at once
    pictures = 2 * BATCH if isinstance(loss, Relativistic) else BATCH
    assert step.micro_batches.count == (4 if most_g == 3 else pictures // most_d)
    for one, other in zip(whole, in_parts, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert logs.keys() == logs_in_parts.keys() == {*loss.columns}
    assert all(torch.allclose(logs[name], logs_in_parts[name], atol=1e-6) for name in logs)


def test_running_out_of_memory_in_the_generators_step_does_not_repeat_the_discriminators():
    """The discriminator's step fits; the third call of the discriminator, in the generator's step, fails once."""
    calls = itertools.count()

    def fails_once(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    step = adversarial_step(NonSaturating())
    step.discriminator.register_forward_pre_hook(fails_once)
    weights, _ = trained(step, 1)
    assert step.micro_batches.count == 2
    for one, other in zip(trained(adversarial_step(NonSaturating()), 1)[0], weights, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_step_in_which_a_single_image_does_not_fit_raises_and_changes_no_weights():
    step = adversarial_step(NonSaturating(), most_d=0)
    before = copy.deepcopy(step.generator.state_dict())
    with pytest.raises(torch.OutOfMemoryError):
        trained(step, 1)
    assert all(torch.equal(before[name], now) for name, now in step.generator.state_dict().items())


def test_with_batch_norms_a_step_in_micro_batches_differs():
    """As docs/training.md says: a batch norm's statistics are those of the micro-batch."""
    found = []
    for parts in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks = make_networks(NetworkConfig("dcgan", 8, {"nz": NZ, "ngf": 4, "ndf": 4}))
        adams = [torch.optim.SGD(network.parameters(), 0.1) for network in networks]
        step = AdversarialStep(*networks, *adams, NonSaturating(), Augment([], 0), MicroBatches(count=parts))
        _, logs = trained(step, 1)
        found.append(step.fake)
        assert all(value.isfinite() for value in logs.values())
    whole, in_parts = found
    assert (whole - in_parts).abs().max() > 0.01 * whole.abs().max()


@pytest.mark.parametrize("said", [
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDA error: out of memory",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    "MPS backend out of memory (MPS allocated: 9.00 GB)",
])  # fmt: skip
def test_out_of_memory_errors_of_all_libraries_are_recognised(said):
    """They are plain RuntimeErrors, while PyTorch's own allocator raises torch.OutOfMemoryError."""

    def refuses_more_than_two(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise RuntimeError(said)

    step = adversarial_step(NonSaturating())
    step.discriminator.register_forward_pre_hook(refuses_more_than_two)
    weights, _ = trained(step, 1)
    assert step.micro_batches.count == BATCH // 2
    for one, other in zip(trained(adversarial_step(NonSaturating()), 1)[0], weights, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_other_runtime_errors_are_raised():
    def fails(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    step = adversarial_step(NonSaturating())
    step.discriminator.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        trained(step, 1)
    assert step.micro_batches.count == 1


@pytest.mark.parametrize("batch", range(1, 14))
def test_micro_batches_are_halved_down_to_one_image_for_any_batch_size(batch):
    seen = []

    def refuses_two(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    step = adversarial_step(NonSaturating())
    step.discriminator.register_forward_pre_hook(refuses_two)
    z = torch.randn(batch, NZ, generator=generator_for("z"))
    step.run(images("real", batch), z, generator_for("draws"), 0)
    assert step.micro_batches.count == batch
    assert seen[-1] == 1
    tried = list(dict.fromkeys(seen))
    assert tried == sorted(tried, reverse=True)
    assert all(later <= before / 2 for before, later in itertools.pairwise(tried))


def test_mean_logits_are_the_same_in_micro_batches():
    """`train.augment_probability: adaptive` compares a whole batch of real, held-out and generated images."""
    batches = [images(name) for name in ("real", "unseen", "fake")]
    whole = adversarial_step(NonSaturating()).mean_logits(batches, generator_for("draws"))
    step = adversarial_step(NonSaturating(), most_d=3)
    in_parts = step.mean_logits(batches, generator_for("draws"))
    assert step.micro_batches.count == 4
    assert torch.allclose(whole, in_parts, atol=1e-6)
    assert not in_parts.requires_grad
