"""What an exploration tries: choices such as `train.lr=1e-4,2e-4`, ranges such as `train.lr=log:1e-5,1e-3`."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError, counted
from atelier.settings.edit import format_value, with_values
from atelier.settings.schema import Params

SECTIONS = ("scrape", "download", "augment", "train", "evaluate", "generate")  # of params.yaml, that trials use
RATIO = re.compile(r"(^|,)(\d+:\d+)(?=,|$)")
RANGE = re.compile(r"(?:(log|int|float):(.+),(.+)|(.+?)\.\.(.+))")
# scores in the features of a network that depends on train.discriminator
BY_THE_JUDGE = ("kid", "kid_coarse", "density", "coverage", "memorisation")
HIGHER_IS_BETTER = ("density", "coverage", "memorisation")
EXPLORATION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")

Mode = Literal["grid", "search"]
Kind = Literal["float", "log", "int"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A key of params.yaml and the values to choose from."""

    key: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(format_value, self.values))}"


@dataclass(frozen=True, slots=True)
class Range:
    """A key of params.yaml and the closed range to choose from; `log` draws evenly in log space."""

    key: str
    low: float
    high: float
    kind: Kind

    def __str__(self) -> str:
        return f"{self.key}={self.kind}:{self.low:g},{self.high:g}"


Axis = Choice | Range


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked to try. `fixed` are settings of all trials, by dotted key; `trials` counts a search's.

    `by` is the score that ranks trials, a name in metrics.json; `seed` is that of a search.
    """

    mode: Mode
    axes: tuple[Axis, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 0
    seed: int = 0
    by: str = "kid_coarse"
    name: str | None = None

    @property
    def higher_is_better(self) -> bool:
        return self.by.split(".")[-1] in HIGHER_IS_BETTER

    @property
    def summary(self) -> str:
        """For example `2 trials of train.lr=0.0001,0.0002`."""
        axes = " ".join(map(str, self.axes))
        if self.mode == "grid":
            return f"{counted(len(product(self.axes)), 'trial')} of {axes}"
        return f"{counted(self.trials, 'trial')}, chosen from {axes}"

    def check(self, params: Params) -> None:
        """Raise AtelierError if the settings of a grid's trial, or at the ends of a search's ranges, are invalid.

        Also if trials with different discriminators would be ranked by a score in the features of different networks.
        """
        if "train.discriminator" in [axis.key for axis in self.axes] and self.by.split(".")[0] in BY_THE_JUDGE:
            raise AtelierError(
                f"--by {self.by} ranks no trials of different train.discriminator, because models that pretrained "
                "features have trained are judged by another network's: add `--by kid_lite1`"
            )
        trials = product(self.axes) if self.mode == "grid" else ends(self.axes)
        check(params, [{**self.fixed, **changes} for changes in trials])

    def inputs(self, identity: str) -> dict[str, Any]:
        """Return what decides the trials. A request with equal inputs continues an exploration.

        `identity` is a hash of the user's tree.
        """
        return {
            "mode": self.mode,
            "axes": [str(axis) for axis in self.axes],
            "fixed": dict(self.fixed),
            "seed": self.seed if self.mode == "search" else None,
            "by": self.by if self.mode == "search" else None,
            "of": identity,
        }

    def exploration_name(self, identity: str) -> str:
        """Return `name`, or by default the last words of the keys with a hash of the inputs.

        Raises AtelierError for an invalid `name`.
        """
        if self.name is not None:
            if not EXPLORATION_NAME.fullmatch(self.name):
                raise AtelierError(
                    f"--name {self.name!r} does not fit: up to 60 of a-z, 0-9 and -, and not - at the start"
                )
            return self.name
        words = "-".join(axis.key.split(".")[-1].replace("_", "-").lower() for axis in self.axes)
        text = json.dumps(self.inputs(identity), sort_keys=True)
        return f"{words[:40].strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"


def read_axes(words: Sequence[str], ranges: bool) -> list[Axis]:
    """Parse words of the form KEY=VALUES; with `ranges` also `log:a,b`, `int:a,b`, `float:a,b` and `a..b`.

    Raises AtelierError for a word that cannot be parsed, a key that comes twice, and a key that trials do not use.
    """
    axes = [_axis(word, ranges) for word in words]
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise AtelierError(
            f"{twice} is named twice: give it all its values at once, for example {twice}={_example(ranges)}"
        )
    if not axes:
        raise AtelierError(f"name at least one key with its values, for example train.lr={_example(ranges)}")
    return axes


def product(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return every combination of the choices; the last key varies fastest."""
    choices = [[(axis.key, value) for value in axis.values] for axis in axes if isinstance(axis, Choice)]
    return [dict(combination) for combination in itertools.product(*choices)]


