"""Which settings to try next, by Optuna: TPE proposes, a median pruner says when a trial is not worth its end.

The only module that knows Optuna. The study lies in one SQLite file; what a kill left in it unfinished is proposed
again. Draws depend on the seed and the trial's number alone, so that a killed search goes where it would have gone.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from flows.trials.record import Ending
from flows.trials.search_space import Axis, Choice, Range, number, product

NUMBER = "number"  # the attribute that holds ours: Optuna counts what a kill left, too
FIRST_AT_RANDOM = 5  # trials before TPE has anything to go by, and before anything is pruned
TRIES = 20  # for settings that have not been tried, before they are looked for one by one


class Search:
    """A study over `axes`; the lower or the higher value is better."""

    def __init__(self, path: Path, axes: Sequence[Axis], seed: int, higher_is_better: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes, self._seed = axes, seed
        self._distributions = {axis.key: _distribution(axis) for axis in axes}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name="explore",
                direction="maximize" if higher_is_better else "minimize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_AT_RANDOM, n_warmup_steps=1),
                load_if_exists=True,
            )
        self._trial: optuna.Trial | None = None

    def next(self, number_: int) -> dict[str, Any] | None:
        """The settings of trial `number_`: those it had when it was killed, else new ones; None when all are tried."""
        self._take_up_what_was_left(number_)
        for attempt in range(TRIES):
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self._seed * 1_000_003 + number_ * 101 + attempt, n_startup_trials=FIRST_AT_RANDOM
            )
            trial = self._study.ask(self._distributions)
            if not self._was_tried(trial):
                return self._take(trial, number_)
            self._study.tell(trial, state=TrialState.FAIL)
        for changes in self._untried():
            self._study.enqueue_trial(_texts(changes), {NUMBER: number_})
            return self._take(self._study.ask(self._distributions), number_)
        return None

    def is_hopeless(self, scores: Sequence[float]) -> bool:
        """Whether the trial at work, with these scores of its snapshots so far, is worse than the median of others."""
        if self._trial is None:
            return False
        known = self._study.get_trials(deepcopy=False)[self._trial.number].intermediate_values
        for step in range(len(known), len(scores)):
            self._trial.report(scores[step], step)
        return bool(scores) and bool(self._trial.should_prune())  # numpy's own bool

    def tell(self, score: float | None, ending: Ending) -> None:
        """How the trial at work ended; one that is run again, because its experiment is gone, was told before."""
        if self._trial is None:
            return
        if ending == "completed":
            self._study.tell(self._trial, score)
        else:
            state = TrialState.PRUNED if ending == "pruned" else TrialState.FAIL
            self._study.tell(self._trial, state=state)
        self._trial = None

    def _take_up_what_was_left(self, number_: int) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.user_attrs.get(NUMBER) == number_:
                self._study.enqueue_trial(trial.params, {NUMBER: number_})

    def _take(self, trial: optuna.Trial, number_: int) -> dict[str, Any]:
        trial.set_user_attr(NUMBER, number_)
        self._trial = trial
        return self._changes(trial.params)

    def _was_tried(self, trial: optuna.Trial) -> bool:
        """Whether another trial had the same settings and came to something."""
        if NUMBER in trial.user_attrs:  # enqueued on purpose
            return False
        ended = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
        mine = self._changes(trial.params)
        return any(self._changes(other.params) == mine for other in ended)

    def _untried(self) -> Iterator[dict[str, Any]]:
        if any(isinstance(axis, Range) for axis in self._axes):
            return
        ended = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
        had = [self._changes(trial.params) for trial in ended]
        yield from (changes for changes in product(self._axes) if changes not in had)

    def _changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's values as params.yaml's."""
        return {
            axis.key: json.loads(params[axis.key])
            if isinstance(axis, Choice)
            else number(axis, params[axis.key])
            for axis in self._axes
        }


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution([json.dumps(value) for value in axis.values])
    if axis.kind == "int":
        return IntDistribution(round(axis.low), round(axis.high))
    return FloatDistribution(axis.low, axis.high, log=axis.kind == "log")


def _texts(changes: Mapping[str, Any]) -> dict[str, str]:
    """Choices as JSON: Optuna keeps no lists."""
    return {key: json.dumps(value) for key, value in changes.items()}
