"""What is trained and how: the settings of a training, the recipes behind `auto`, precision, and learning rates.

`TrainingPlan` holds every setting, checked and complete. `training_plan` makes one from params.yaml, where `auto` is
replaced by the architecture's recipe. Learning rates and Adam's β₂ follow from the step alone, so a resumed training
has no scheduler state to restore.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.metrics.distances import QUICK_PICTURES
from atelier.model_store import start_path
from atelier.networks import NetworkConfig
from atelier.networks.labels import Labels
from atelier.networks.projected import BothDiscriminators
from atelier.pictures import SQUARE
from atelier.settings.training import Train
from atelier.training.losses import (
    AdversarialLoss,
    Hinge,
    NonSaturating,
    OwnAndFeatures,
    Relativistic,
    cosine,
    gamma_for,
)

Precision = Literal["float32", "bfloat16"]

LR_END_SCALE = 0.25  # of R3GAN's cosine: 2e-4 falls to 5e-5
WARM_LR_END_SCALE = 0.05  # at the end of a warm start
BETA2_RANGE = (0.9, 0.99)  # R3GAN's (its train.py)


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of a training. Their meaning is described in params.yaml, section `train`."""

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
    images: int  # real images that the discriminator is shown over the whole training
    lr_decay: float | Literal["cosine"]
    beta2: float | Literal["rising"] = 0.999
    discriminator: Literal["own", "features", "both"] = "own"
    loss: Literal["nonsaturating", "relativistic", "hinge"] = "nonsaturating"  # of both discriminators, the own one's
    gamma: float | None = None  # None: by resolution
    minutes: float | None = None  # training time after which it ends
    on_collapse: Literal["stop", "rollback", "ignore"] = "stop"
    precision: Precision = "float32"
    deterministic: bool = True  # False only on CUDA, where `device.relax_determinism` was called
    optimizer: Literal["adam", "muon"] = "adam"
    muon_lr: float = 0.01  # of the generator's hidden convolutions, for muon
    muon_lr_discriminator: float = 0.01
    warm_start: float = 0.0  # share of the images, at the start, in which the generator learns to reconstruct
    freeze_discriminator: int = 0  # of its convolutions, counted from the picture, so many keep the start's weights
    quality_samples: int = QUICK_PICTURES  # at most this many images are compared for a row of quality.csv

    @property
    def depends_on_length(self) -> bool:
        """Whether a longer training differs from a shorter one from its first step on."""
        by_size = bool(self.augment) and self.augment_probability == "by-size"
        schedules = self.lr_decay or self.warm_start or self.beta2 == "rising" or self.loss == "relativistic"
        return bool(schedules) or by_size

    @property
    def warm_steps(self) -> int:
        """The number of steps of the warm start. At least one step of adversarial training follows."""
        return int(self.warm_start * self.images / self.batch)

    def progress(self, step: int) -> float:
        """The share of the training that is done after `step` steps, from 0 to 1."""
        return step * self.batch / max(self.images, 1)

    def rates(self, step: int) -> tuple[float, tuple[float, float]]:
        """The factor of the learning rates, and Adam's betas, in a step, counted from 0."""
        if step < self.warm_steps:  # constant in the first half of the warm start, then falling linearly
            scale = 1 - (1 - WARM_LR_END_SCALE) * max(2 * step / self.warm_steps - 1, 0.0)
            beta2 = beta2_at(self.beta2, 0)
        else:
            warm = self.warm_steps * self.batch
            scale = lr_scale(self.lr_decay, step * self.batch - warm, self.images - warm)
            beta2 = beta2_at(self.beta2, self.progress(step))
        return scale, (self.beta1, beta2)

    def adversarial_loss(self) -> AdversarialLoss:
        """The loss of this plan."""
        if self.loss == "hinge":
            return Hinge()
        own = NonSaturating() if self.loss == "nonsaturating" else Relativistic(self.start_gamma())
        return OwnAndFeatures(own) if self.discriminator == "both" else own

    def start_gamma(self) -> float:
        """The weight of the relativistic loss's penalties at the start of the training."""
        return gamma_for(self.network.resolution) if self.gamma is None else self.gamma


