"""The section `train` of params.yaml: types, ranges, defaults. The comments there explain each key."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from atelier.settings.base import BelowOne, Device, LearningRate, Section, Seed, Share

Arch = Literal["dcgan", "r3gan", "sketch"]  # each has its section of that name in `train`
Augmentation = Literal[
    "translation", "brightness", "saturation", "contrast", "cutout",
    "scale", "rotation", "anisotropy", "shift", "hue", "luma_flip", "filter",
]  # fmt: skip
ARCHS: tuple[str, ...] = get_args(Arch)


class Dcgan(Section):
    nz: int = Field(100, ge=1, le=4096)
    ngf: int = Field(24, ge=1, le=1024)
    ndf: int = Field(12, ge=1, le=1024)


class R3gan(Section):
    preset: Literal["S", "M", "L"] = "S"
    nz: int = Field(64, ge=1, le=4096)


class Sketch(Section):
    nz: int = Field(100, ge=1, le=4096)
    ngf: int = Field(24, ge=1, le=1024)
    ndf: int = Field(24, ge=1, le=1024)
    noise: Annotated[int, Field(ge=0, le=1024)] | None = 8

    @model_validator(mode="after")
    def _check_noise(self) -> Self:
        if self.noise is not None and self.noise > self.ngf:
            raise ValueError(
                f"train.sketch.noise holds {self.noise}; it may hold at most {self.ngf} (train.sketch.ngf)"
            )
        return self


AUTO_BATCH: Mapping[Arch, int] = {"dcgan": 64, "r3gan": 64, "sketch": 32}


class Train(Section):
    arch: Arch = "sketch"
    init_from: str | None = Field(
        "auto",
        pattern=r"^(auto|base)$|-[0-9a-f]{16}/?$",
        description="auto, base, null or a model in models/, as `atelier import` names it",
    )
    kimg: float = Field(64, ge=0, le=1e7)
    batch: Annotated[int, Field(ge=2, le=8192)] | Literal["auto"] = "auto"
    seed: Seed = 0
    generation: int = Field(0, ge=0)
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    deterministic: bool = True
    gpus: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    snapshot_kimg: float = Field(20, gt=0)
    lr: LearningRate = 2e-4
    lr_discriminator: LearningRate | None = None
    lr_decay: Share | Literal["auto", "cosine"] = "auto"
    beta1: BelowOne | Literal["auto"] = "auto"
    beta2: BelowOne | Literal["auto", "rising"] = "auto"
    optimizer: Literal["auto", "adam", "muon"] = "auto"
    muon_lr: LearningRate = 0.01
    muon_lr_discriminator: LearningRate | None = None
    warm_start: BelowOne | Literal["auto"] = "auto"
    freeze_discriminator: int = Field(0, ge=0, le=1000)
    labels: Literal["none", "genre", "style", "artist", "source"] = "none"
    discriminator: Literal["own", "features", "both"] = "own"
    loss: Literal["auto", "nonsaturating", "relativistic"] = "auto"
    gamma: Annotated[float, Field(ge=0, le=1e5)] | None = None
    ema: BelowOne | Literal["auto", "power"] = "auto"
    augment: list[Augmentation] = Field(["translation", "brightness"])
    augment_probability: Share | Literal["auto", "by-size", "adaptive"] = "auto"
    pick: Literal["last", "best"] = "last"
    minutes: Annotated[float, Field(gt=0)] | None = None
    on_collapse: Literal["stop", "rollback", "ignore"] = "stop"
    dcgan: Dcgan = Dcgan()
    r3gan: R3gan = R3gan()
    sketch: Sketch = Sketch()

    @property
    def step_batch(self) -> int:
        """Pictures per step: `batch`, or the architecture's own number where that is auto."""
        return AUTO_BATCH[self.arch] if self.batch == "auto" else self.batch

    @model_validator(mode="after")
    def _check_discriminator(self) -> Self:
        if self.discriminator != "own" and self.freeze_discriminator:
            raise ValueError(
                f"train.freeze_discriminator holds {self.freeze_discriminator}; it may hold 0, because "
                f"train.discriminator is {self.discriminator}: its pretrained layers are never trained"
            )
        for name, value, unset in (("loss", self.loss, "auto"), ("gamma", self.gamma, None)):
            if self.discriminator == "features" and value != unset:
                raise ValueError(
                    f"train.{name} holds {value}; it may hold {unset or 'null'}, because train.discriminator is "
                    "features, whose loss is the hinge loss without penalties"
                )
        return self

    @model_validator(mode="after")
    def _check_batch_and_length(self) -> Self:
        which = f", {self.step_batch} for {self.arch}" if self.batch == "auto" else ""
        if self.gpus != "auto" and self.step_batch % self.gpus:
            raise ValueError(
                f"train.batch holds {self.batch}{which}; it may hold a multiple of {self.gpus} (train.gpus), "
                "so that each has an equal part"
            )
        if self.kimg == 0 and self.init_from in (None, "auto"):
            raise ValueError(
                "train.kimg holds 0; it may hold a number above 0, and 0 only where train.init_from is base or a model"
            )
        return self