def check(params: Params, trials: Sequence[Mapping[str, Any]]) -> None:
    """Raise AtelierError for the first trial whose settings are invalid."""
    for number, changes in enumerate(trials, 1):
        try:
            with_values(params, changes)
        except AtelierError as error:
            raise AtelierError(f"{described(changes)} (trial {number}): {error}") from None


def ends(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return settings that test each axis alone: every choice, or both ends of a range."""
    tests: list[dict[str, Any]] = []
    for axis in axes:
        values = axis.values if isinstance(axis, Choice) else [round_value(axis, end) for end in (axis.low, axis.high)]
        tests += [{axis.key: value} for value in values]
    return tests


def round_value(axis: Range, value: float) -> float | int:
    """Round a value of the range for params.yaml: to an integer, or to four significant digits."""
    return round(value) if axis.kind == "int" else float(f"{value:.4g}")


def described(changes: Mapping[str, Any]) -> str:
    """Format settings, for example `train.lr=0.0002 augment.crop=random`."""
    return " ".join(f"{key}={format_value(value)}" for key, value in changes.items())


def _axis(word: str, ranges: bool) -> Axis:
    key, equals, text = word.partition("=")
    if not equals or not key or not text:
        raise AtelierError(f"{word!r} is no key with its values: write for example train.lr={_example(ranges)}")
    section = key.split(".")[0]
    if section not in SECTIONS or "." not in key:
        raise AtelierError(f"no trial depends on {key}: name keys of {', '.join(SECTIONS)}, for example train.lr")
    if match := RANGE.fullmatch(text):
        if not ranges:
            raise AtelierError(
                f"{word}: a range is for `atelier explore search`; a grid takes values, for example {key}=1,2"
            )
        return _range(word, key, match)
    return Choice(key, _values(word, text))


def _range(word: str, key: str, match: "re.Match[str]") -> Range:
    kind, first, second, low, high = match.groups()
    try:
        range_ = Range(key, float(first or low), float(second or high), cast("Kind", kind or "float"))
    except ValueError:
        raise AtelierError(f"{word}: the ends of a range are numbers, for example {key}=log:1e-5,1e-3") from None
    if not range_.low < range_.high:
        raise AtelierError(f"{word}: the first end of a range is the smaller one")
    if range_.kind == "log" and range_.low <= 0:
        raise AtelierError(f"{word}: a range of kind log begins above 0")
    return range_


def _values(word: str, text: str) -> tuple[Any, ...]:
    try:
        quoted = RATIO.sub(r'\1"\2"', text)  # YAML allows no plain 3:2 in a list
        read = YAML(typ="safe").load(f"[{quoted}]")
    except YAMLError:
        raise AtelierError(f"{word}: {text!r} is not valid YAML") from None
    values: list[Any] = []
    for value in read:
        plain = value.isoformat() if isinstance(value, date) else value
        # compares types too, because 1 == True; a set cannot hold lists
        if not any(plain == other and type(plain) is type(other) for other in values):
            values.append(plain)
    return tuple(values)


def _example(ranges: bool) -> str:
    """Example values of train.lr, for error messages."""
    return "log:1e-5,1e-3" if ranges else "1e-4,2e-4"
