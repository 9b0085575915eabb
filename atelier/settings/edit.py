"""params.yaml edited key by key: comments, quotes and all other keys stay as they are. Knows no key's meaning.

Settings that fit a machine and an amount of paintings, to be put into params.yaml; docs/training.md says why these.

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
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.settings.messages import describe_errors, to_plain
from atelier.settings.schema import Params, load_params


@dataclass(frozen=True)
class Change:
    """One key's two values."""

    key: str
    before: Any
    after: Any


def edit_params(path: Path, values: Mapping[str, Any]) -> list[Change]:
    """Give keys, dotted, these values in the params.yaml at `path`; what that changed.

    Raises AtelierError where the file is wrong before or would be after; then it stays as it was.
    """
    before = load_params(path)
    changes = [
        Change(key, value_at(before, key), value)
        for key, value in values.items()
        if value_at(before, key) != value
    ]
    yaml = _yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for change in changes:
        _set(document, change)
    try:
        Params.model_validate(to_plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(describe_errors(path, document, error, Params))) from None
    if changes:
        text = io.StringIO()
        yaml.dump(document, text)
        write_bytes(path, text.getvalue().encode())
    return changes


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """The settings with these values at dotted keys; no file is touched. Raises AtelierError for a wrong one."""
    yaml, text = _yaml(), io.StringIO()
    yaml.dump(params.model_dump(), text)
    document = yaml.load(text.getvalue())
    for key, value in values.items():
        _set(document, Change(key, None, value))
    text = io.StringIO()
    yaml.dump(document, text)
    document = yaml.load(text.getvalue())  # the wording looks for marks, which a key that was added has not
    try:
        return Params.model_validate(to_plain(document))
    except ValidationError as error:
        said = describe_errors(Path("params.yaml"), document, error, Params)
        # the line is one of a text that nobody has
        raise AtelierError("\n".join(sentence.split(": ", 1)[1] for sentence in said)) from None


def value_at(params: Params, key: str) -> Any:
    """What a dotted key holds."""
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
        if not isinstance(node, CommentedMap):
            raise AtelierError(f"params.yaml has no {change.key}: {section} is no section")
    value = change.after
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    if isinstance(node.get(last), DoubleQuotedScalarString) and isinstance(value, str):
        value = DoubleQuotedScalarString(value)
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


def apply_preset(path: Path, name: str) -> list[Change]:
    """Set a preset's keys in the params.yaml at `path`, whose comments and other keys stay; what that changed.

    Raises AtelierError for an unknown preset, and where the file is wrong before or would be after; then it stays.
    """
    if name not in PRESETS:
        raise AtelierError(f"there is no preset {name!r}: `atelier preset` lists {', '.join(PRESETS)}")
    return edit_params(path, dict(preset_values(name)))


def preset_values(name: str) -> Iterator[tuple[str, Any]]:
    """Every key that presets set, and what this one sets it to, in params.yaml's order of sections."""
    keys = dict.fromkeys(key for preset in PRESETS.values() for key in preset.values)
    order = list(Params.model_fields)
    for key in sorted(keys, key=lambda key: (order.index(key.split(".")[0]), key)):
        yield key, PRESETS[name].values.get(key, value_at(Params(), key))


def format_value(value: Any) -> str:
    """A value as params.yaml has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)
