"""An exploration on disk, `.atelier/explore/<name>/` of the user's tree: what was asked for, how each trial ended.

A trial is written when it has ended, whole or not at all, so that after a kill the trials there are those that ended.
Knows neither Prefect nor DVC nor git.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from atelier.errors import AtelierError
from atelier.files import write_bytes, write_json
from flows.trials.search_space import Axis

EXPLORATIONS = Path(".atelier/explore")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
HIGHER_IS_BETTER = ("density", "coverage", "memorisation")
Mode = Literal["grid", "search"]
Ending = Literal["completed", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for. `fixed` are settings that all trials share; a grid has as many trials as it has."""

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

    def asked(self, identity: str) -> dict[str, Any]:
        """What another exploration has to have in common with this one to be its continuation."""
        return {
            "mode": self.mode,
            "axes": [str(axis) for axis in self.axes],
            "fixed": dict(self.fixed),
            "seed": self.seed if self.mode == "search" else None,
            "by": self.by if self.mode == "search" else None,
            "of": identity,
        }

    def called(self, identity: str) -> str:
        """The name given; else one of the keys' last words and a hash of all that decides what the trials are."""
        if self.name is not None:
            if not NAME.fullmatch(self.name):
                raise AtelierError(
                    f"--name {self.name!r} does not fit: up to 60 of a-z, 0-9 and -, the first no sign"
                )
            return self.name
        words = "-".join(axis.key.split(".")[-1].replace("_", "-").lower() for axis in self.axes)
        text = json.dumps(self.asked(identity), sort_keys=True)
        return f"{words[:40].strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"


@dataclass(frozen=True, slots=True)
class Trial:
    """How a trial ended: with what settings and scores, and, unless it was completed, why it was not."""

    number: int
    changes: dict[str, Any]
    ending: Ending
    scores: dict[str, float]
    said: str = ""

    def sort_key(self, by: str, higher_is_better: bool) -> tuple[int, float, int]:
        """The best first; then what was pruned, and what failed."""
        score = self.scores.get(by, math.nan)
        worth = -score if higher_is_better else score
        order = ("completed", "pruned", "failed").index(self.ending)
        return order, math.inf if math.isnan(worth) else worth, self.number


class Explored:
    """The exploration `name` of the studio at `user`."""

    def __init__(self, user: Path, name: str) -> None:
        self.name, self.path, self._user = name, user / EXPLORATIONS / name, user
        self.sheet, self.table, self.study = (
            self.path / "sheet.png",
            self.path / "table.csv",
            self.path / "study.db",
        )

    @classmethod
    def found(cls, user: Path, name: str) -> Self:
        """One that there is. Raises AtelierError where there is none."""
        explored = cls(user, name)
        if not NAME.fullmatch(name) or not explored.is_there:
            known = sorted(path.parent.name for path in (user / EXPLORATIONS).glob("*/explore.json"))
            hint = f"there are {', '.join(known)}" if known else "`atelier explore --grid …` makes one"
            raise AtelierError(f"there is no exploration {name}: {hint}")
        return explored

    @property
    def is_there(self) -> bool:
        """Whether it has begun, and was not removed."""
        return (self.path / "explore.json").is_file()

    def begin(self, wish: Wish, identity: str) -> None:
        """Note what is asked for. Raises AtelierError where something else was, under this name."""
        path, asked = self.path / "explore.json", wish.asked(identity)
        told = {"asked": asked, "by": wish.by, "higher_is_better": wish.higher_is_better}
        before = _read(path) if path.is_file() else None
        if before and before["asked"] != asked:
            differs = [key for key, value in asked.items() if before["asked"].get(key) != value]
            what = {"of": "params.yaml, the code or the commit", "axes": "what is tried"}
            raise AtelierError(
                f"the exploration {self.name} was another ({', '.join(what.get(key, key) for key in differs)}): "
                f"give --name another, or remove {self.path}"
            )
        if before is None:
            self._check_name()
        write_json(path, told)

    def _check_name(self) -> None:
        """Raise AtelierError where an experiment of this exploration would be called as another one, or as its trial.

        Trial 2 of `lr` is the experiment `lr-2`, whose name an exploration `lr-2` may not have.
        """
        first, dash, number = self.name.rpartition("-")
        others = [path.parent.name for path in self.path.parent.glob(f"{self.name}-*/explore.json")]
        clash = [other for other in others if other.removeprefix(f"{self.name}-").isdecimal()]
        if dash and number.isdecimal() and Explored(self._user, first).is_there:
            clash.append(first)
        if clash:
            raise AtelierError(
                f"an exploration {self.name} beside {clash[0]} would be taken for one of its experiments, or the other "
                "way round: give it another name with --name"
            )

    def trials(self) -> list[Trial]:
        """Those that ended, the best first."""
        told = _read(self.path / "explore.json")
        ended = [Trial(**_read(path)) for path in sorted(self.path.glob("trials/*.json"))]
        return sorted(ended, key=lambda trial: trial.sort_key(told["by"], told["higher_is_better"]))

    def trial(self, number: int) -> Trial | None:
        """One that ended."""
        path = self._path(number, "json")
        return Trial(**_read(path)) if path.is_file() else None

    @property
    def keys(self) -> list[str]:
        """What is tried, in the order in which it was named."""
        return [axis.partition("=")[0] for axis in _read(self.path / "explore.json")["asked"]["axes"]]

    def write(self, trial: Trial, picture: Path | None) -> None:
        """Keep how a trial ended, and the picture of what it paints."""
        kept = self._path(trial.number, "png")
        kept.unlink(missing_ok=True)
        if picture and picture.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, kept)
        write_json(self._path(trial.number, "json"), asdict(trial))

    def picture(self, number: int) -> Path:
        """Where that picture is, if there is one."""
        return self._path(number, "png")

    def experiment(self, number: int) -> str:
        """What a trial is called as an experiment of DVC's."""
        return f"{self.name}-{number}"

    @property
    def by(self) -> str:
        """The score that trials are sorted by."""
        return str(_read(self.path / "explore.json")["by"])

    def write_table(self, text: str) -> None:
        write_bytes(self.table, text.encode())

    def _path(self, number: int, extension: str) -> Path:
        return self.path / "trials" / f"{number:04d}.{extension}"


def scores_of(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """metrics.json's numbers by dotted name, each measure's value under the measure's own.

    Yardsticks are left out: they are scores of paintings, not of a trial's pictures.
    """
    scores: dict[str, float] = {}
    for name, value in metrics.items():
        if name == "yardsticks":
            continue
        if isinstance(value, Mapping):
            if isinstance(value.get("value"), int | float):
                scores[f"{prefix}{name}"] = float(value["value"])
            else:
                scores |= scores_of(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            scores[f"{prefix}{name}"] = float(value)
    return scores


def shown_scores(trials: Sequence[Trial], by: str) -> list[str]:
    """The names of the scores that a sheet has room for, what is sorted by first."""
    first = [by, "kid_coarse", "kid", "coverage", "memorisation"]
    return [name for name in dict.fromkeys(first) if any(name in trial.scores for trial in trials)]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
