"""Settings that fit a machine and an amount of paintings, to be put into params.yaml; docs/training.md says why these.

A preset sets every key that any preset sets, to its own value or to the default, so that none leaves traces of another.
Knows nothing of where pictures come from: sources, seeds and limits stay as they are.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.params import Params, load_params
from atelier.wording import plain, sentences

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """What it is for, in a line, and its values by dotted key."""

    purpose: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One key's two values."""

    key: str
    before: Any
    after: Any


# what holds on paintings that are not of one motif
VARIED = {"train.batch": 64, "train.lr_discriminator": None, "train.augment": ["translation", "brightness"]}
GPU = {
    "train.snapshot_kimg": 100, "evaluate.samples": 5000,
    "train_upscaler.features": 64, "train_upscaler.blocks": 16, "train_upscaler.steps": 20_000,
    "train_upscaler.patch_px": 48, "train_upscaler.batch": 32, "train_upscaler.lr": 5e-4,
}  # fmt: skip
R3GAN = {
    "train.arch": "r3gan", "train.loss": "relativistic", "train.kimg": 5000, "train.beta1": 0.0,
    "train.beta2": "rising", "train.lr_decay": "cosine", "train.ema": "power", "train.augment_probability": "by-size",
}  # fmt: skip
PRESETS = {
    "cpu-demo": Preset("two CPU cores, three minutes: 64 px, as shipped", {}),
    "laptop-64": Preset(
        "a laptop without a GPU, a thousand varied paintings: 64 px, a third wider, with room to train on",
        {**VARIED, "train.arch": "sketch", "train.kimg": 300, "train.sketch.ngf": 32, "train.sketch.ndf": 16},
    ),
    "gpu-128": Preset(
        "any GPU, from a thousand paintings: 128 px, the networks of 2018",
        {
            **VARIED, **GPU, "augment.resolution": 128, "train.arch": "dcgan", "train.kimg": 2000,
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
    before = load_params(path)
    yaml = _yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    wanted = dict(settings(name))
    changes = [
        Change(key, _get(before, key), value) for key, value in wanted.items() if _get(before, key) != value
    ]
    for change in changes:
        _set(document, change)
    try:
        Params.model_validate(plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(sentences(path, document, error, Params))) from None
    if changes:
        text = io.StringIO()
        yaml.dump(document, text)
        write_bytes(path, text.getvalue().encode())
    return changes


def settings(name: str) -> Iterator[tuple[str, Any]]:
    """Every key that presets set, and what this one sets it to, in params.yaml's order of sections."""
    keys = dict.fromkeys(key for preset in PRESETS.values() for key in preset.values)
    order = list(Params.model_fields)
    for key in sorted(keys, key=lambda key: (order.index(key.split(".")[0]), key)):
        yield key, PRESETS[name].values.get(key, _get(Params(), key))


def shown(value: Any) -> str:
    """A value as params.yaml has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)


def _get(params: Params, key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _set(document: CommentedMap, change: Change) -> None:
    """In place; sections that the file leaves to their defaults are added."""
    *sections, last = change.key.split(".")
    node = document
    for section in sections:
        node = node.setdefault(section, CommentedMap())
    value = change.after
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    node[last] = value


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096  # lines stay lines
    yaml.Representer = _Representer
    return yaml


class _Representer(RoundTripRepresenter):
    """Writes null as the word, as the shipped file does."""


def _null(representer: RoundTripRepresenter, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _null)
