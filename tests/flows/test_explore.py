"""`atelier explore …` as a process, in a studio with uncommitted edits."""

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from tests.flows.explore_toys import ExploreTree
from tests.flows.prefect_api import Api
from tests.flows.preloaded import Preloaded
from tests.flows.toys import Started, left_of

GRID = (
    "flows.cli",
    "explore",
    "grid",
    "train.lr=1e-4,2e-4",
    "augment.crop=center,random",
    "train.batch=32",
)


@pytest.fixture
def tree(exploring: ExploreTree, api_url: str, preloaded: Preloaded) -> ExploreTree:
    exploring.environment["PREFECT_API_URL"] = api_url
    exploring.preloaded = preloaded
    exploring.set("works: 600 ", "works: 24 ")  # not committed
    return exploring


@pytest.fixture
def start(tree: ExploreTree) -> Iterator[Callable[..., Started]]:
    """`start("flows.cli", "explore", …)`, ended with the test in any case."""
    started: list[Started] = []

    def start(*command: str) -> Started:
        started.append(tree.start(*command))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_grid_continues_and_its_best_trial_is_adopted(tree: ExploreTree, start):
    """Waits for four trials and for the prints of the one that is adopted."""
    before = (tree.root / "params.yaml").read_bytes()
    tree.environment["TOY_SNAPSHOT_S"] = "0.1"
    run = start(*GRID, "--minutes", "5", "--name", "sea").until("'sea-3' - train: 1/5")
    family = run.family()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not left_of(family)
    assert set(tree.experiments()) == {f"sea-{number}" for number in range(1, 3)}

    again = tree.run(*GRID, "--minutes", "5", "--name", "sea")
    assert again.status == 0, again.output
    assert "'sea-2'" not in again.output
    assert "'sea-3' - tries train.lr=0.0002 augment.crop=center train.batch=32" in again.output
    assert tree.runs == {"scrape": 1, "augment": 2, "train": 5, "evaluate": 4, "generate": 4}
    assert (tree.root / "params.yaml").read_bytes() == before
    assert "dvc.lock" not in tree.git("status", "--short")

    shown, table = tree.experiments(), tree.table("sea")
    assert set(shown) == {f"sea-{number}" for number in range(1, 5)}
    for row in table:
        params = shown[row["experiment"]]["params"]["params.yaml"]["data"]
        metrics = shown[row["experiment"]]["metrics"]["metrics.json"]["data"]
        assert float(row["kid_coarse"]) == pytest.approx(metrics["kid_coarse"]["value"], rel=1e-5)
        assert (float(row["train.lr"]), int(row["train.batch"])) == (
            params["train"]["lr"],
            params["train"]["batch"],
        )
        assert row["augment.crop"] == params["augment"]["crop"]
        assert (params["train"]["minutes"], params["scrape"]["gallery"]["works"]) == (5, 24)
    scores = [float(row["kid_coarse"]) for row in table]
    assert scores == sorted(scores)
    with Image.open(tree.root / ".atelier/explore/sea/sheet.png") as sheet:
        assert sheet.width > 3 * 384

    page = [run for run in Api(tree.environment["PREFECT_API_URL"]).runs() if run.facts["name"] == "explore sea"]
    assert {"sea-3", "sea-4"} <= set(page[-1].tasks)
    assert page[-1].artifacts["sheet"].startswith("data:image/webp;base64,")
    assert '"experiment": "sea-3"' in page[-1].artifacts["trials"]

    adopted = tree.run("flows.cli", "explore", "apply", "sea")
    assert adopted.status == 0, adopted.output
    assert "lr: 0.0002 " in (tree.root / "params.yaml").read_text()
    assert "up to date" in tree.dvc("repro")
    assert tree.runs == {"scrape": 1, "augment": 2, "train": 5, "evaluate": 4, "generate": 4, "upscale": 1}


@pytest.mark.slow
def test_an_exploration_with_a_failed_trial_fails_and_names_it(tree: ExploreTree):
    """Waits for three trials and their artifacts on the server."""
    run = tree.run("flows.cli", "explore", "grid", "train.batch=17,13,64", "--name", "luck")
    assert run.status == 1, run.output
    assert "2 failed" in run.output
    assert "luck-1 failed: a mistake in the code: AttributeError: " in run.output
    assert "luck-2 failed: train: thirteen pictures a step bring bad luck" in run.output
    assert "`atelier explore apply luck-3` adopts it" in run.output
    assert [row["state"] for row in tree.table("luck")] == ["completed", "failed", "failed"]
    page = [run for run in Api(tree.environment["PREFECT_API_URL"]).runs() if run.facts["name"] == "explore luck"]
    assert page[0].state[0] == "Failed"


def test_a_second_exploration_is_refused_and_ctrl_c_stops_the_first_with_its_child_processes(tree: ExploreTree, start):
    tree.environment["TOY_SNAPSHOT_S"] = "3"
    run = start(*GRID).until("train: 1/5")
    second = tree.run("flows.cli", "explore", "grid", "train.lr=1e-3")
    assert second.status == 1
    assert f"another exploration (PID {run.pid}) is at work" in second.output
    family = run.family()
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 130
    assert not left_of(family)
    assert run.output.rstrip().endswith("stopped; the same command goes on from here")
    assert tree.experiments() == {}
