"""An exploration on disk, `.atelier/explore/<name>/` of the user's tree: the request and how each trial ended.

A trial is written atomically when it has ended, so that after a kill the record has exactly the trials that ended.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from atelier.errors import AtelierError, counted
from atelier.files import write_bytes, write_json
from atelier.paths import EXPLORATIONS
from atelier.settings.schema import Params
from flows.trials import search_space
from flows.trials.search_space import Axis

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
HIGHER_IS_BETTER = ("density", "coverage", "memorisation")
Mode = Literal["grid", "search"]
Ending = Literal["completed", "pruned", "failed"]


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
            return f"{counted(len(search_space.product(self.axes)), 'trial')} of {axes}"
        return f"{counted(self.trials, 'trial')}, chosen from {axes}"

    def check(self, params: Params) -> None:
        """Raise AtelierError if the settings of a grid's trial, or at the ends of a search's ranges, are invalid."""
        trials = search_space.product(self.axes) if self.mode == "grid" else search_space.ends(self.axes)
        search_space.check(params, [{**self.fixed, **changes} for changes in trials])

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
            if not NAME.fullmatch(self.name):
                raise AtelierError(
                    f"--name {self.name!r} does not fit: up to 60 of a-z, 0-9 and -, and not - at the start"
                )
            return self.name
        words = "-".join(axis.key.split(".")[-1].replace("_", "-").lower() for axis in self.axes)
        text = json.dumps(self.inputs(identity), sort_keys=True)
        return f"{words[:40].strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that ended: its settings by dotted key, its scores by name, and in `said` why it was not completed."""

    number: int
    changes: dict[str, Any]
    ending: Ending
    scores: dict[str, float]
    said: str = ""

    def sort_key(self, by: str, higher_is_better: bool) -> tuple[int, float, int]:
        """Sort completed trials first, the best one first, then pruned and failed ones."""
        score = self.scores.get(by, math.nan)
        cost = -score if higher_is_better else score
        order = ("completed", "pruned", "failed").index(self.ending)
        return order, math.inf if math.isnan(cost) else cost, self.number


