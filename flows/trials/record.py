"""An exploration on disk, `.atelier/explore/<name>/` of the user's tree: the request, how each trial ended, the sheet.

A trial is written atomically when it has ended, so that after a kill the record has exactly the trials that ended. The
sheet, sheet.png, shows every trial's picture, settings and scores, the best first; table.csv has all scores.
"""

import csv
import io
import json
import math
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from atelier.errors import AtelierError
from atelier.files import write_bytes, write_json
from atelier.paths import EXPLORATIONS
from atelier.settings.edit import format_value
from flows.trials.search_space import EXPLORATION_NAME, Request

if TYPE_CHECKING:
    from atelier.pictures.sheets import Panel

ENDINGS = ("completed", "pruned", "failed")  # in the order of the sheet
TILE_PX = 384
EMPTY_GREY = 239  # of a tile without a picture
DIGITS = 3  # of a score on the sheet; the table has six
MAX_REASON_CHARS = 120
SHEET_SCORES = ("kid_coarse", "kid", "coverage", "memorisation")  # after the one that ranks trials

Ending = Literal["completed", "pruned", "failed"]


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
        return ENDINGS.index(self.ending), math.inf if math.isnan(cost) else cost, self.number


class Exploration:
    """The record of the exploration `name` of the studio at `user`, which need not exist yet."""

    def __init__(self, user: Path, name: str) -> None:
        self.name, self.path, self._user = name, user / EXPLORATIONS / name, user
        self.sheet, self.table, self.study = (self.path / file for file in ("sheet.png", "table.csv", "study.db"))
        self._request = self.path / "explore.json"

    @classmethod
    def existing(cls, user: Path, name: str) -> Self:
        """Return the exploration. Raises AtelierError if it does not exist."""
        exploration = cls(user, name)
        if not EXPLORATION_NAME.fullmatch(name) or not exploration.exists:
            known = ", ".join(exploration_names(user))
            hint = f"there are {known}" if known else "`atelier explore grid …` makes one"
            raise AtelierError(f"there is no exploration {name}: {hint}")
        return exploration

    @property
    def exists(self) -> bool:
        """Whether it was begun and not removed since."""
        return self._request.is_file()

    def begin(self, request: Request, identity: str) -> None:
        """Record the request. Raises AtelierError if the exploration of this name had other inputs."""
        inputs = request.inputs(identity)
        if not self.exists:
            self._check_name()
        elif (before := _read(self._request)["asked"]) != inputs:
            differs = [key for key, value in inputs.items() if before.get(key) != value]
            what = {"of": "params.yaml, the code or the commit", "axes": "what is tried"}
            raise AtelierError(
                f"the exploration {self.name} had other inputs ({', '.join(what.get(key, key) for key in differs)}): "
                f"choose another --name, or remove {self.path}"
            )
        write_json(self._request, {"asked": inputs, "by": request.by, "higher_is_better": request.higher_is_better})

    @property
    def keys(self) -> list[str]:
        """The keys that are tried, in the order of the command line."""
        return [axis.partition("=")[0] for axis in _read(self._request)["asked"]["axes"]]

    @property
    def by(self) -> str:
        """The score that ranks trials."""
        return str(_read(self._request)["by"])

    def trials(self) -> list[Trial]:
        """Return the trials that ended, the best first."""
        record = _read(self._request)
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


def count_endings(trials: Iterable[Trial]) -> str:
    """For example `2 completed, 1 failed`."""
    endings = [trial.ending for trial in trials]
    return ", ".join(f"{endings.count(ending)} {ending}" for ending in ENDINGS if ending in endings)


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


def draw_sheet(exploration: Exploration) -> list[Trial]:
    """Write sheet.png, sheet.html and table.csv from the trials that ended. Returns these, the best first."""
    from atelier.pictures.sheets import write_panels  # imports Pillow

    trials = exploration.trials()
    names = list(dict.fromkeys(name for trial in trials for name in trial.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "state", *exploration.keys, *names, "said"])
    writer.writerows([*_row(exploration, trial, names, 6).values(), trial.said] for trial in trials)
    write_bytes(exploration.table, text.getvalue().encode())
    if trials:
        columns = math.ceil(math.sqrt(1.3 * len(trials)))  # wider than high, like a screen
        scores = _sheet_scores(exploration, trials)
        heading = f"{exploration.name}: {count_endings(trials)}; the best {exploration.by} first"
        panels = [_panel(exploration, trial, scores) for trial in trials]
        write_panels(exploration.sheet, heading, panels, columns)
        _write_page(exploration, trials, heading)
    return trials


def sheet_rows(exploration: Exploration, trials: Sequence[Trial]) -> list[dict[str, str]]:
    """Return a row for each trial, with the scores that the sheet shows."""
    scores = _sheet_scores(exploration, trials)
    return [_row(exploration, trial, scores, DIGITS) for trial in trials]


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


def _sheet_scores(exploration: Exploration, trials: Sequence[Trial]) -> list[str]:
    names = dict.fromkeys([exploration.by, *SHEET_SCORES])
    return [name for name in names if any(name in trial.scores for trial in trials)]


def _row(exploration: Exploration, trial: Trial, scores: Sequence[str], digits: int) -> dict[str, str]:
    return {
        "experiment": exploration.experiment(trial.number),
        "state": trial.ending,
        **{key: format_value(trial.changes[key]) for key in exploration.keys},
        **{name: f"{trial.scores[name]:.{digits}g}" if name in trial.scores else "" for name in scores},
    }


def _write_page(exploration: Exploration, trials: Sequence[Trial], heading: str) -> None:
    """Write sheet.html, in which the trials can be sorted by each setting and score."""
    from atelier.page.parts import Table, write_report_page

    rows = sheet_rows(exploration, trials)
    pictures = [exploration.picture(trial.number) for trial in trials]
    shown = [path.relative_to(exploration.path).as_posix() if path.is_file() else None for path in pictures]
    cells = [[*row.values(), trial.said] for row, trial in zip(rows, trials, strict=True)]
    table = Table("Trials", [*rows[0], "remark"], cells, shown)
    write_report_page(exploration.path / "sheet.html", heading, [], [table])


def _panel(exploration: Exploration, trial: Trial, scores: Sequence[str]) -> "Panel":
    """A trial's picture in the middle of a grey square, empty without a readable picture, with settings and scores."""
    import numpy as np
    from PIL import Image

    from atelier.pictures.sheets import Panel, fitted

    name = exploration.experiment(trial.number)
    lines = [f"{key}: {format_value(trial.changes[key])}" for key in exploration.keys]
    known = [f"{score} {trial.scores[score]:.{DIGITS}g}" for score in scores if score in trial.scores]
    lines += ["   ".join(known[start : start + 2]) for start in range(0, len(known), 2)]
    if trial.said:
        lines.append(textwrap.shorten(trial.said.splitlines()[0], MAX_REASON_CHARS, placeholder=" ..."))
    tile = Image.new("RGB", (TILE_PX, TILE_PX), (EMPTY_GREY,) * 3)
    with suppress(OSError), Image.open(exploration.picture(trial.number)) as file:
        picture = Image.fromarray(fitted(np.array(file.convert("RGB")), TILE_PX))
        tile.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    title = name if trial.ending == "completed" else f"{name}, {trial.ending}"
    return Panel(title, tuple(lines), np.array(tile))
