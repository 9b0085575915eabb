"""Settings that fit a machine and an amount of paintings, to be put into params.yaml; docs/training.md says why these.

A preset sets every key that any preset sets, to its own value or to the default, so that none leaves traces of another.
Knows nothing of where pictures come from: sources, seeds and limits stay as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.settings.edit import Change, edit, value_of
from atelier.settings.schema import Params

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """What it is for, in a line, and its values by dotted key."""

    purpose: str
    values: Mapping[str, Any]


# what holds on paintings that are not of one motif
VARIED = {"train.lr_discriminator": None, "train.augment": ["translation", "brightness"]}
GPU = {
    "train.snapshot_kimg": 100, "evaluate.samples": 5000,
    "train_upscaler.features": 64, "train_upscaler.blocks": 16, "train_upscaler.steps": 20_000,
    "train_upscaler.patch_px": 48, "train_upscaler.batch": 32, "train_upscaler.lr": 5e-4,
}  # fmt: skip
# what the architecture fills in: back to auto, so that no recipe of another preset or person is left
RECIPE = {
    f"train.{name}": "auto"
    for name in (
        "batch", "loss", "lr_decay", "beta1", "beta2", "ema", "augment_probability", "optimizer", "warm_start",
    )
}  # fmt: skip
R3GAN = {**RECIPE, "train.arch": "r3gan", "train.kimg": 5000}
PRESETS = {
    "cpu-demo": Preset("two CPU cores, minutes: 64 px, as shipped", {}),
    "laptop-64": Preset(
        "a laptop without a GPU, a thousand varied paintings: 64 px, five times as long",
        {**RECIPE, **VARIED, "train.arch": "sketch", "train.kimg": 320},
    ),
    "gpu-128": Preset(
        "any GPU, from a thousand paintings: 128 px, the networks of 2018",
        {
            **RECIPE, **VARIED, **GPU, "augment.resolution": 128, "train.arch": "dcgan", "train.kimg": 2000,
            "train.dcgan.ngf": 160, "train.dcgan.ndf": 40,
        },
    ),
    "gpu-256": Preset(
        "a GPU and a night or two, from some thousand paintings: 256 px, R3GAN's smallest",
        {**VARIED, **GPU, **R3GAN, "augment.resolution": 256, "train.r3gan.preset": "S"},
    ),
    "gpu-512": Preset(
        "a data centre's GPU and days, ten thousand paintings and more: 512 px, R3GAN's middle",
        {**VARIED, **GPU, **R3GAN, "augment.resolution": 512, "train.r3gan.preset": "M", "train.batch": 32},
    ),
}  # fmt: skip


def apply(path: Path, name: str) -> list[Change]:
    """Set a preset's keys in the params.yaml at `path`, whose comments and other keys stay; what that changed.

    Raises AtelierError for an unknown preset, and where the file is wrong before or would be after; then it stays.
    """
    if name not in PRESETS:
        raise AtelierError(f"there is no preset {name!r}: `atelier preset` lists {', '.join(PRESETS)}")
    return edit(path, dict(settings(name)))


def settings(name: str) -> Iterator[tuple[str, Any]]:
    """Every key that presets set, and what this one sets it to, in params.yaml's order of sections."""
    keys = dict.fromkeys(key for preset in PRESETS.values() for key in preset.values)
    order = list(Params.model_fields)
    for key in sorted(keys, key=lambda key: (order.index(key.split(".")[0]), key)):
        yield key, PRESETS[name].values.get(key, value_of(Params(), key))


def shown(value: Any) -> str:
    """A value as params.yaml has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)
