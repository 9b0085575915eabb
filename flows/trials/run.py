"""Runs the trials of an exploration in the trials' clone: settings, stages, a DVC experiment, scores."""

import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ruamel.yaml import YAML

from atelier.errors import AtelierError
from atelier.paths import CONTACT_SHEET, DVC_YAML, METRICS, PARAMS, PROGRESS
from atelier.settings.edit import edit_params
from flows.clones.trials_clone import TrialsClone
from flows.repo import stages
from flows.repo.operations import OperationError, Watcher
from flows.runtime.process import Log
from flows.trials.record import Exploration, Trial, scores_of
from flows.trials.search_space import Request, product

if TYPE_CHECKING:
    from flows.trials.optuna_search import Search

TRAINING_PROGRESS = PROGRESS / "train.json"

Follow = Callable[[str], Watcher]  # makes the watcher of a stage, by its name


class TrialRunner:
    """Runs an exploration trial by trial; the current directory has to be the trials' clone.

    `next` gives the next trial and `run` runs it. A trial that ended and whose experiment still exists is skipped.
    """

    def __init__(self, request: Request, clone: TrialsClone, exploration: Exploration) -> None:
        self.exploration = exploration
        self.ended: list[Trial] = []  # by this runner
        self._request, self._clone = request, clone
        self._grid = product(request.axes) if request.mode == "grid" else []
        self._number = 0
        self._search: Search | None = None
        if request.mode == "search":
            from flows.trials import optuna_search  # loading Optuna takes a second

            self._search = optuna_search.Search(exploration.study, request.axes, request.seed, request.higher_is_better)

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """Return the number and the settings of the next trial, or None after the last."""
        while self._number < (len(self._grid) or self._request.trials):
            self._number += 1
            ended = self.exploration.trial(self._number)
            if ended is None:
                changes = self._search.next(self._number) if self._search else self._grid[self._number - 1]
                return None if changes is None else (self._number, changes)
            kept = ended.ending == "completed" and self._clone.is_exported(self.exploration.experiment(self._number))
            if not kept and ended.ending != "pruned":
                return self._number, ended.changes
        return None

    def run(self, number: int, changes: Mapping[str, Any], follow: Follow, say: Log) -> Trial:
        """Run a trial and record how it ended; an unexpected exception records it as failed.

        `follow` makes a watcher for each stage, `say` reports other lines. Raises AtelierError for what would fail
        with any settings: then nothing is recorded, and the next run repeats the trial.
        """
        self._clone.clean()
        try:
            trial, picture = self._run(number, dict(changes), follow, say)
        except AtelierError:
            raise
        except Exception as error:  # noqa: BLE001  (recorded, and the other trials continue)
            say(traceback.format_exc().rstrip())
            why = f"a mistake in the code: {type(error).__name__}: {error} (traceback in the log)"
            trial, picture = Trial(number, dict(changes), "failed", {}, why), None
        if trial.ending == "completed":
            self._clone.export(self.exploration.experiment(number))
        self.exploration.write(trial, picture)
        if self._search:
            self._search.tell(trial.scores.get(self._request.by), trial.ending)
        self.ended.append(trial)
        return trial

    def _run(self, number: int, changes: dict[str, Any], follow: Follow, say: Log) -> tuple[Trial, Path | None]:
        try:
            edit_params(PARAMS, {**self._request.fixed, **changes})
        except AtelierError as error:
            return Trial(number, changes, "failed", {}, str(error)), None
        TRAINING_PROGRESS.unlink(missing_ok=True)  # of the trial before
        try:
            stages.run_experiment(self.exploration.experiment(number), self._with_pruning(follow), say)
        except OperationError as error:
            if error.stage not in self._stages_that_differ(say):
                raise
            scores, _, picture = _last_snapshot()
            return Trial(number, changes, "failed", scores, str(error)), picture
        except _Hopeless:
            scores, kimg, picture = _last_snapshot()
            return Trial(number, changes, "pruned", scores, f"worse than the median at {kimg:g} kimg"), picture
        scores = scores_of(json.loads(METRICS.read_text(encoding="utf-8")))
        if self._request.by not in scores:
            raise AtelierError(
                f"metrics.json has no number {self._request.by}: --by may be {', '.join(sorted(scores))}"
            )
        return Trial(number, changes, "completed", scores), CONTACT_SHEET

    def _with_pruning(self, follow: Follow) -> Follow:
        """In a search, watch the training with a watcher that stops it when it is hopeless."""
        if (search := self._search) is None:
            return follow

        def pruning(stage: str) -> Watcher:
            watcher = follow(stage)
            return _PruningWatcher(watcher, search.is_hopeless, self._request.by) if stage == "train" else watcher

        return pruning

    def _stages_that_differ(self, say: Log) -> set[str]:
        """The stages that depend on the settings to try. A stage that fails elsewhere fails in every trial."""
        keys = [*self._request.fixed, *(axis.key for axis in self._request.axes)]
        sections = {key.split(".")[0] for key in keys}
        in_dvc_yaml = YAML(typ="safe").load(DVC_YAML.read_text(encoding="utf-8"))["stages"]
        differ: set[str] = set()
        for stage in stages.plan(stages.TRIAL_TARGETS, say):
            params = in_dvc_yaml[stage.name].get("params", [])
            if sections & {str(param).split(".")[0] for param in params} or differ & set(stage.upstream):
                differ.add(stage.name)
        return differ


class _Hopeless(Exception):
    """The current training should be stopped."""


class _PruningWatcher:
    """Raises _Hopeless in `tick` when the snapshots' scores are hopeless."""

    def __init__(self, watcher: Watcher, is_hopeless: Callable[[list[float]], bool], by: str) -> None:
        self._watcher, self._is_hopeless, self._by = watcher, is_hopeless, by
        self._snapshots = 0

    def line(self, text: str) -> None:
        self._watcher.line(text)

    def tick(self) -> None:
        self._watcher.tick()
        scores = [row[self._by] for row in _progress().get("scores", []) if self._by in row]
        if len(scores) > self._snapshots:
            self._snapshots = len(scores)
            if self._is_hopeless(scores):
                raise _Hopeless


def _last_snapshot() -> tuple[dict[str, float], float, Path | None]:
    """The scores of the last snapshot of a training that was stopped, its kimg, and its picture."""
    progress = _progress()
    scores = dict((progress.get("scores") or [{}])[-1])
    kimg = scores.pop("kimg", 0.0)
    return scores, kimg, Path(progress["picture"]) if progress.get("picture") else None


def _progress() -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(TRAINING_PROGRESS.read_text()))
    except FileNotFoundError:
        return {}
