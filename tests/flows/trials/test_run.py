"""Trials in a tree of their own, one after another; Prefect takes no part."""

import contextlib
from collections.abc import Sequence

import optuna
import pytest

from atelier.errors import AtelierError
from flows.clones import trials_clone
from flows.trials import trials_sheet
from flows.trials.record import Explored, Trial, Wish
from flows.trials.run import Trying
from flows.trials.search_space import read_axes
from tests.flows.explore_toys import ExploreTree


class Deaf:
    """Watches, and tells nobody."""

    def line(self, text: str) -> None:
        pass

    def tick(self) -> None:
        pass


@pytest.fixture
def tree(exploring: ExploreTree, monkeypatch: pytest.MonkeyPatch) -> ExploreTree:
    """We are in it, as a flow would be."""
    for name, value in exploring.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(exploring.root)
    return exploring


def explore(tree: ExploreTree, wish: Wish) -> list[Trial]:
    """Every trial, to its end; in the order in which they ran."""
    ours = trials_clone.look(tree.root)
    explored = Explored(tree.root, "sea")
    explored.begin(wish, ours.identity)
    trials_clone.prepare(ours, "sea")
    trials = []
    with contextlib.chdir(ours.root):
        trying = Trying(wish, ours, explored)
        while turn := trying.next():
            trials.append(trying.run(*turn, lambda stage: Deaf(), lambda text: None))
    trials_sheet.draw(explored)
    return trials


def wish(*words: str, trials: int = 0) -> Wish:
    return Wish("search" if trials else "grid", tuple(read_axes(words, ranges=bool(trials))), trials=trials)


def endings(trials: Sequence[Trial]) -> list[str]:
    return [trial.ending for trial in trials]


def test_settings_that_fail_are_on_the_sheet_and_are_tried_again(tree: ExploreTree):
    tree.dvc("repro", "augment")
    failed, completed = explore(tree, wish("train.batch=13,64"))
    assert (failed.ending, failed.said) == ("failed", "train: thirteen pictures a step bring bad luck")
    assert completed.scores == {"kid_coarse": pytest.approx(0.1), "held_out": 9}
    assert [row["state"] for row in tree.table("sea")] == ["completed", "failed"]
    assert tree.table("sea")[1]["said"] == failed.said
    assert set(tree.experiments()) == {"sea-2"}

    tree.git("update-ref", "-d", trials_clone.look(tree.root).ref("sea-2"))  # as `dvc exp remove` does
    assert endings(explore(tree, wish("train.batch=13,64"))) == ["failed", "completed"]
    # what the studio had, and what came of the trial before, is restored
    assert (tree.runs["scrape"], tree.runs["augment"], tree.runs["evaluate"]) == (1, 1, 1)


def test_a_trial_that_crashes_is_written_as_failed_and_the_others_go_on(tree: ExploreTree):
    crashed, completed = explore(tree, wish("train.batch=17,64"))
    assert (crashed.ending, completed.ending) == ("failed", "completed")
    assert crashed.said.startswith("a mistake in the code: AttributeError: ")
    assert [row["state"] for row in tree.table("sea")] == ["completed", "failed"]
    assert set(tree.experiments()) == {"sea-2"}


def test_a_trial_of_a_search_that_crashes_has_failed_for_optuna_as_well(tree: ExploreTree):
    (crashed,) = explore(tree, wish("train.batch=17", trials=1))
    assert crashed.changes["train.batch"] == 17
    study = optuna.load_study(study_name="explore", storage=f"sqlite:///{Explored(tree.root, 'sea').study}")
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_what_fails_for_every_trial_ends_the_exploration(tree: ExploreTree):
    tree.set("works: 600 ", "works: 13 ")
    with pytest.raises(AtelierError, match=r"^scrape: thirteen works bring bad luck$"):
        explore(tree, wish("train.batch=32,64"))
    assert tree.runs == {"scrape": 1}


def test_a_search_stops_a_training_that_is_worse_than_the_others_were(
    tree: ExploreTree, monkeypatch: pytest.MonkeyPatch
):
    had_five_trials(tree)
    monkeypatch.setenv("TOY_SNAPSHOT_S", "0.8")
    (pruned,) = explore(tree, wish("train.lr=log:1e-5,1e-3", trials=6))
    assert (pruned.number, pruned.ending) == (6, "pruned")
    assert pruned.said.startswith("worse than the median at ")
    assert "kid_coarse" in pruned.scores
    assert Explored(tree.root, "sea").picture(6).is_file()
    assert tree.runs == {"scrape": 1, "augment": 1, "train": 1}
    assert tree.experiments() == {}
    assert tree.table("sea")[0]["state"] == "pruned"


def had_five_trials(tree: ExploreTree) -> None:
    """The beginning of a search: five trials, each as good as can be from its first snapshot on."""
    from flows.trials.optuna_search import Search

    asked, explored = wish("train.lr=log:1e-5,1e-3", trials=6), Explored(tree.root, "sea")
    explored.begin(asked, trials_clone.look(tree.root).identity)
    search = Search(explored.study, asked.axes, asked.seed, asked.higher_is_better)
    for number in range(1, 6):
        changes = search.next(number)
        assert changes
        search.is_hopeless([0.0, 0.0])
        search.tell(0.0, "completed")
        explored.write(Trial(number, changes, "pruned", {}), None)
