"""What is trained and how: the trainer's settings, checked and complete.

In which numbers the networks compute: float32, or bfloat16 where the hardware is made for it.

In either, weights, gradients, optimisers and averages are float32, and so are losses and penalties: only what lies
between a network's input and its output is rounded to 8 significant bits, and sums of it are not.

What an architecture is trained with where params.yaml says `auto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.metrics.quick_panel import QUICK_PICTURES
from atelier.networks import NetworkConfig
from atelier.training.losses import Game, NonSaturating, Relativistic, gamma_for

Precision = Literal["float32", "bfloat16"]


def pick_precision(wanted: Precision | Literal["auto"], device: torch.device) -> tuple[Precision, str]:
    """The precision for `auto`, or as wanted, and words that say why. `auto` goes by the hardware alone.

    Raises AtelierError where the device cannot compute as wanted.
    """
    made_for_it = _made_for_bfloat16(device)
    if wanted == "auto":
        reason = (
            "which this device is made for" if made_for_it else "since this device is not made for bfloat16"
        )
        return ("bfloat16" if made_for_it else "float32"), reason
    if wanted == "bfloat16" and not made_for_it:
        if device.type != "cpu":
            raise AtelierError(
                f"train.precision holds bfloat16, and this {device.type} device has no arithmetic of it: "
                "set it to auto or float32"
            )
        return wanted, "as asked; this CPU is not made for it, and float32 would be faster"
    return wanted, "as asked"


def computed_in(precision: Precision, network: nn.Module) -> nn.Module:
    """The network, float32 in and out, computing in `precision`; its weights are the same tensors."""
    return network if precision == "float32" else _InBfloat16(network)


class _InBfloat16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            y: Tensor = self.network(x)
        return y.float()


def _made_for_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


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


@dataclass(frozen=True)
class Recipe:
    """The settings of `train` that belong together, as params.yaml names them."""

    loss: Literal["nonsaturating", "relativistic"]
    lr_decay: float | Literal["cosine"]
    beta1: float
    beta2: float | Literal["rising"]
    ema: float | Literal["power"]
    augment_probability: float | Literal["by-size", "adaptive"]
    optimizer: Literal["adam", "muon"]
    warm_start: float

    def chosen(self, settings: Mapping[str, Any]) -> Self:
        """This recipe, but with those of `settings` that are not `auto`."""
        return replace(self, **{name: value for name, value in settings.items() if value != "auto"})


# DCGAN's game and Adam (arXiv 1511.06434); the rest as measured in docs/training.md
DCGAN = Recipe(
    loss="nonsaturating", lr_decay=0.6, beta1=0.5, beta2=0.999, ema=0.9995, augment_probability=1.0,
    optimizer="adam", warm_start=0.0,
)  # fmt: skip

SKETCH = replace(DCGAN, optimizer="muon", warm_start=0.25)

# arXiv 2501.05441, and its train.py; the average is EDM2's (arXiv 2312.02696)
R3GAN = Recipe(
    loss="relativistic", lr_decay="cosine", beta1=0.0, beta2="rising", ema="power", augment_probability="by-size",
    optimizer="adam", warm_start=0.0,
)  # fmt: skip

RECIPES: Mapping[str, Recipe] = {"sketch": SKETCH, "dcgan": DCGAN, "r3gan": R3GAN}
