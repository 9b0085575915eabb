"""Optuna's search, with a known score function instead of trainings."""

from pathlib import Path
from typing import Any

import pytest

from flows.trials.optuna_search import Search
from flows.trials.search_space import read_axes

WORDS = [
    "train.lr=log:1e-5,1e-3",
    "train.batch=32,64",
    "train.augment=[],[cutout]",
    "train.sketch.ngf=int:8,64",
]


def search(path: Path, words: list[str] = WORDS, higher_is_better: bool = False) -> Search:
    return Search(path, read_axes(words, ranges=True), 0, higher_is_better)


def distance(changes: dict[str, Any]) -> float:
    return abs(changes["train.lr"] - 2e-4) * 1e4 + (changes["train.batch"] == 32)


def run_search(path: Path, kill_at: int | None = None, trials: int = 12) -> list[tuple[dict[str, Any], bool]]:
    """Return each trial's settings and whether it was pruned. `kill_at` interrupts a trial and reopens the study."""
    study, had = search(path), []
    for number in range(1, trials + 1):
        changes = study.next(number)
        if number == kill_at:
            study.is_hopeless([distance(changes) + 1])
            study = search(path)
            assert study.next(number) == changes
        pruned = study.is_hopeless([distance(changes) + 1]) or study.is_hopeless(
            [distance(changes) + 1, distance(changes) + 0.5]
        )
        study.tell(None if pruned else distance(changes), "pruned" if pruned else "completed")
        had.append((changes, pruned))
    return had


@pytest.fixture(scope="module")
def had(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], bool]]:
    """A search of twelve trials, from its beginning to its end."""
    return run_search(tmp_path_factory.mktemp("search") / "study.db")


def test_settings_have_the_types_of_params_yaml_and_stay_in_range(had: list[tuple[dict[str, Any], bool]]):
    for changes, _ in had:
        assert 1e-5 <= changes["train.lr"] <= 1e-3
        assert changes["train.batch"] in (32, 64)
        assert changes["train.augment"] in ([], ["cutout"])
        assert isinstance(changes["train.sketch.ngf"], int)


def test_trials_worse_than_the_median_are_pruned_after_the_first_five(had: list[tuple[dict[str, Any], bool]]):
    assert not any(pruned for _, pruned in had[:5])
    pruned = [distance(changes) for changes, pruned in had if pruned]
    kept = [distance(changes) for changes, pruned in had[5:] if not pruned]
    assert pruned
    assert kept
    assert min(pruned) > min(kept)


def test_a_killed_search_continues_as_if_it_had_not_been_killed(tmp_path: Path, had: list[tuple[dict[str, Any], bool]]):
    assert run_search(tmp_path / "study.db", kill_at=7, trials=9) == had[:9]


def test_no_settings_are_tried_twice_and_the_search_ends_after_all_combinations(tmp_path: Path):
    study, had = search(tmp_path / "study.db", ["train.batch=32,64", "augment.crop=center,random"]), []
    while (changes := study.next(len(had) + 1)) is not None:
        had.append(changes)
        study.tell(1.0, "completed")
    assert len(had) == 4
    assert all(had.count(changes) == 1 for changes in had)


def test_failed_settings_have_no_score_and_may_be_proposed_again(tmp_path: Path):
    study = search(tmp_path / "study.db", ["train.batch=32"])
    assert study.next(1) == {"train.batch": 32}
    study.tell(None, "failed")
    assert study.next(2) == {"train.batch": 32}