def training_plan(
    params: Train,
    resolution: int,
    precision: Precision = "float32",
    deterministic: bool = True,
    labels: Labels | None = None,
    aspect: str = SQUARE,
) -> TrainingPlan:
    """The plan for the section `train` of params.yaml and images of `resolution` px, with these classes.

    `aspect` is the images' shape, a key of `atelier.pictures.CELLS`. `generation` changes the seed.
    """
    network = NetworkConfig(params.arch, resolution, dict(getattr(params, params.arch)))
    network = network.with_labels(labels).with_aspect(aspect)
    settings = recipe_for(params, network)
    settings |= {name: getattr(params, name) for name in settings if getattr(params, name) != "auto"}
    return TrainingPlan(
        network=network,
        seed=params.seed + params.generation * 2**31,
        batch=params.step_batch,
        lr=params.lr,
        lr_discriminator=params.lr_discriminator or params.lr,
        muon_lr=params.muon_lr,
        muon_lr_discriminator=params.muon_lr_discriminator or params.muon_lr,
        augment=tuple(params.augment),
        snapshot_kimg=params.snapshot_kimg,
        images=math.ceil(params.kimg * 1000),
        discriminator=params.discriminator,
        gamma=params.gamma,
        freeze_discriminator=params.freeze_discriminator,
        minutes=params.minutes,
        on_collapse=params.on_collapse,
        precision=precision,
        deterministic=deterministic,
        **settings,
    )


# The settings of `train` that depend on each other, under their names in params.yaml, which `auto` stands for. DCGAN's
# loss and Adam are those of arXiv 1511.06434, the rest as measured in docs/training.md; R3GAN's are those of arXiv
# 2501.05441 and its train.py, with EDM2's average (arXiv 2312.02696).
DCGAN: Mapping[str, Any] = {
    "loss": "nonsaturating", "lr_decay": 0.6, "beta1": 0.5, "beta2": 0.999, "ema": 0.9995, "augment_probability": 1.0,
    "optimizer": "adam", "warm_start": 0.0,
}  # fmt: skip
R3GAN: Mapping[str, Any] = {
    "loss": "relativistic", "lr_decay": "cosine", "beta1": 0.0, "beta2": "rising", "ema": "power",
    "augment_probability": "by-size", "optimizer": "adam", "warm_start": 0.0,
}  # fmt: skip
RECIPES = {"sketch": {**DCGAN, "optimizer": "muon", "warm_start": 0.25}, "dcgan": DCGAN, "r3gan": R3GAN}


def recipe_for(params: Train, network: NetworkConfig) -> dict[str, Any]:
    """The architecture's recipe, without a warm start where the training starts from a model.

    The loss of a discriminator over features alone is the hinge loss.
    """
    warm_start = {"warm_start": 0.0} if start_path(params.init_from, asdict(network.with_labels(None))) else {}
    hinge = {"loss": "hinge"} if params.discriminator == "features" else {}
    return {**RECIPES[params.arch], **warm_start, **hinge}


def lr_scale(decay: float | Literal["cosine"], seen: int, images: int) -> float:
    """The factor of the rates after `seen` of `images`: falls to 0 over the last share `decay`, or along a cosine."""
    if decay == "cosine":
        return cosine(1, LR_END_SCALE, seen / images)
    left = max(images - seen, 0) / images
    return min(1.0, left / decay) if decay else 1.0


def beta2_at(beta2: float | Literal["rising"], progress: float) -> float:
    """Adam's β₂ after this share of the training: constant, or rising from .9 to .99 as gradients settle."""
    return cosine(*BETA2_RANGE, progress) if beta2 == "rising" else beta2


def pick_precision(wanted: Precision | Literal["auto"], device: torch.device) -> tuple[Precision, str]:
    """The precision to compute in, and the reason in words. `auto` depends on the hardware alone.

    Raises AtelierError where the device cannot compute in the wanted precision.
    """
    fast = False
    if device.type == "cuda":
        fast = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    elif device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if wanted == "auto":
        reason = "which this device is made for" if fast else "since this device is not made for bfloat16"
        return ("bfloat16" if fast else "float32"), reason
    if wanted == "bfloat16" and not fast:
        if device.type != "cpu":
            raise AtelierError(
                f"train.precision holds bfloat16, and this {device.type} device has no arithmetic of it: "
                "set it to auto or float32"
            )
        return wanted, "as asked; this CPU is not made for it, and float32 would be faster"
    return wanted, "as asked"


def in_precision(network: nn.Module, precision: Precision) -> nn.Module:
    """The network computing in `precision`, with float32 inputs and outputs. The weights are the same tensors.

    In bfloat16, activations inside the network are rounded to 8 significant bits; sums are not.
    """
    if precision == "float32":
        return network
    if isinstance(network, BothDiscriminators):  # which remains two networks, for their two losses
        return BothDiscriminators(_InBfloat16(network.own), _InBfloat16(network.features))
    return _InBfloat16(network)


class _InBfloat16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *labels: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            y: Tensor = self.network(x, *labels)
        return y.float()
