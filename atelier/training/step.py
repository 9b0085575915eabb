"""What one step of the training does, given how many lie behind it. Knows no curves, no clock and no file."""

import torch
from torch import nn

from atelier.canvas.render import inputs_of
from atelier.data.dataset import PackedDataset
from atelier.training.augment import Augment
from atelier.training.config import TrainingPlan
from atelier.training.data import ResidentData
from atelier.training.distributed import World
from atelier.training.duel import Duel
from atelier.training.initial import Start
from atelier.training.players import Players
from atelier.training.precision import computed_in
from atelier.training.probability import Adaptive, by_size
from atelier.training.schedules import beta2_at, lr_share, warm_lr_share
from atelier.training.seeds import generator_for
from atelier.training.sending import sent
from atelier.training.shared_norm import share_statistics
from atelier.training.state import TrainingState
from atelier.training.tally import Tally
from atelier.training.warm_start import PrincipalLatents


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
