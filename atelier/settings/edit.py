"""Set keys of params.yaml, one by one or by a preset. Comments, quotes and all other keys of the file stay.

A preset holds settings for a machine and an amount of paintings; all are in presets.yaml beside this file.
"""

import io
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.settings.load import load_params, validated
from atelier.settings.schema import Params


@dataclass(frozen=True)
class Change:
    """The value of one key before and after an edit; `key` is dotted, for example "train.kimg"."""

    key: str
    before: Any
    after: Any


# by name: a line that says what each is for (purpose), and its values by dotted key
PRESETS: dict[str, dict[str, Any]] = YAML(typ="safe").load(Path(__file__).with_name("presets.yaml"))["presets"]


def apply_preset(path: Path, name: str) -> list[Change]:
    """Set a preset's keys in the params.yaml at `path` and return what changed; errors are those of `edit_params`."""
    if name not in PRESETS:
        raise AtelierError(f"there is no preset {name!r}: `atelier preset` lists {', '.join(PRESETS)}")
    return edit_params(path, dict(preset_values(name)))


def preset_values(name: str) -> Iterator[tuple[str, Any]]:
    """Yield every key that any preset sets, with its value in this preset, in the order of params.yaml's sections."""
    keys = dict.fromkeys(key for preset in PRESETS.values() for key in preset["values"])
    order = list(Params.model_fields)
    for key in sorted(keys, key=lambda key: (order.index(key.split(".")[0]), key)):
        yield key, PRESETS[name]["values"].get(key, operator.attrgetter(key)(Params()))


def edit_params(path: Path, values: Mapping[str, Any]) -> list[Change]:
    """Set dotted keys, all of which Params must have, in the params.yaml at `path`, and return what changed.

    Raises AtelierError, without writing, if the file has a wrong value or would have one afterwards.
    """
    params = load_params(path)
    before = {key: operator.attrgetter(key)(params) for key in values}
    changes = [Change(key, before[key], value) for key, value in values.items() if before[key] != value]
    yaml = YAML(typ="rt")
    yaml.preserve_quotes, yaml.width = True, 4096  # never wrap a line
    yaml.Representer = _Representer
    document = yaml.load(path.read_text(encoding="utf-8"))
    for change in changes:
        _set(document, change.key, change.after)
    validated(document, path)
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
    return validated(document)


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


class _Representer(RoundTripRepresenter):
    """Writes None as the word null, as the shipped params.yaml has it."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)
