"""Checking a schedule, and the deployment of a studio among those of others on one Prefect server."""

import json
import shutil

from tests.flows.prefect_api import Api
from tests.flows.toys import Tree

PLANS = """
import sys, json
from atelier.errors import AtelierError
from flows.night import schedule
for cron, zone in json.loads(sys.argv[1]):
    try:
        schedule.checked(cron, zone)
        print("taken")
    except AtelierError as error:
        print(error)
"""
NAMES = """
import os, sys
from flows.night import schedule
for root in sys.argv[1:]:
    os.chdir(root)
    print(schedule.deployment_name())
"""
MARK = """
import sys
from flows.night import schedule
from flows.nightly import nightly
schedule.mark_crashed(nightly, sys.argv[1])
"""


def test_an_invalid_schedule_is_refused_with_a_sentence(studio: Tree) -> None:
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
    said = studio.run("-c", PLANS, json.dumps([*refused, *taken])).output.splitlines()
    for line, words in zip(said, [*refused.values(), *["taken"] * len(taken)], strict=True):
        assert words in line


def test_each_studio_has_its_own_deployment_and_only_its_own_nights_are_marked_crashed(
    served: Tree,
) -> None:
    here, clone, copy = served.root, served.root.parent / "b/studio", served.root.parent / "c/studio"
    shutil.copytree(here, clone)
    ours, theirs, again = served.run("-c", NAMES, str(here), str(clone), str(here)).output.split()
    shutil.copytree(here, copy)  # with what was drawn
    again_later, copied = served.run("-c", NAMES, str(here), str(copy)).output.split()
    assert ours == again == again_later
    assert len({ours, theirs, copied}) == 3
    assert all(name.startswith("studio-") for name in (ours, theirs, copied))

    api = Api(served.environment["PREFECT_API_URL"])
    flows = {name: api.ask("flows/", {"name": name})["id"] for name in ("nightly", "weekly")}
    runs = {}
    for flow, name in (("nightly", ours), ("nightly", theirs), ("weekly", ours)):
        deployment = api.ask("deployments/", {"name": name, "flow_id": flows[flow]})["id"]
        run = api.ask(f"deployments/{deployment}/create_flow_run", {})["id"]
        api.ask(f"flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
        runs[flow, name] = run
    marked = served.run("-c", MARK, ours)
    assert marked.status == 0, marked.output
    states = {key: api.ask(f"flow_runs/{run}")["state"]["type"] for key, run in runs.items()}
    assert states == {
        ("nightly", ours): "CRASHED",
        ("nightly", theirs): "RUNNING",
        ("weekly", ours): "RUNNING",
    }
