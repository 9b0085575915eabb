"""One training step of a generative adversarial network, from the batch to updated weights and their average.

`TrainingStep.run` collects what a step needs and keeps the running average. `AdversarialStep.run`, below it, trains the
discriminator on real and generated images, then the generator on the same generated images. The losses are in
losses.py; how a step is divided when memory is short is in micro_batches.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from atelier.data.dataset import PackedDataset
from atelier.networks.latent_field import inputs_of
from atelier.training.augment import AdaptiveProbability, Augment, probability_by_size
from atelier.training.config import TrainingPlan, in_precision
from atelier.training.data import ResidentData, to_device
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup, share_batch_norms
from atelier.training.initial import Networks, PrincipalLatents, Start
from atelier.training.losses import AdversarialLoss, Logs, reconstruction_loss
from atelier.training.micro_batches import MicroBatches
from atelier.training.monitor import RunningMean
from atelier.training.state import TrainingState, generator_for


class TrainingStep:
    """The steps of one training: networks, data, augmentation and loss. Everything that a step changes is in `state()`.

    `losses` are the running means of the values for losses.csv.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        dataset: PackedDataset,
        device: torch.device,
        start: Start | None,
        group: ProcessGroup,
    ) -> None:
        self._plan, self._device, self._group = plan, device, group
        self.networks = networks = Networks.create(plan, start, device)
        synchronous = share_batch_norms(group, networks.generator, networks.discriminator)
        self.micro_batches = MicroBatches(group, synchronous)
        self._augment = Augment(plan.augment, 0, group)
        self._adversarial = AdversarialStep(
            in_precision(networks.generator, plan.precision), in_precision(networks.discriminator, plan.precision),
            networks.optimizer_g, networks.optimizer_d, plan.adversarial_loss(), self._augment,
            self.micro_batches, group,
        )  # fmt: skip
        self._nz, self._inputs = int(plan.network.settings["nz"]), inputs_of(networks.generator)
        self.data = ResidentData(dataset.train, plan.seed, device)
        self._paintings = len(dataset.train.images)
        self.adaptive: AdaptiveProbability | None = None
        if plan.augment and plan.augment_probability == "adaptive":
            held_out = ResidentData(dataset.held_out, plan.seed, device)
            self.adaptive = AdaptiveProbability(held_out, plan.seed, group)
        self._warm_latents: PrincipalLatents | None = None  # computed in the first step of a warm start
        self.losses = RunningMean(self._adversarial.loss.columns, device)

    def run(self, step: int, rollbacks: int) -> None:
        """Train on the batch of `step`, counted from 0. Each rollback so far has halved the learning rates."""
        plan, networks = self._plan, self.networks
        if step == plan.warm_steps:
            self._warm_latents = None
            self.losses.clear()  # those of the warm start
        networks.set_rates(plan, plan.rates(step, rollbacks))
        if step < plan.warm_steps:
            logs = self._warm_step(step)
            networks.ema.update(step)
        else:
            real = self.data.batch(step, plan.batch, self._group)
            z = torch.randn(plan.batch, self._inputs, generator=generator_for("z", plan.seed, step))
            draws = generator_for("augment", plan.seed, step)
            self._augment.probability = self.augment_probability(step)
            logs = self._adversarial.run(real, self._shard(z), draws, plan.progress(step))
            networks.ema.update(step)
            if self.adaptive:
                self.adaptive.update(step, self._adversarial.mean_logits, real, self._adversarial.fake)
        self.losses.add(logs)

    def _warm_step(self, step: int) -> Logs:
        """One step of the warm start: the generator paints images from their own latents."""
        plan, draws = self._plan, generator_for("z", self._plan.seed, step)
        if self._warm_latents is None:
            self._warm_latents = PrincipalLatents(self.data, self._nz, plan.seed, self._group)
        items = self.data.items(step, plan.batch)
        grain = torch.randn(plan.batch, self._inputs - self._nz, generator=draws)
        z = torch.cat([self._warm_latents.sample(items, draws), grain], 1)
        real = self.data.images(self._group.shard(items))
        return self._adversarial.reconstruct(real, self._shard(z), draws)

    def _shard(self, z: Tensor) -> Tensor:
        return to_device(self._group.shard(z), self._device)

    def augment_probability(self, step: int) -> float:
        """The probability with which `step` augments an image."""
        if self.adaptive:
            return float(self.adaptive.p)
        probability = self._plan.augment_probability
        if isinstance(probability, float | int):
            return probability
        return probability_by_size(self._paintings, self._plan.progress(step))

    def is_finite(self) -> bool:
        """Whether weights and losses are finite; waits for the device."""
        norms = torch._foreach_norm(list(self.networks.ema.average.parameters()))
        return bool(torch.stack(norms).isfinite().all() & self.losses.isfinite().to(self._device))

    def state(self) -> TrainingState:
        """The tensors of a resumable state, not copied: loading overwrites them."""
        networks = self.networks
        p = {"p": self.adaptive.p} if self.adaptive else {}
        return TrainingState(
            {"g": networks.generator, "d": networks.discriminator, "ema": networks.ema.average},
            {
                "optimizer_g": (networks.optimizer_g, networks.generator),
                "optimizer_d": (networks.optimizer_d, networks.discriminator),
            },
            {**self.losses.tensors(), **p},
        )


