"""The sheet of an exploration, sheet.png: every trial's picture, settings and scores, the best first; and table.csv."""

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, fitted, write_panels
from atelier.settings.edit import format_value
from flows.trials.record import Exploration, Trial

TILE_PX = 384
EMPTY = 239  # the grey of a tile without a picture
DIGITS = 3  # of a score on the sheet; the table has all
MAX_REASON = 120  # characters
SCORES = ("kid_coarse", "kid", "coverage", "memorisation")  # on the sheet, after the one that ranks trials


def draw(exploration: Exploration) -> list[Trial]:
    """Write sheet.png and table.csv from the trials that ended. Returns these, the best first."""
    trials = exploration.trials()
    exploration.write_table(_csv(exploration, trials))
    if trials:
        columns = math.ceil(math.sqrt(1.3 * len(trials)))  # wider than high, like a screen
        panels = [_panel(exploration, trial, _sheet_scores(exploration, trials)) for trial in trials]
        write_panels(exploration.sheet, _heading(exploration, trials), panels, columns)
    return trials


def rows(exploration: Exploration, trials: Sequence[Trial]) -> list[dict[str, str]]:
    """Return a row for each trial, with the scores that the sheet shows."""
    scores = _sheet_scores(exploration, trials)
    return [
        {
            "experiment": exploration.experiment(trial.number),
            "state": trial.ending,
            **{key: format_value(trial.changes[key]) for key in exploration.keys},
            **{name: _score(trial, name, DIGITS) for name in scores},
        }
        for trial in trials
    ]


def _csv(exploration: Exploration, trials: Sequence[Trial]) -> str:
    """Every score of every trial, to six digits."""
    scores = list(dict.fromkeys(name for trial in trials for name in trial.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "state", *exploration.keys, *scores, "said"])
    for trial in trials:
        changes = [format_value(trial.changes[key]) for key in exploration.keys]
        values = [_score(trial, name) for name in scores]
        name = exploration.experiment(trial.number)
        writer.writerow([name, trial.ending, *changes, *values, trial.said])
    return text.getvalue()


def _heading(exploration: Exploration, trials: Sequence[Trial]) -> str:
    endings = [trial.ending for trial in trials]
    counts = [f"{endings.count(ending)} {ending}" for ending in ("completed", "pruned", "failed") if ending in endings]
    return f"{exploration.name}: {', '.join(counts)}; the best {exploration.by} first"


def _panel(exploration: Exploration, trial: Trial, scores: Sequence[str]) -> Panel:
    name = exploration.experiment(trial.number)
    lines = [f"{key}: {format_value(trial.changes[key])}" for key in exploration.keys]
    known = [f"{name} {_score(trial, name, DIGITS)}" for name in scores if name in trial.scores]
    lines += ["   ".join(known[start : start + 2]) for start in range(0, len(known), 2)]
    if trial.said:
        lines.append(textwrap.shorten(trial.said.splitlines()[0], MAX_REASON, placeholder=" ..."))
    title = name if trial.ending == "completed" else f"{name}, {trial.ending}"
    return Panel(title, tuple(lines), _tile(exploration.picture(trial.number)))


def _tile(path: Path) -> Pixels:
    """The picture in the middle of a grey square; an empty square without a readable picture."""
    tile = np.full((TILE_PX, TILE_PX, 3), EMPTY, np.uint8)
    try:
        with Image.open(path) as picture:
            pixels = fitted(np.array(picture.convert("RGB")), TILE_PX)
    except OSError:
        return tile
    height, width = pixels.shape[:2]
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile[top : top + height, left : left + width] = pixels
    return tile


def _sheet_scores(exploration: Exploration, trials: Sequence[Trial]) -> list[str]:
    """The names of the scores that the sheet shows."""
    names = dict.fromkeys([exploration.by, *SCORES])
    return [name for name in names if any(name in trial.scores for trial in trials)]


def _score(trial: Trial, name: str, digits: int = 6) -> str:
    return f"{trial.scores[name]:.{digits}g}" if name in trial.scores else ""
