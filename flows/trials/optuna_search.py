"""The settings of a search's next trial, from Optuna: TPE proposes, a median pruner stops bad trainings early.

The study is an SQLite file. A trial that a kill interrupted is proposed again. Proposals depend only on the seed, the
trial's number and the results before it, so that a killed search continues as it would have.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from flows.trials.record import Ending
from flows.trials.search_space import Axis, Choice, Range, product, round_value

NUMBER = "number"  # a user attribute with our trial number; Optuna's own also counts interrupted trials
STARTUP_TRIALS = 5  # random trials before TPE proposes and before anything is pruned
ATTEMPTS = 20  # proposals that were tried already, before the remaining combinations are enumerated


class Search:
    """A study over `axes`, in the SQLite file `path`, which is created if it does not exist."""

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
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=1),
                load_if_exists=True,
            )
        self._trial: optuna.Trial | None = None

    def next(self, number: int) -> dict[str, Any] | None:
        """Start trial `number` and return its settings, those of before if it was interrupted.

        Returns None if all combinations have been tried.
        """
        for interrupted in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._study.tell(interrupted.number, state=TrialState.FAIL)
            if interrupted.user_attrs.get(NUMBER) == number:
                self._study.enqueue_trial(interrupted.params, {NUMBER: number})
        for attempt in range(ATTEMPTS):
            self._study.sampler = optuna.samplers.TPESampler(
                seed=self._seed * 1_000_003 + number * 101 + attempt, n_startup_trials=STARTUP_TRIALS
            )
            trial = self._study.ask(self._distributions)
            if NUMBER in trial.user_attrs or self._changes(trial.params) not in self._tried():
                return self._start(trial, number)
            self._study.tell(trial, state=TrialState.FAIL)
        if any(isinstance(axis, Range) for axis in self._axes):
            return None
        tried = self._tried()
        if (changes := next((each for each in product(self._axes) if each not in tried), None)) is None:
            return None
        # as JSON texts, because Optuna's categories cannot be lists
        self._study.enqueue_trial({key: json.dumps(value) for key, value in changes.items()}, {NUMBER: number})
        return self._start(self._study.ask(self._distributions), number)

    def is_hopeless(self, scores: Sequence[float]) -> bool:
        """Whether the current trial should be stopped: its snapshots' `scores` are worse than the others' median."""
        if self._trial is None:
            return False
        known = self._study.get_trials(deepcopy=False)[self._trial.number].intermediate_values
        for step in range(len(known), len(scores)):
            self._trial.report(scores[step], step)
        return bool(scores) and bool(self._trial.should_prune())  # should_prune returns a numpy bool

    def tell(self, score: float | None, ending: Ending) -> None:
        """Report how the current trial ended. Does nothing without one: a repeated trial was reported before."""
        if self._trial is None:
            return
        if ending == "completed":
            self._study.tell(self._trial, score)  # a NaN becomes a failed trial
        else:
            self._study.tell(self._trial, state=TrialState.PRUNED if ending == "pruned" else TrialState.FAIL)
        self._trial = None

    def _start(self, trial: optuna.Trial, number: int) -> dict[str, Any]:
        trial.set_user_attr(NUMBER, number)
        self._trial = trial
        return self._changes(trial.params)

    def _tried(self) -> list[dict[str, Any]]:
        """The settings of the completed and the pruned trials."""
        ended = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
        return [self._changes(trial.params) for trial in ended]

    def _changes(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Convert Optuna's values to those of params.yaml."""
        return {
            axis.key: json.loads(params[axis.key]) if isinstance(axis, Choice) else round_value(axis, params[axis.key])
            for axis in self._axes
        }


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution([json.dumps(value) for value in axis.values])
    if axis.kind == "int":
        return IntDistribution(round(axis.low), round(axis.high))
    return FloatDistribution(axis.low, axis.high, log=axis.kind == "log")