class Exploration:
    """The record of the exploration `name` of the studio at `user`, which need not exist yet."""

    def __init__(self, user: Path, name: str) -> None:
        self.name, self.path, self._user = name, user / EXPLORATIONS / name, user
        self.sheet = self.path / "sheet.png"
        self.table = self.path / "table.csv"
        self.study = self.path / "study.db"

    @classmethod
    def existing(cls, user: Path, name: str) -> Self:
        """Return the exploration. Raises AtelierError if it does not exist."""
        exploration = cls(user, name)
        if not NAME.fullmatch(name) or not exploration.exists:
            known = ", ".join(exploration_names(user))
            hint = f"there are {known}" if known else "`atelier explore grid …` makes one"
            raise AtelierError(f"there is no exploration {name}: {hint}")
        return exploration

    @property
    def exists(self) -> bool:
        """Whether it was begun and not removed since."""
        return (self.path / "explore.json").is_file()

    def begin(self, request: Request, identity: str) -> None:
        """Record the request. Raises AtelierError if the exploration of this name had other inputs."""
        path, inputs = self.path / "explore.json", request.inputs(identity)
        before = _read(path) if path.is_file() else None
        if before and before["asked"] != inputs:
            differs = [key for key, value in inputs.items() if before["asked"].get(key) != value]
            what = {"of": "params.yaml, the code or the commit", "axes": "what is tried"}
            raise AtelierError(
                f"the exploration {self.name} was another ({', '.join(what.get(key, key) for key in differs)}): "
                f"give --name another, or remove {self.path}"
            )
        if before is None:
            self._check_name()
        write_json(path, {"asked": inputs, "by": request.by, "higher_is_better": request.higher_is_better})

    @property
    def keys(self) -> list[str]:
        """The keys that are tried, in the order of the command line."""
        return [axis.partition("=")[0] for axis in _read(self.path / "explore.json")["asked"]["axes"]]

    @property
    def by(self) -> str:
        """The score that ranks trials."""
        return str(_read(self.path / "explore.json")["by"])

    def trials(self) -> list[Trial]:
        """Return the trials that ended, the best first."""
        record = _read(self.path / "explore.json")
        ended = [Trial(**_read(path)) for path in sorted(self.path.glob("trials/*.json"))]
        return sorted(ended, key=lambda trial: trial.sort_key(record["by"], record["higher_is_better"]))

    def trial(self, number: int) -> Trial | None:
        """Return a trial, or None if it has not ended."""
        path = self._path(number, "json")
        return Trial(**_read(path)) if path.is_file() else None

    def write(self, trial: Trial, picture: Path | None) -> None:
        """Record a trial that ended, and copy the picture of its artworks."""
        copy = self.picture(trial.number)
        copy.unlink(missing_ok=True)
        if picture and picture.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, copy)
        write_json(self._path(trial.number, "json"), asdict(trial))

    def picture(self, number: int) -> Path:
        """Return the path of a trial's picture, which may not exist."""
        return self._path(number, "png")

    def experiment(self, number: int) -> str:
        """Return the name of a trial's DVC experiment."""
        return f"{self.name}-{number}"

    def write_table(self, text: str) -> None:
        write_bytes(self.table, text.encode())

    def _path(self, number: int, extension: str) -> Path:
        return self.path / "trials" / f"{number:04d}.{extension}"

    def _check_name(self) -> None:
        """Raise AtelierError if the name collides with the name of an experiment.

        Trial 2 of `lr` is the experiment `lr-2`, so there may not be an exploration `lr-2` as well.
        """
        first, dash, number = self.name.rpartition("-")
        others = [path.parent.name for path in self.path.parent.glob(f"{self.name}-*/explore.json")]
        clash = [other for other in others if other.removeprefix(f"{self.name}-").isdecimal()]
        if dash and number.isdecimal() and Exploration(self._user, first).exists:
            clash.append(first)
        if clash:
            raise AtelierError(
                f"an exploration {self.name} beside {clash[0]} would be taken for one of its experiments, or the other "
                "way round: give it another name with --name"
            )


def exploration_names(user: Path) -> list[str]:
    """Return the names of the studio's explorations, sorted."""
    return sorted(path.parent.name for path in (user / EXPLORATIONS).glob("*/explore.json"))


def find_experiment(user: Path, name: str, trial: int | None) -> tuple[str, str]:
    """Return the names of an experiment and of its exploration.

    `name` is an experiment, or an exploration for its best trial or for `trial`. So `lr-2` is trial 2 of the
    exploration lr, or the best trial of the exploration lr-2. Raises AtelierError if there are both or neither.
    """
    if trial is not None:
        exploration = Exploration.existing(user, name)
        if exploration.trial(trial) is None:
            raise AtelierError(f"the exploration {name} has no trial {trial}: `atelier explore show {name}`")
        return exploration.experiment(trial), name
    other, dash, number = name.rpartition("-")
    is_experiment = bool(dash) and number.isdecimal() and Exploration(user, other).trial(int(number)) is not None
    if is_experiment and Exploration(user, name).exists:
        raise AtelierError(
            f"{name} is both an exploration and an experiment of the exploration {other}: say which with "
            f"--trial, `atelier explore apply {other} --trial {number}`, or `atelier explore apply {name} "
            "--trial` and a number of its sheet"
        )
    if is_experiment:
        return name, other
    exploration = Exploration.existing(user, name)
    trials = exploration.trials()
    if not trials or trials[0].ending != "completed":
        raise AtelierError(f"the exploration {name} has no experiment yet: `atelier explore` makes some")
    return exploration.experiment(trials[0].number), name


def scores_of(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Flatten metrics.json to numbers by dotted name; a measure's `value` has the measure's name.

    `yardsticks` are left out: they are scores of paintings and not of generated pictures.
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


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
