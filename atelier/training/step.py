"""One training step of a generative adversarial network, from the batch to updated weights and their average.

`TrainingStep.run` collects what a step needs and keeps the running average. `AdversarialStep.run`, below it, trains the
discriminator on real and generated images, then the generator on the same generated images. `MicroBatches`, at the end,
divides a step that needs more memory than there is. The losses are in losses.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from atelier.data.dataset import PackedDataset
from atelier.device import is_out_of_memory
from atelier.training.augment import AdaptiveProbability, Augment, probability_by_size
from atelier.training.config import TrainingPlan, in_precision
from atelier.training.data import RandomWindows, ResidentData, StepLabels, to_device
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup, share_batch_norms
from atelier.training.initial import Networks, PrincipalLatents, Start
from atelier.training.losses import AdversarialLoss, Logs, reconstruction_loss
from atelier.training.monitor import RunningMean
from atelier.training.state import TrainingState, generator_for

T = TypeVar("T")
PartLoss = Callable[..., tuple[Tensor, Logs]]  # loss and logs, means over one part of several batches


class TrainingStep:
    """The steps of one training. Everything that they change is in `state()`; `losses` are means for losses.csv."""

    def __init__(
        self, plan: TrainingPlan, dataset: PackedDataset, device: torch.device, start: Start | None, group: ProcessGroup
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
        self.data = ResidentData(dataset.train, plan.seed, device)
        self._real: ResidentData | RandomWindows = self.data
        if dataset.strips:
            self._real = RandomWindows(
                dataset.strips, dataset.resolution, dataset.mirror, plan.seed, device, dataset.aspect
            )
        self._paintings = len(dataset.train.images)
        classes = plan.network.labels
        self._labels = StepLabels(classes, dataset.train.values(classes.kind), plan.seed) if classes else None
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
        networks.set_rates(plan, step, rollbacks)
        if step < plan.warm_steps:
            logs = self._warm_step(step)
            networks.ema.update(step)
        else:
            real = self._real.batch(step, plan.batch, self._group)
            numbers = networks.generator.inputs - networks.generator.classes
            z = torch.randn(plan.batch, numbers, generator=generator_for("z", plan.seed, step))
            labels = self._labels.of(self._real.paintings(step, plan.batch), step) if self._labels else []
            z = networks.generator.with_labels(z, *labels)
            draws = generator_for("augment", plan.seed, step)
            self._augment.probability = self.augment_probability(step)
            logs = self._adversarial.run(real, self._shard(z), draws, plan.progress(step), *map(self._shard, labels))
            networks.ema.update(step)
            if self.adaptive:
                # of training and held-out paintings the same squares, so that they differ in having been seen alone
                squares = real if self._real is self.data else self.data.batch(step, plan.batch, self._group)
                self.adaptive.update(step, self._adversarial.mean_logits, squares, self._adversarial.fake)
        self.losses.add(logs)

    def _warm_step(self, step: int) -> Logs:
        """One step of the warm start: the generator paints images from their own latents."""
        plan, draws = self._plan, generator_for("z", self._plan.seed, step)
        generator = self.networks.generator
        if self._warm_latents is None:
            self._warm_latents = PrincipalLatents(self.data, generator.nz, plan.seed, self._group)
        items = self.data.items(step, plan.batch)
        grain = torch.randn(plan.batch, generator.grain_numbers, generator=draws)
        labels = self._labels.of(self.data.paintings(step, plan.batch), step) if self._labels else []
        z = generator.with_labels(torch.cat([self._warm_latents.sample(items, draws), grain], 1), *labels)
        real = self.data.images(self._group.shard(items))
        return self._adversarial.reconstruct(real, self._shard(z), draws)

    def _shard(self, batch: Tensor) -> Tensor:
        return to_device(self._group.shard(batch), self._device)

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
        n = self.networks
        modules = {"g": n.generator, "d": n.discriminator, "ema": n.ema.average}
        optimizers = {"optimizer_g": (n.optimizer_g, n.generator), "optimizer_d": (n.optimizer_d, n.discriminator)}
        p = {"p": self.adaptive.p} if self.adaptive else {}
        return TrainingState(modules, optimizers, {**self.losses.tensors(), **p})


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
    micro_batches: "MicroBatches" = field(default_factory=lambda: MicroBatches())
    group: ProcessGroup = SINGLE_PROCESS
    fake: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def run(self, real: Tensor, z: Tensor, draws: Generator, progress: float, *labels: Tensor) -> Logs:
        """Update the discriminator, then the generator, with images (B, 3, H, W) in [−1, 1] and inputs `z` (B, inputs).

        `draws` are the random numbers of the augmentation, `progress` is the share of the training that is done.
        `labels`, (B, classes) of the images, are given where the networks have any; `z` contains the same. Returns the
        values for losses.csv, still on the device.
        """
        real_augmented = self.augment(real, draws)

        def discriminator_gradients() -> Logs:
            self.fake = self.micro_batches.generate(self.generator, z)
            fake_augmented = self.augment(self.fake.detach(), draws)

            def loss(real: Tensor, fake: Tensor, *labels: Tensor) -> tuple[Tensor, Logs]:
                return self.loss.discriminator(self.discriminator, real, fake, progress, *labels)

            self.optimizer_d.zero_grad(set_to_none=True)
            return self.micro_batches.accumulate(loss, real_augmented, fake_augmented, *labels)

        def generator_gradients() -> Logs:
            def loss(fake: Tensor, real: Tensor, *labels: Tensor) -> tuple[Tensor, Logs]:
                value = self.loss.generator(self.discriminator, real, fake, *labels)
                return value, {"loss_g": value.detach()}

            self.optimizer_g.zero_grad(set_to_none=True)
            trained = [weight for weight in self.discriminator.parameters() if weight.requires_grad]  # not frozen ones
            for weight in trained:
                weight.requires_grad_(False)
            try:
                return self.micro_batches.accumulate_generator(
                    loss, self.fake, lambda fake: self.augment(fake, draws), self.generator, z, real_augmented, *labels
                )
            finally:
                for weight in trained:
                    weight.requires_grad_(True)

        logs_d = self._update(self.optimizer_d, z, draws, discriminator_gradients)
        logs_g = self._update(self.optimizer_g, z, draws, generator_gradients)
        self.fake = self.fake.detach()
        return logs_d | logs_g

    def reconstruct(self, real: Tensor, z: Tensor, draws: Generator) -> Logs:
        """Train the generator alone to paint the images `real` from the latents `z`; loss_g is the reconstruction's."""

        def loss(real: Tensor, z: Tensor) -> tuple[Tensor, Logs]:
            value = reconstruction_loss(self.generator(z), real)
            return value, {"loss_g": value.detach()}

        def gradients() -> Logs:
            self.optimizer_g.zero_grad(set_to_none=True)
            return self.micro_batches.accumulate(loss, real, z)

        return self._update(self.optimizer_g, z, draws, gradients)

    def _update(self, optimizer: Optimizer, z: Tensor, draws: Generator, gradients: Callable[[], Logs]) -> Logs:
        """Compute gradients in as many micro-batches as memory needs, average them over processes, and step."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]

        def step(logs: Logs) -> Logs:
            logs = self.group.average_gradients(weights, logs)
            optimizer.step()
            return logs

        return self.micro_batches.fit(len(z), draws, gradients, step, self._discard)

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


class MicroBatches:
    """Divides the batches of a step into `count` parts and doubles `count` when a step runs out of memory.

    Gradients are accumulated over the parts. Without layers that combine the images of a batch, the result is the same
    up to rounding; batch norms see smaller batches.

    With several processes all use the same `count`. If their networks communicate within a step (`synchronous`), a
    process that runs out of memory cannot begin again without leaving the others waiting, so the training ends.
    """

    def __init__(self, group: ProcessGroup = SINGLE_PROCESS, synchronous: bool = False, count: int = 1) -> None:
        self._group, self._synchronous, self.count = group, synchronous, count

    def split(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The parts of a batch, of equal size except for the last."""
        return torch.split(batch, -(-len(batch) // self.count))

    def accumulate(self, loss: PartLoss, *batches: Tensor) -> Logs:
        """Add the gradients of a mean loss over batches of equal length, part by part; returns the mean logs."""
        total: Logs = {}
        for parts in zip(*map(self.split, batches), strict=True):
            share = len(parts[0]) / len(batches[0])
            value, logs = loss(*parts)
            (value * share).backward()  # type: ignore[no-untyped-call]
            for name, log in logs.items():
                total[name] = total[name] + log * share if name in total else log * share
        return total

    def generate(self, generator: nn.Module, z: Tensor) -> Tensor:
        """The generator's images. With a single part they keep their graph, which the generator's step continues."""
        with torch.set_grad_enabled(self.count == 1):
            return torch.cat([generator(part) for part in self.split(z)])

    def accumulate_generator(
        self, loss: PartLoss, fake: Tensor, augment: Callable[[Tensor], Tensor], generator: nn.Module, z: Tensor,
        *others: Tensor,
    ) -> Logs:  # fmt: skip
        """Add the generator's gradients of a mean loss on the augmented `fake` images and `others`; return mean logs.

        `fake` is what `generate` made of `z`. In several parts, the gradient with respect to all `fake` images is
        computed first; then each part is generated again, and its gradient is propagated to the weights. Augmentation
        thus draws for the whole batch, and only one part's graph is in memory.
        """
        if self.count == 1:
            return self.accumulate(loss, augment(fake), *others)
        fake = fake.detach().requires_grad_()
        augmented = augment(fake)
        leaf = augmented.detach().requires_grad_()
        logs = self.accumulate(loss, leaf, *others)
        augmented.backward(leaf.grad)  # type: ignore[no-untyped-call]
        assert fake.grad is not None
        for z_part, gradient in zip(self.split(z), self.split(fake.grad), strict=True):
            generator(z_part).backward(gradient)
        return logs

    def fit(
        self, batch: int, draws: Generator, compute: Callable[[], T], finish: Callable[[T], T],
        discard: Callable[[], None],
    ) -> T:  # fmt: skip
        """Return `finish(compute())`, where `compute` is repeated with smaller parts while memory does not suffice.

        `compute` splits `batch` images and takes its random numbers from `draws`, which is reset before each attempt.
        It changes only gradients, which `discard` drops, and batch norms' statistics, which no step reads. `finish`
        runs once every process has computed; where memory runs out in it, it must have changed nothing. Raises
        torch.OutOfMemoryError where a single image does not fit.
        """
        state = draws.get_state()
        while True:
            all_computed = False
            try:
                result = compute()
                if all_computed := self._group.all_agree(True):
                    return finish(result)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._group.size > 1 and (self._synchronous or all_computed):
                    raise torch.OutOfMemoryError(str(error)) from error
                self._group.all_agree(False)
            # outside of `except`, because the exception's traceback keeps the failed attempt's tensors
            images = -(-batch // self.count)
            if images == 1:
                raise torch.OutOfMemoryError("one picture at a time is too much")
            self.count = -(-batch // (images // 2))
            discard()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            draws.set_state(state)
