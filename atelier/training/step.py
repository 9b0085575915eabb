"""What one step of the training does, given how many lie behind it. Knows no curves, no clock and no file.

One step of either network, in as many parts as memory needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from atelier.data.dataset import PackedDataset
from atelier.device import is_out_of_memory
from atelier.networks.latent_field import inputs_of
from atelier.training.augment import Adaptive, Augment, by_size
from atelier.training.config import TrainingPlan, computed_in
from atelier.training.data import ResidentData, sent
from atelier.training.distributed import ALONE, World, share_statistics
from atelier.training.initial import Players, PrincipalLatents, Start
from atelier.training.losses import Game, reconstruction_loss
from atelier.training.monitor import Tally
from atelier.training.schedules import beta2_at, lr_share, warm_lr_share
from atelier.training.state import TrainingState, generator_for


@dataclass
class Duel:
    """Generator and discriminator, their optimisers and their game.

    `parts` is 1 until a step runs out of memory. Then the pictures that are computed at a time are halved, down to one,
    and gradients are summed. Where no layer looks across the batch that is the same mathematics, rounded otherwise;
    batch norms see smaller batches.
    Of several processes each plays its part of the batch, and all in as many parts; where their networks speak with
    each other in the middle (`in_step`), none can begin again, and a step that does not fit ends the training.
    `fake` are the pictures of the latest step.
    """

    generator: nn.Module
    discriminator: nn.Module
    optimizer_g: Optimizer
    optimizer_d: Optimizer
    game: Game
    augment: Augment
    parts: int = 1
    world: World = ALONE
    in_step: bool = False
    fake: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def step(self, real: Tensor, z: Tensor, draws: Generator, done: float) -> Tensor:
        """The discriminator on real and generated, then the generator on the same generated pictures.

        Returns the game's four columns (4,), still on the device.
        """
        seen = self.augment(real, draws)
        told = self._updating(
            self.optimizer_d, draws, lambda: self._discriminator_step(seen, z, draws, done), z
        )
        (loss_g,) = self._updating(self.optimizer_g, draws, lambda: self._generator_step(seen, z, draws), z)
        self.fake = self.fake.detach()
        return torch.stack([told[0], loss_g, told[1], told[2]])

    def reconstruct(self, real: Tensor, z: Tensor, draws: Generator) -> Tensor:
        """Train the generator alone to paint `real` from `z`. Returns the loss (1,), still on the device."""
        return self._updating(self.optimizer_g, draws, lambda: self._reconstruction_step(real, z), z)

    def mean_logits(self, batches: Sequence[Tensor], draws: Generator) -> Tensor:
        """What the discriminator gives each of these equally large batches, augmented, in the mean: (n,)."""
        return self._fitting(draws, len(batches[0]), lambda: self._means(batches, draws), self.world.mean)

    def _updating(
        self, optimizer: Optimizer, draws: Generator, phase: Callable[[], Tensor], z: Tensor
    ) -> Tensor:
        """Compute gradients by `phase` and update the weights with the mean of all processes'. Returns mean losses."""

        weights = [weight for group in optimizer.param_groups for weight in group["params"]]

        def update(told: Tensor) -> Tensor:
            told = self.world.average(weights, told)
            optimizer.step()
            return told

        return self._fitting(draws, len(z), phase, update)

    def _fitting(
        self, draws: Generator, batch: int, phase: Callable[[], Tensor], finish: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Do `phase`, again with half as many pictures at a time whenever memory does not suffice, then `finish`.

        Until `finish` nothing changes but the batch norms' running statistics, which no step reads.
        Raises torch.OutOfMemoryError where a single picture is too much.
        """
        drawn = draws.get_state()
        while True:
            everywhere = False
            try:
                told = phase()
                if everywhere := self.world.all(True):
                    return finish(told)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.world.size > 1 and (self.in_step or everywhere):
                    raise torch.OutOfMemoryError(str(error)) from error
                self.world.all(False)
            # here, because the exception's traceback holds on to the failed step's tensors
            at_a_time = -(-batch // self.parts)
            if at_a_time == 1:
                raise torch.OutOfMemoryError("one picture at a time is too much")
            self.parts = -(-batch // (at_a_time // 2))
            self.fake = self.fake.detach()
            for each in (self.optimizer_g, self.optimizer_d):
                each.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            draws.set_state(drawn)

    @torch.no_grad()
    def _means(self, batches: Sequence[Tensor], draws: Generator) -> Tensor:
        means = []
        for batch in batches:
            parts = self._split(self.augment(batch, draws))
            shares = [self.discriminator(part).mean() * (len(part) / len(batch)) for part in parts]
            means.append(torch.stack(shares).sum())
        return torch.stack(means)

    def _discriminator_step(self, seen: Tensor, z: Tensor, draws: Generator, done: float) -> Tensor:
        whole = self.parts == 1  # then the generator's step goes on from this very graph
        with torch.set_grad_enabled(whole):
            self.fake = torch.cat([self.generator(part) for part in self._split(z)])
        self.optimizer_d.zero_grad(set_to_none=True)
        told = torch.zeros(3, device=z.device)
        fake = self.augment(self.fake.detach(), draws)
        for real_part, fake_part in zip(self._split(seen), self._split(fake), strict=True):
            share = len(real_part) / len(seen)
            verdict = self.game.discriminator(self.discriminator, real_part, fake_part, done)
            (verdict.loss * share).backward()  # type: ignore[no-untyped-call]
            told += verdict.told * share
        return told

    def _reconstruction_step(self, real: Tensor, z: Tensor) -> Tensor:
        self.optimizer_g.zero_grad(set_to_none=True)
        total = torch.zeros((), device=z.device)
        for real_part, z_part in zip(self._split(real), self._split(z), strict=True):
            loss = reconstruction_loss(self.generator(z_part), real_part) * (len(real_part) / len(real))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total[None]

    def _generator_step(self, seen: Tensor, z: Tensor, draws: Generator) -> Tensor:
        self.discriminator.requires_grad_(False)  # its weights' gradients would be thrown away
        try:
            self.optimizer_g.zero_grad(set_to_none=True)
            if self.parts == 1:
                loss = self.game.generator(self.discriminator, seen, self.augment(self.fake, draws))
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                loss = self._generator_in_parts(seen, z, draws)
            return loss.detach()[None]
        finally:
            self.discriminator.requires_grad_(True)

    def _generator_in_parts(self, seen: Tensor, z: Tensor, draws: Generator) -> Tensor:
        """First the gradient of all pictures, part by part, then each part painted again to carry it on.

        So the augmentation draws for the whole batch, and the generator's graph is never larger than a part's.
        """
        fake = self.fake.detach().requires_grad_()
        changed = self.augment(fake, draws)
        leaf = changed.detach().requires_grad_()
        loss = torch.zeros((), device=z.device)
        for real_part, fake_part in zip(self._split(seen), self._split(leaf), strict=True):
            share = self.game.generator(self.discriminator, real_part, fake_part) * len(real_part) / len(seen)
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        changed.backward(leaf.grad)  # type: ignore[no-untyped-call]
        assert fake.grad is not None
        for z_part, gradient in zip(self._split(z), self._split(fake.grad), strict=True):
            self.generator(z_part).backward(gradient)
        return loss

    def _split(self, batch: Tensor) -> tuple[Tensor, ...]:
        return torch.split(batch, -(-len(batch) // self.parts))


class Steps:
    """The players, their data and their duel. Everything that a step changes is in `state()`."""

    def __init__(
        self,
        plan: TrainingPlan,
        dataset: PackedDataset,
        device: torch.device,
        start: Start | None,
        world: World,
    ) -> None:
        self._plan, self._device, self._world = plan, device, world
        self.players = players = Players.of(plan, start, device)
        in_step = share_statistics(world, players.generator, players.discriminator)
        self._augment = Augment(plan.augment, 0, world)
        self._duel = Duel(
            computed_in(plan.precision, players.generator), computed_in(plan.precision, players.discriminator),
            players.optimizer_g, players.optimizer_d, plan.game(), self._augment, world=world, in_step=in_step,
        )  # fmt: skip
        self.nz = int(plan.network.settings["nz"])
        self._inputs = inputs_of(players.generator)
        self._data = ResidentData(dataset.train, plan.seed, device)
        self._paintings = len(dataset.train.images)
        self.adaptive: Adaptive | None = None
        if plan.augment and plan.augment_probability == "adaptive":
            self.adaptive = Adaptive(ResidentData(dataset.held_out, plan.seed, device), plan.seed, world)
        self._latents: PrincipalLatents | None = None  # found at the first step of a warm start
        self.tally = Tally(device)
        self.columns = self._duel.game.columns  # of the tally

    @property
    def parts(self) -> int:
        """In how many parts a step fits into memory."""
        return self._duel.parts

    @parts.setter
    def parts(self, parts: int) -> None:
        self._duel.parts = parts

    def take(self, step: int, done: float, rollbacks: int) -> None:
        """The discriminator on real and generated, then the generator on the same generated pictures.

        `step` is counted from 0, `done` the share of the training that lies behind.
        """
        plan = self._plan
        if step < plan.warm_steps:
            self._take_warm(step, rollbacks)
            return
        if step == plan.warm_steps:
            self._latents = None
            self.tally.clear()  # of the warm start's losses
        real = self._data.batch(step, plan.batch, self._world)
        z = torch.randn(plan.batch, self._inputs, generator=generator_for("z", plan.seed, step))
        z = sent(self._world.mine(z), self._device)
        self._set_rates(step, done, rollbacks)
        self._augment.probability = self.augment_probability(done)
        told = self._duel.step(real, z, generator_for("augment", plan.seed, step), done)
        self.players.ema.update(step)
        if self.adaptive:
            self.adaptive.follow(step, self._duel.mean_logits, real, self._duel.fake)
        self.tally.add(told)

    def _take_warm(self, step: int, rollbacks: int) -> None:
        """One step of the warm start: the generator paints pictures from their own latents."""
        plan, draws = self._plan, generator_for("z", self._plan.seed, step)
        if self._latents is None:
            self._latents = PrincipalLatents(self._data, self.nz, plan.seed, self._world)
        items = self._data.items(step, plan.batch)
        grain = torch.randn(plan.batch, self._inputs - self.nz, generator=draws)
        z = torch.cat([self._latents.drawn(items, draws), grain], 1)
        share = warm_lr_share(step / plan.warm_steps) * 0.5**rollbacks
        self._set_lr(share, (plan.beta1, beta2_at(plan.beta2, 0)))
        real, z = self._data.pictures(self._world.mine(items)), sent(self._world.mine(z), self._device)
        loss = self._duel.reconstruct(real, z, draws)
        self.players.ema.update(step)
        self.tally.add(torch.cat([torch.zeros_like(loss), loss, loss.new_zeros(2)]))

    def augment_probability(self, done: float) -> float:
        """The share of images that a step augments."""
        if self.adaptive:
            return float(self.adaptive.p)
        given = self._plan.augment_probability
        return given if isinstance(given, float | int) else by_size(self._paintings, done)

    def finite(self) -> bool:
        """Whether weights and losses are numbers; waits for the device."""
        average: nn.Module = self.players.ema.average
        norms = torch._foreach_norm(list(average.parameters()))
        return bool(torch.stack(norms).isfinite().all() & self.tally.isfinite().to(self._device))

    def state(self) -> TrainingState:
        """What a resumable state holds: the very tensors, which loading overwrites."""
        players = self.players
        p = {"p": self.adaptive.p} if self.adaptive else {}
        return TrainingState(
            {"g": players.generator, "d": players.discriminator, "ema": players.ema.average},
            {
                "optimizer_g": (players.optimizer_g, players.generator),
                "optimizer_d": (players.optimizer_d, players.discriminator),
            },
            {**self.tally.tensors(), **p},
        )

    def _set_rates(self, step: int, done: float, rollbacks: int) -> None:
        plan = self._plan
        warm = plan.warm_steps * plan.batch
        share = lr_share(plan.lr_decay, step * plan.batch - warm, plan.images - warm) * 0.5**rollbacks
        self._set_lr(share, (plan.beta1, beta2_at(plan.beta2, done)))

    def _set_lr(self, share: float, betas: tuple[float, float]) -> None:
        plan, players = self._plan, self.players
        rates = (
            (players.optimizer_g, plan.lr, plan.muon_lr),
            (players.optimizer_d, plan.lr_discriminator, plan.muon_lr_discriminator),
        )
        for optimizer, lr, muon_lr in rates:
            adam, *muon = optimizer.param_groups
            adam.update(lr=lr * share, betas=betas)
            for group in muon:
                group["lr"] = muon_lr * share
