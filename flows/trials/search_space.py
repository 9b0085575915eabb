"""What is to be tried: the words `train.lr=1e-4,2e-4` and `train.lr=log:1e-5,1e-3` as choices and ranges.

Knows what params.yaml may hold, from atelier.settings.schema, and neither Prefect nor DVC nor Optuna.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError
from atelier.settings.edit import format_value, with_values
from atelier.settings.schema import Params

MADE = (
    "scrape",
    "download",
    "augment",
    "train",
    "evaluate",
    "generate",
)  # the sections that a trial depends on
RANGE = re.compile(r"(?:(log|int|float):(.+),(.+)|(.+?)\.\.(.+))")
Kind = Literal["float", "log", "int"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A key and the values it may have."""

    key: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(format_value, self.values))}"


@dataclass(frozen=True, slots=True)
class Range:
    """A key and the ends of what it may hold; `log` is even in magnitude, where small values matter as large ones."""

    key: str
    low: float
    high: float
    kind: Kind

    def __str__(self) -> str:
        return f"{self.key}={self.kind}:{self.low:g},{self.high:g}"


Axis = Choice | Range


def read_axes(words: Sequence[str], ranges: bool) -> list[Axis]:
    """One a word; `ranges` says whether `log:a,b`, `int:a,b`, `float:a,b` and `a..b` may stand for values.

    Raises AtelierError for what is no such word, a key that comes twice, and one that a trial does not depend on.
    """
    axes = [_axis(word, ranges) for word in words]
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise AtelierError(
            f"{twice} is named twice: give it all its values at once, {twice}={example(ranges)} say"
        )
    if not axes:
        raise AtelierError(f"name at least one key with its values, train.lr={example(ranges)} say")
    return axes


def example(ranges: bool) -> str:
    """What may stand behind `train.lr=`."""
    return "log:1e-5,1e-3" if ranges else "1e-4,2e-4"


def product(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every combination of the choices, the last key's values changing first."""
    choices = [[(axis.key, value) for value in axis.values] for axis in axes if isinstance(axis, Choice)]
    return [dict(combination) for combination in itertools.product(*choices)]


def check(params: Params, trials: Sequence[Mapping[str, Any]]) -> None:
    """That each trial's settings may be had. Raises AtelierError with the sentence of the first that may not."""
    for number, changes in enumerate(trials, 1):
        try:
            with_values(params, changes)
        except AtelierError as error:
            raise AtelierError(f"{described(changes)} (trial {number}): {error}") from None


def ends(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """For each axis the values that stand for all of it, one at a time: its choices, or its ends."""
    return [
        {axis.key: value}
        for axis in axes
        for value in (
            axis.values if isinstance(axis, Choice) else (number(axis, axis.low), number(axis, axis.high))
        )
    ]


def number(axis: Range, value: float) -> float | int:
    """A value of the range as params.yaml would hold it: whole, or to four digits, which is more than matters."""
    return round(value) if axis.kind == "int" else float(f"{value:.4g}")


def described(changes: Mapping[str, Any]) -> str:
    """`train.lr=0.0002 augment.crop=random`"""
    return " ".join(f"{key}={format_value(value)}" for key, value in changes.items())


def _axis(word: str, ranges: bool) -> Axis:
    key, equals, text = word.partition("=")
    if not equals or not key or not text:
        raise AtelierError(f"{word!r} is no key with its values: write train.lr={example(ranges)}, say")
    section = key.split(".")[0]
    if section not in MADE or "." not in key:
        raise AtelierError(
            f"{key} is nothing that a trial depends on: name keys of {', '.join(MADE)}, train.lr say"
        )
    if match := RANGE.fullmatch(text):
        if not ranges:
            raise AtelierError(f"{word}: a range is for --search; --grid takes values, {key}=1,2 say")
        return _range(word, key, match)
    return Choice(key, _values(word, text))


def _range(word: str, key: str, match: "re.Match[str]") -> Range:
    kind, first, second, low, high = match.groups()
    try:
        range_ = Range(key, float(first or low), float(second or high), cast("Kind", kind or "float"))
    except ValueError:
        raise AtelierError(f"{word}: the ends of a range are numbers, {key}=log:1e-5,1e-3 say") from None
    if not range_.low < range_.high:
        raise AtelierError(f"{word}: the first end of a range is the smaller one")
    if range_.kind == "log" and range_.low <= 0:
        raise AtelierError(f"{word}: a range that is even in magnitude begins above 0")
    return range_


def _values(word: str, text: str) -> tuple[Any, ...]:
    try:
        read = YAML(typ="safe").load(f"[{text}]")
    except YAMLError:
        raise AtelierError(f"{word}: {text!r} is not valid YAML") from None
    values: list[Any] = []
    for value in read:
        plain = value.isoformat() if isinstance(value, date) else value
        # 1 and true are equal, and not the same; a list cannot be hashed
        if not any(plain == other and type(plain) is type(other) for other in values):
            values.append(plain)
    return tuple(values)
