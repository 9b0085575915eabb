"""What is trained and how: the trainer's settings, checked and complete."""

from dataclasses import dataclass
from typing import Literal

from atelier.metrics.panel import QUICK_PICTURES
from atelier.networks import NetworkConfig
from atelier.training.losses import Game, NonSaturating, Relativistic, gamma_for
from atelier.training.precision import Precision


@dataclass(frozen=True)
class TrainingPlan:
    """`lr_discriminator` and the rest are as params.yaml's `train` describes them."""

    network: NetworkConfig
    batch: int
    seed: int
    lr: float
    lr_discriminator: float
    beta1: float
    ema: float | Literal["power"]
    augment: tuple[str, ...]
    augment_probability: float | Literal["by-size", "adaptive"]
    snapshot_kimg: float
    images: int  # how many the training is to see in all
    lr_decay: float | Literal["cosine"]  # as schedules.lr_share reads it
    beta2: float | Literal["rising"] = 0.999
    loss: Literal["nonsaturating", "relativistic"] = "nonsaturating"
    gamma: float | None = None  # None: by resolution
    minutes: float | None = None  # of training, after which it ends between two steps
    on_collapse: Literal["stop", "rollback", "ignore"] = "stop"
    precision: Precision = "float32"
    optimizer: Literal["adam", "muon"] = "adam"
    muon_lr: float = 0.01  # of the generator's hidden convolutions, for muon
    muon_lr_discriminator: float = 0.01
    warm_start: float = 0.0  # share of the images, at the start, that the generator learns to reconstruct
    quality_samples: int = QUICK_PICTURES  # the most pictures behind a row of the quality curve

    @property
    def depends_on_length(self) -> bool:
        """Whether a longer training differs from a shorter one from its first step on."""
        warm = bool(self.warm_start)
        by_size = bool(self.augment) and self.augment_probability == "by-size"
        return bool(self.lr_decay) or self.beta2 == "rising" or self.loss == "relativistic" or by_size or warm

    @property
    def warm_steps(self) -> int:
        """Steps of the warm start, before the discriminator is trained; at least one step of the training follows."""
        return int(self.warm_start * self.images / self.batch)

    def game(self) -> Game:
        """What the networks play for."""
        if self.loss == "nonsaturating":
            return NonSaturating()
        return Relativistic(self.first_gamma())

    def first_gamma(self) -> float:
        """The weight of the relativistic game's penalties at the start."""
        return gamma_for(self.network.resolution) if self.gamma is None else self.gamma