@dataclass
class AdversarialStep:
    """The update of both networks on one batch, with their optimisers and their loss.

    With several processes each receives its part of a batch, and gradients are averaged before an optimiser's step.
    `fake` are the generated images (B, 3, H, W) of the latest step.
    """

    generator: nn.Module
    discriminator: nn.Module
    optimizer_g: Optimizer
    optimizer_d: Optimizer
    loss: AdversarialLoss
    augment: Augment
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    group: ProcessGroup = SINGLE_PROCESS
    fake: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def run(self, real: Tensor, z: Tensor, draws: Generator, progress: float) -> Logs:
        """Update the discriminator, then the generator. Returns the values for losses.csv, still on the device.

        Args:
            real: images (B, 3, H, W) in [−1, 1].
            z: the generator's inputs (B, inputs).
            draws: the random numbers of the augmentation.
            progress: the share of the training that is done.
        """
        real_augmented = self.augment(real, draws)
        logs_d = self._update(
            self.optimizer_d,
            z,
            draws,
            lambda: self._discriminator_gradients(real_augmented, z, draws, progress),
        )
        logs_g = self._update(self.optimizer_g, z, draws, lambda: self._generator_gradients(real_augmented, z, draws))
        self.fake = self.fake.detach()
        return logs_d | logs_g

    def _discriminator_gradients(self, real_augmented: Tensor, z: Tensor, draws: Generator, progress: float) -> Logs:
        self.fake = self.micro_batches.generate(self.generator, z)
        fake_augmented = self.augment(self.fake.detach(), draws)
        self.optimizer_d.zero_grad(set_to_none=True)
        return self.micro_batches.accumulate(
            lambda real, fake: self.loss.discriminator(self.discriminator, real, fake, progress),
            real_augmented,
            fake_augmented,
        )

    def _generator_gradients(self, real_augmented: Tensor, z: Tensor, draws: Generator) -> Logs:
        def loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Logs]:
            value = self.loss.generator(self.discriminator, real, fake)
            return value, {"loss_g": value.detach()}

        self.optimizer_g.zero_grad(set_to_none=True)
        with _frozen(self.discriminator):
            return self.micro_batches.accumulate_generator(
                loss, real_augmented, self.fake, lambda fake: self.augment(fake, draws), self.generator, z
            )

    def _update(self, optimizer: Optimizer, z: Tensor, draws: Generator, gradients: Callable[[], Logs]) -> Logs:
        """Compute gradients in as many micro-batches as memory needs, average them over processes, and step."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]

        def step(logs: Logs) -> Logs:
            logs = self.group.average_gradients(weights, logs)
            optimizer.step()
            return logs

        return self.micro_batches.fit(len(z), draws, gradients, step, self._discard)

    def reconstruct(self, real: Tensor, z: Tensor, draws: Generator) -> Logs:
        """Train the generator alone to paint the images `real` from the latents `z`; loss_g is the reconstruction's."""

        def loss(real: Tensor, z: Tensor) -> tuple[Tensor, Logs]:
            value = reconstruction_loss(self.generator(z), real)
            return value, {"loss_g": value.detach()}

        def gradients() -> Logs:
            self.optimizer_g.zero_grad(set_to_none=True)
            return self.micro_batches.accumulate(loss, real, z)

        return self._update(self.optimizer_g, z, draws, gradients)

    def mean_logits(self, batches: Sequence[Tensor], draws: Generator) -> Tensor:
        """The discriminator's mean logit of each batch (n,), augmented. All batches have the same length."""

        @torch.no_grad()
        def means() -> Tensor:
            found = []
            for batch in batches:
                parts = self.micro_batches.split(self.augment(batch, draws))
                shares = [self.discriminator(part).mean() * (len(part) / len(batch)) for part in parts]
                found.append(torch.stack(shares).sum())
            return torch.stack(found)

        return self.micro_batches.fit(len(batches[0]), draws, means, self.group.mean, self._discard)

    def _discard(self) -> None:
        """Free what a failed attempt has computed."""
        self.fake = self.fake.detach()
        for optimizer in (self.optimizer_g, self.optimizer_d):
            optimizer.zero_grad(set_to_none=True)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within this context no gradients are computed for the network's weights."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
