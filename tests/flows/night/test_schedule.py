"""Checking a schedule, and the deployment of a studio among those of others on one Prefect server."""

import shutil
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from tests.flows.prefect_api import Api, use_server
from tests.flows.toys import Tree


@pytest.fixture
def inside(served: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """The studio as the current directory, whose Prefect server this process uses."""
    monkeypatch.chdir(served.root)
    use_server(monkeypatch, served.environment["PREFECT_API_URL"])
    return served


@pytest.mark.usefixtures("inside")
def test_an_invalid_schedule_is_refused_with_a_sentence() -> None:
    from flows.night import schedule

    refused = {
        ("0 0 2 * * *", "UTC"): ": 6 fields in place of five",
        ("0 0 2 * * * 2027", "UTC"): ": 7 fields in place of five",
        ("0 2 * *", "UTC"): ": 4 fields in place of five",
        ("", "UTC"): ": 0 fields in place of five",
        ("0 25 * * *", "UTC"): "is no cron line",
        ("0 2 30 2 *", "UTC"): "names a date that never comes",
        ("0 2 31 4,6,9,11 *", "UTC"): "names a date that never comes",
        ("0 2 * * *", ""): '--timezone "" is no time zone',
        ("0 2 * * *", " "): '--timezone " " is no time zone',
        ("0 2 * * *", "Europe/Pariss"): '--timezone "Europe/Pariss" is no time zone',
    }
    taken = [("0 2 * * *", "Europe/Paris"), ("0 2 29 2 *", "UTC"), ("*/30 2-5 * * mon", "UTC")]
    for (cron, zone), words in refused.items():
        with pytest.raises(AtelierError) as caught:
            schedule.checked(cron, zone)
        assert words in str(caught.value)
    for cron, zone in taken:
        taken_over = schedule.checked(cron, zone)
        assert (taken_over.cron, taken_over.timezone) == (cron, zone)


def test_each_studio_has_its_own_deployment_and_only_its_own_nights_are_marked_crashed(
    inside: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.night import schedule
    from flows.nightly import nightly

    def named(root: Path) -> str:
        with monkeypatch.context() as patch:
            patch.chdir(root)
            return schedule.deployment_name()

    here, clone, copy = inside.root, inside.root.parent / "b/studio", inside.root.parent / "c/studio"
    shutil.copytree(here, clone)
    ours, theirs, again = named(here), named(clone), named(here)
    shutil.copytree(here, copy)  # with what was drawn
    again_later, copied = named(here), named(copy)
    assert ours == again == again_later
    assert len({ours, theirs, copied}) == 3
    assert all(name.startswith("studio-") for name in (ours, theirs, copied))

    api = Api(inside.environment["PREFECT_API_URL"])
    flows = {name: api.ask("flows/", {"name": name})["id"] for name in ("nightly", "weekly")}
    runs = {}
    for flow, name in (("nightly", ours), ("nightly", theirs), ("weekly", ours)):
        deployment = api.ask("deployments/", {"name": name, "flow_id": flows[flow]})["id"]
        run = api.ask(f"deployments/{deployment}/create_flow_run", {})["id"]
        api.ask(f"flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
        runs[flow, name] = run
    schedule.mark_crashed(nightly, ours)
    states = {key: api.ask(f"flow_runs/{run}")["state"]["type"] for key, run in runs.items()}
    assert states == {
        ("nightly", ours): "CRASHED",
        ("nightly", theirs): "RUNNING",
        ("weekly", ours): "RUNNING",
    }
