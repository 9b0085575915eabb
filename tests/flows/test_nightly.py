"""One night after another, as typed by a person: who becomes the champion, who stays it, and what is said of it."""

import json
from pathlib import Path

import pytest

from atelier.files import digest_tree
from tests.flows.night_toys import NightTree


@pytest.fixture
def studio_at_night(night_tree: NightTree, api_url: str) -> NightTree:
    night_tree.environment = {**night_tree.environment, "PREFECT_API_URL": api_url}
    return night_tree


def test_worse_or_no_better_than_chance_the_challenger_is_not_promoted(studio_at_night: NightTree) -> None:
    tree = studio_at_night
    tree.edit(train__seed=0)
    tree.commit()
    first = _night(tree, "2026-11-30")
    assert first.endswith("Promoted: atelier@v1.0.0: the first champion")
    champion = tree.champion()
    assert champion
    kept = tree.root.with_name("studio.nightly") / champion["path"]
    before = tree.git("rev-parse", "nightly"), digest_tree(kept)

    tree.edit(train__seed=6)
    tree.commit()
    assert "Kept: v1.0.0 stays: kid_rand" in (worse := _night(tree, "2026-12-01"))
    assert worse.count("(worse)") >= 2
    assert (tree.git("rev-parse", "nightly"), digest_tree(kept)) == before

    tree.edit(train__seed=0, train__generation=1)
    tree.commit()
    assert "Kept: v1.0.0 stays" in (tie := _night(tree, "2026-12-02"))
    assert tie.count("(even)") >= 2
    assert (tree.git("rev-parse", "nightly"), digest_tree(kept)) == before

    status = tree.run("flows.cli", "nightly", "status").output
    assert "champion  atelier@v1.0.0, night of 2026-11-30, 60 paintings" in status
    assert "last      Kept, night of 2026-12-02" in status
    report = (tree.root.with_name("studio.nightly") / ".atelier/nightly/report.md").read_text()
    assert "| distance | champion v1.0.0 | challenger |" in report
    assert "| `scrape.snapshot` | `2026-11-22` | `2026-12-02` |" in report


def test_what_cannot_work_is_said_in_a_sentence_and_leaves_nothing(night_tree: NightTree) -> None:
    refused = night_tree.run("flows.cli", "nightly", "run", "--night", "tomorrow")
    assert (refused.status, refused.output) == (
        1,
        "--night tomorrow: no date; one like 2026-11-30 is asked for\n",
    )
    night_tree.environment = {**night_tree.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    served = night_tree.run("flows.cli", "nightly", "serve")
    assert served.status == 1
    assert "none answers: type `prefect server start`" in served.output
    assert "last      no night yet" in night_tree.run("flows.cli", "nightly", "status").output
    assert not night_tree.root.with_name("studio.nightly").exists()


def _night(tree: NightTree, night: str) -> str:
    run = tree.run("flows.cli", "nightly", "run", "--night", night)
    assert run.status == 0, run.output
    assert json.loads(Path(tree.root / ".atelier/last_night.json").read_text())["night"] == night
    return run.output.rstrip()
