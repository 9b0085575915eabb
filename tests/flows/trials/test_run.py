"""Trials in the trials' clone, one after another, without Prefect."""

import contextlib
from collections.abc import Sequence

import optuna
import pytest

from atelier.errors import AtelierError
from flows.clones import trials_clone
from flows.trials.record import Exploration, Trial, draw_sheet
from flows.trials.run import TrialRunner
from flows.trials.search_space import Request, read_axes
from tests.flows.explore_toys import ExploreTree


class Silent:
    """A watcher that does nothing."""

    def line(self, text: str) -> None:
        pass

    def tick(self) -> None:
        pass


@pytest.fixture
def tree(exploring: ExploreTree, monkeypatch: pytest.MonkeyPatch) -> ExploreTree:
    """The studio, as the current directory."""
    for name, value in exploring.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(exploring.root)
    return exploring


def explore(tree: ExploreTree, request: Request) -> list[Trial]:
    """Run every trial; return them in the order in which they ran."""
    ours = trials_clone.snapshot(tree.root)
    explored = Exploration(tree.root, "sea")
    explored.begin(request, ours.identity)
    trials_clone.prepare(ours, "sea", ["sea"])
    trials = []
    with contextlib.chdir(ours.root):
        runner = TrialRunner(request, ours, explored)
        while turn := runner.next():
            trials.append(runner.run(*turn, lambda stage: Silent(), lambda text: None))
    draw_sheet(explored)
    return trials


def request_of(*words: str, trials: int = 0) -> Request:
    return Request("search" if trials else "grid", tuple(read_axes(words, ranges=bool(trials))), trials=trials)


def endings(trials: Sequence[Trial]) -> list[str]:
    return [trial.ending for trial in trials]


def test_failed_trials_are_on_the_sheet_and_are_run_again(tree: ExploreTree):
    tree.dvc("repro", "augment")
    failed, crashed, completed = explore(tree, request_of("train.batch=13,17,64"))
    assert (failed.ending, failed.said) == ("failed", "train: thirteen pictures a step bring bad luck")
    assert crashed.ending == "failed"
    assert crashed.said.startswith("a mistake in the code: AttributeError: ")
    assert completed.scores == {"kid_coarse": pytest.approx(0.1), "held_out": 9}
    rows = tree.table("sea")
    assert [row["state"] for row in rows] == ["completed", "failed", "failed"]
    assert {row["said"] for row in rows[1:]} == {failed.said, crashed.said}
    page = (tree.root / ".atelier/explore/sea/sheet.html").read_text()
    assert "sea-3" in page and failed.said in page
    assert set(tree.experiments()) == {"sea-3"}

    tree.git("update-ref", "-d", trials_clone.snapshot(tree.root).ref("sea-3"))  # as `dvc exp remove` does
    assert endings(explore(tree, request_of("train.batch=13,17,64"))) == ["failed", "failed", "completed"]
    # the outputs of the studio and of earlier trials are restored from the cache
    assert (tree.runs["scrape"], tree.runs["augment"], tree.runs["evaluate"]) == (1, 1, 2)


def test_a_trial_that_raises_is_reported_to_optuna_as_failed(tree: ExploreTree):
    (crashed,) = explore(tree, request_of("train.batch=17", trials=1))
    assert crashed.changes["train.batch"] == 17
    study = optuna.load_study(study_name="explore", storage=f"sqlite:///{Exploration(tree.root, 'sea').study}")
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_a_failure_that_all_trials_share_ends_the_exploration(tree: ExploreTree):
    tree.set("works: 600 ", "works: 13 ")
    with pytest.raises(AtelierError, match=r"^scrape: thirteen works bring bad luck$"):
        explore(tree, request_of("train.batch=32,64"))
    assert tree.runs == {"scrape": 1}


def test_a_search_stops_a_training_that_is_worse_than_the_others(tree: ExploreTree, monkeypatch: pytest.MonkeyPatch):
    record_five_trials(tree)
    monkeypatch.setenv("TOY_SNAPSHOT_S", "0.8")
    (pruned,) = explore(tree, request_of("train.lr=log:1e-5,1e-3", trials=6))
    assert (pruned.number, pruned.ending) == (6, "pruned")
    assert pruned.said.startswith("worse than the median at ")
    assert "kid_coarse" in pruned.scores
    assert Exploration(tree.root, "sea").picture(6).is_file()
    assert tree.runs == {"scrape": 1, "augment": 1, "train": 1}
    assert tree.experiments() == {}
    assert tree.table("sea")[0]["state"] == "pruned"


def record_five_trials(tree: ExploreTree) -> None:
    """Record the beginning of a search: five trials with perfect scores from their first snapshot on."""
    from flows.trials.optuna_search import Search

    request, explored = request_of("train.lr=log:1e-5,1e-3", trials=6), Exploration(tree.root, "sea")
    explored.begin(request, trials_clone.snapshot(tree.root).identity)
    search = Search(explored.study, request.axes, request.seed, request.higher_is_better)
    for number in range(1, 6):
        changes = search.next(number)
        assert changes
        search.is_hopeless([0.0, 0.0])
        search.tell(0.0, "completed")
        explored.write(Trial(number, changes, "pruned", {}), None)
