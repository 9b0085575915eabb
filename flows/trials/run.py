"""The course of an exploration: which trial is next, and what one is: settings, stages, an experiment, a score.

Runs in the trials' tree (flows.clones.trials_clone), which must be the directory we are in. Knows no Prefect.
"""

import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from atelier.errors import AtelierError
from atelier.settings.edit import edit_params
from flows.clones.trials_clone import Beside
from flows.repo import experiments
from flows.repo import stages as dvc
from flows.repo.experiments import StageError
from flows.repo.stages import Watcher
from flows.trials.record import Explored, Trial, Wish, scores_of
from flows.trials.search_space import product

PARAMS, DVC_YAML = Path("params.yaml"), Path("dvc.yaml")
PROGRESS = Path(".atelier/progress/train.json")
CONTACT_SHEET = Path("data/contact_sheet.png")

Say = Callable[[str], None]
Follow = Callable[[str], Watcher]


class Trying:
    """One exploration, trial by trial. A trial that ended and is still wanted is not run again."""

    def __init__(self, wish: Wish, beside: Beside, explored: Explored) -> None:
        self.explored = explored
        self.ended: list[Trial] = []  # in this run
        self._wish, self._beside = wish, beside
        self._grid = product(wish.axes) if wish.mode == "grid" else []
        self._number = 0
        if wish.mode == "search":
            from flows.trials.optuna_search import Search  # Optuna takes a second to load

            self._search: Search | None = Search(explored.study, wish.axes, wish.seed, wish.higher_is_better)
        else:
            self._search = None

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The number and the settings of the next trial; None when there is none left."""
        while self._number < (len(self._grid) or self._wish.trials):
            self._number += 1
            ended = self.explored.trial(self._number)
            if ended is None:
                changes = self._search.next(self._number) if self._search else self._grid[self._number - 1]
                return None if changes is None else (self._number, changes)
            if not self._is_settled(ended):
                return self._number, ended.changes
        return None

    def run(self, number: int, changes: Mapping[str, Any], follow: Follow, say: Say) -> Trial:
        """Bring a trial to its end, and keep it.

        An exception that no code expected ends it as failed, too. Raises AtelierError for what no other settings would
        mend; then the trial has not ended, and the next run takes it up.
        """
        self._beside.clean()
        try:
            trial, picture = self._try(number, dict(changes), follow, say)
        except AtelierError:
            raise
        except Exception as error:  # noqa: BLE001  (it is written down, and the other trials go on)
            say(traceback.format_exc().rstrip())
            why = f"a mistake in the code: {type(error).__name__}: {error} (traceback in the log)"
            trial, picture = Trial(number, dict(changes), "failed", {}, why), None
        if trial.ending == "completed":
            self._beside.give(self.explored.experiment(number))
        self.explored.write(trial, picture)
        if self._search:
            self._search.tell(trial.scores.get(self._wish.by), trial.ending)
        self.ended.append(trial)
        return trial

    def _try(
        self, number: int, changes: dict[str, Any], follow: Follow, say: Say
    ) -> tuple[Trial, Path | None]:
        try:
            edit_params(PARAMS, {**self._wish.fixed, **changes})
        except AtelierError as error:
            return Trial(number, changes, "failed", {}, str(error)), None
        PROGRESS.unlink(missing_ok=True)  # another trial's
        try:
            experiments.run(self.explored.experiment(number), self._followed(follow), say)
        except StageError as error:
            if error.stage not in self._of_the_trial(say):
                raise
            scores, _, picture = _last_look()
            return Trial(number, changes, "failed", scores, str(error)), picture
        except _Hopeless:
            scores, kimg, picture = _last_look()
            return Trial(
                number, changes, "pruned", scores, f"worse than the median at {kimg:g} kimg"
            ), picture
        scores = scores_of(json.loads(experiments.METRICS.read_text(encoding="utf-8")))
        if self._wish.by not in scores:
            raise AtelierError(
                f"metrics.json has no number {self._wish.by}: --by may be {', '.join(sorted(scores))}"
            )
        return Trial(number, changes, "completed", scores), CONTACT_SHEET

    def _followed(self, follow: Follow) -> Follow:
        """The training of a search is also judged while it runs."""
        if (search := self._search) is None:
            return follow

        def judged(stage: str) -> Watcher:
            watcher = follow(stage)
            return _Judge(watcher, search.is_hopeless, self._wish.by) if stage == "train" else watcher

        return judged

    def _of_the_trial(self, say: Say) -> set[str]:
        """The stages that may differ from trial to trial: what fails elsewhere fails in all."""
        keys = [*self._wish.fixed, *(axis.key for axis in self._wish.axes)]
        sections = {key.split(".")[0] for key in keys}
        stages = YAML(typ="safe").load(DVC_YAML.read_text(encoding="utf-8"))["stages"]
        ours: set[str] = set()
        for stage in dvc.plan(experiments.TARGETS, say):
            params = stages[stage.name].get("params", [])
            if sections & {str(param).split(".")[0] for param in params} or ours & set(stage.upstream):
                ours.add(stage.name)
        return ours

    def _is_settled(self, trial: Trial) -> bool:
        match trial.ending:
            case "completed":
                return self._beside.has_been_given(self.explored.experiment(trial.number))
            case "pruned":
                return True
            case "failed":
                return False


class _Hopeless(Exception):
    """The training at work is not worth its end."""


class _Judge:
    """Follows a training, and stops it where its snapshots are worse than others' were."""

    def __init__(self, watcher: Watcher, is_hopeless: Callable[[list[float]], bool], by: str) -> None:
        self._watcher, self._is_hopeless, self._by = watcher, is_hopeless, by
        self._seen = 0

    def line(self, text: str) -> None:
        self._watcher.line(text)

    def tick(self) -> None:
        self._watcher.tick()
        scores = [row[self._by] for row in _progress().get("scores", []) if self._by in row]
        if len(scores) > self._seen:
            self._seen = len(scores)
            if self._is_hopeless(scores):
                raise _Hopeless


def _last_look() -> tuple[dict[str, float], float, Path | None]:
    """The scores of the last snapshot of a training that did not end, when that was in kimg, and its picture."""
    progress = _progress()
    scores = dict((progress.get("scores") or [{}])[-1])
    kimg = scores.pop("kimg", 0.0)
    return scores, kimg, Path(progress["picture"]) if progress.get("picture") else None


def _progress() -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(PROGRESS.read_text())
        return told
    except FileNotFoundError:
        return {}
