"""params.yaml edited key by key: comments, quotes and all other keys stay as they are. Knows no key's meaning."""

import io
from collections.abc import Mapping
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
from atelier.settings.messages import plain, sentences
from atelier.settings.schema import Params, load_params


@dataclass(frozen=True)
class Change:
    """One key's two values."""

    key: str
    before: Any
    after: Any


def edit(path: Path, values: Mapping[str, Any]) -> list[Change]:
    """Give keys, dotted, these values in the params.yaml at `path`; what that changed.

    Raises AtelierError where the file is wrong before or would be after; then it stays as it was.
    """
    before = load_params(path)
    changes = [
        Change(key, value_of(before, key), value)
        for key, value in values.items()
        if value_of(before, key) != value
    ]
    yaml = _yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
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


def tried(params: Params, values: Mapping[str, Any]) -> Params:
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
        return Params.model_validate(plain(document))
    except ValidationError as error:
        said = sentences(Path("params.yaml"), document, error, Params)
        # the line is one of a text that nobody has
        raise AtelierError("\n".join(sentence.split(": ", 1)[1] for sentence in said)) from None


def value_of(params: Params, key: str) -> Any:
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
