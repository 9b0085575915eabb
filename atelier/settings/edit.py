"""Set keys of params.yaml, one by one or by a preset. Comments, quotes and all other keys of the file stay.

A preset holds settings for a machine and an amount of paintings; docs/training.md gives the reasons for them. Applying
one sets every key that any preset sets, to its own value or to the default, so that nothing of another preset is left.
"""

import io
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.settings.load import describe_errors, load_params, to_plain
from atelier.settings.schema import Params


@dataclass(frozen=True)
class Change:
    """The value of one key before and after an edit; `key` is dotted, for example "train.kimg"."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Preset:
    """A line that says what the preset is for, and its values by dotted key."""

    purpose: str
    values: Mapping[str, Any]


# for paintings that do not all show the same motif
_VARIED = {"train.lr_discriminator": None, "train.augment": ["translation", "brightness"]}

_GPU = {
    "train.snapshot_kimg": 100, "evaluate.samples": 5000,
    "train_upscaler.features": 64, "train_upscaler.blocks": 16, "train_upscaler.steps": 20_000,
    "train_upscaler.patch_px": 48, "train_upscaler.batch": 32, "train_upscaler.lr": 5e-4,
}  # fmt: skip

# the keys for which each architecture has values of its own
_ARCHITECTURE_DEFAULTS = {
    f"train.{name}": "auto"
    for name in (
        "batch", "loss", "lr_decay", "beta1", "beta2", "ema", "augment_probability", "optimizer", "warm_start",
    )
}  # fmt: skip

_R3GAN = {**_ARCHITECTURE_DEFAULTS, "train.arch": "r3gan", "train.kimg": 5000}

PRESETS = {
    "cpu-demo": Preset("two CPU cores, minutes: 64 px, as shipped", {}),
    "laptop-64": Preset(
        "a laptop without a GPU, a thousand varied paintings: 64 px, five times as long",
        {**_ARCHITECTURE_DEFAULTS, **_VARIED, "train.arch": "sketch", "train.kimg": 320},
    ),
    "gpu-128": Preset(
        "any GPU, from a thousand paintings: 128 px, the networks of 2018",
        {
            **_ARCHITECTURE_DEFAULTS, **_VARIED, **_GPU, "augment.resolution": 128, "train.arch": "dcgan",
            "train.kimg": 2000, "train.dcgan.ngf": 160, "train.dcgan.ndf": 40,
        },
    ),
    "gpu-256": Preset(
        "a GPU and a night or two, from some thousand paintings: 256 px, R3GAN's smallest",
        {**_VARIED, **_GPU, **_R3GAN, "augment.resolution": 256, "train.r3gan.preset": "S"},
    ),
    "gpu-512": Preset(
        "a data centre's GPU and days, ten thousand paintings and more: 512 px, R3GAN's middle",
        {**_VARIED, **_GPU, **_R3GAN, "augment.resolution": 512, "train.r3gan.preset": "M", "train.batch": 32},
    ),
}  # fmt: skip


def apply_preset(path: Path, name: str) -> list[Change]:
    """Set a preset's keys in the params.yaml at `path` and return what changed.

    Raises AtelierError, and leaves the file as it was, where the preset is unknown, or the file is wrong before or
    would be wrong after.
    """
    if name not in PRESETS:
        raise AtelierError(f"there is no preset {name!r}: `atelier preset` lists {', '.join(PRESETS)}")
    return edit_params(path, dict(preset_values(name)))


def preset_values(name: str) -> Iterator[tuple[str, Any]]:
    """Yield every key that any preset sets, with its value in this preset, in the order of params.yaml's sections."""
    keys = dict.fromkeys(key for preset in PRESETS.values() for key in preset.values)
    order = list(Params.model_fields)
    for key in sorted(keys, key=lambda key: (order.index(key.split(".")[0]), key)):
        yield key, PRESETS[name].values.get(key, value_at(Params(), key))


def edit_params(path: Path, values: Mapping[str, Any]) -> list[Change]:
    """Set dotted keys in the params.yaml at `path` and return what changed.

    Raises AtelierError, and leaves the file as it was, where it is wrong before or would be wrong after.
    """
    params = load_params(path)
    before = {key: value_at(params, key) for key in values}
    changes = [Change(key, before[key], value) for key, value in values.items() if before[key] != value]
    yaml = _yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for change in changes:
        _set(document, change.key, change.after)
    try:
        Params.model_validate(to_plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(describe_errors(path, document, error, Params))) from None
    if changes:
        text = io.BytesIO()
        yaml.dump(document, text)
        write_bytes(path, text.getvalue())
    return changes


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """Return a copy of the settings with other values at dotted keys. Raises AtelierError where one is wrong."""
    document = params.model_dump()
    for key, value in values.items():
        _set(document, key, value)
    try:
        return Params.model_validate(to_plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(describe_errors(None, document, error, Params))) from None


def value_at(params: Params, key: str) -> Any:
    """Return the value of a dotted key, for example "train.kimg"."""
    return operator.attrgetter(key)(params)


def format_value(value: Any) -> str:
    """Return a value as it is written in params.yaml."""
    if isinstance(value, list):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in place, adding sections that the file leaves out."""
    *sections, last = key.split(".")
    node = document
    for section in sections:
        node = node.setdefault(section, CommentedMap())
        if not isinstance(node, dict):
            raise AtelierError(f"params.yaml has no {key}: {section} is no section")
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    if isinstance(node.get(last), DoubleQuotedScalarString) and isinstance(value, str):
        value = DoubleQuotedScalarString(value)
    node[last] = value


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096  # never wrap a line
    yaml.Representer = _Representer
    return yaml


class _Representer(RoundTripRepresenter):
    """Writes None as the word null, as the shipped params.yaml has it."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)
