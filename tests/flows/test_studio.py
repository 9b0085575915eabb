"""`atelier run` as a process: its output, its exit code, what it leaves behind, how it is stopped."""

import base64
import io
import os
import re
import shlex
import shutil
import signal
import sys

import psutil
import pytest
from PIL import Image

from tests.flows.prefect_api import Api
from tests.flows.toys import ROOT, Tree, left_of


def test_all_stages_run_then_all_are_cached_and_prefect_records_both_runs(served: Tree):
    served.slow(2.5)
    first = served.run("flows.studio")
    assert first.status == 0, first.output
    assert [_state(first.output, stage) for stage in ("scrape", "train", "generate")] == ["Completed"] * 3
    assert re.search(r"train: painted \(\d+\.\d s\)", first.output)

    second = served.run("flows.studio")
    assert second.status == 0, second.output
    assert [_state(second.output, stage) for stage in ("scrape", "train", "generate")] == ["Cached"] * 3
    assert "3 cached" in second.output

    runs = {run.facts["name"]: run for run in Api(served.environment["PREFECT_API_URL"]).runs()}
    ran, found = (runs[_name(run.output)] for run in (first, second))
    assert "train: painted" in ran.log
    assert float(ran.artifacts["train-progress"]) == 100
    kind, _, content = ran.artifacts["train-picture"].partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
        assert shown.size == (768, 512)
    assert {state for state, _ in ran.tasks.values()} == {"Completed"}
    assert {state for state, _ in found.tasks.values()} == {"Cached"}
    assert ran.tasks.keys() == found.tasks.keys() == {"scrape", "train", "generate"}


def test_with_nothing_to_do_and_no_server_the_run_ends_without_prefect(finished: Tree):
    run = finished.run("flows.studio")
    assert run.status == 0, run.output
    assert [_state(run.output, stage) for stage in ("scrape", "train", "generate")] == ["Cached"] * 3
    assert run.output.endswith("3 cached\n")
    assert not (finished.root / ".prefect").exists()  # which importing Prefect creates


def test_with_open_the_page_is_shown_in_the_browser_that_the_environment_names(finished: Tree):
    page, shown, browser = (finished.root / name for name in ("data/page/index.html", "shown", "browser"))
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>")
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {shlex.quote(str(shown))}\n')
    browser.chmod(0o755)
    finished.environment = {**finished.environment, "BROWSER": str(browser)}
    run = finished.run("flows.cli", "run", "--open")
    assert run.status == 0, run.output
    assert shown.read_text() == page.as_uri()
    assert run.output.endswith(f"look at {page.as_uri()}\n")


def test_a_failing_stage_ends_the_flow_with_its_own_sentence(served: Tree):
    served.trouble("train mistake")
    run = served.run("flows.studio")
    assert run.status == 1
    assert run.output.rstrip().endswith("train: the sky is missing: paint it\nthen run again")
    assert "Traceback" not in run.output
    assert [_state(run.output, stage) for stage in ("scrape", "train", "generate")] == [
        "Completed",
        "Failed",
        "Not run",
    ]


def test_an_invalid_param_an_unknown_stage_and_a_missing_studio_are_errors_before_any_work(studio: Tree):
    unknown = studio.run("flows.studio", "tran")
    assert (unknown.status, unknown.output) == (1, "dvc.yaml has no stage tran; did you mean train?\n")
    studio.set("arch: sketch", "arch: sixty")
    bad = studio.run("flows.studio")
    assert bad.status == 1
    assert "train.arch holds 'sixty'; it may hold dcgan" in bad.output
    studio.root = studio.root.parent
    outside = studio.run("flows.studio")
    assert outside.status == 1
    assert "is not inside a studio" in outside.output


def test_a_flow_started_by_its_files_path_does_not_shadow_installed_packages(served: Tree):
    script = f"import runpy; runpy.run_path({str(ROOT / 'flows/studio.py')!r}, run_name='__main__')"
    by_path = f"import sys; sys.path.insert(0, {str(ROOT / 'flows')!r}); sys.argv[1:] = ['tran']; {script}"
    run = served.run("-c", by_path)
    assert (run.status, run.output) == (1, "dvc.yaml has no stage tran; did you mean train?\n")


NO_STAGES = """
from flows import studio
from atelier.errors import AtelierError
print(studio.main([]))
from flows.orchestration.stage_tasks import PipelineRun
try:
    print(PipelineRun([]).run("train"))
except AtelierError as error:
    print(error)
"""


def test_a_pipeline_without_stages_is_an_error(served: Tree):
    (served.root / "dvc.yaml").write_text("stages: {}\n")
    run = served.run("-c", NO_STAGES)
    assert "dvc.yaml has no stages: take it from git, `git checkout dvc.yaml`\n" in run.output
    assert run.output.splitlines()[-2:] == ["1", "dvc.yaml has no stage train"]


def test_an_edit_while_the_flow_runs_is_used_by_later_stages_and_reported_for_earlier_ones(served: Tree, start):
    served.slow(3)
    run = start("flows.studio").until("train: 1/30")
    served.set('snapshot: "2026-11-22"', 'snapshot: "2026-11-23"')
    served.set("seed: 1                    # another seed gives other artworks", "seed: 2")
    assert run.wait() == 0, run.output
    assert "something was edited while the flow ran, stale again: scrape; run once more" in run.output
    assert "generate 2" in (served.root / "data/generate").read_text()


def test_a_second_flow_is_refused_and_ctrl_c_stops_the_first_with_all_it_started(served: Tree, start):
    served.slow(30)
    first = start("flows.studio").until("train: 1/300")
    second = served.run("flows.studio")
    assert second.status == 1
    assert f"another flow (PID {first.pid}) is at work" in second.output
    assert "Traceback" not in second.output

    family = first.family()
    os.kill(first.pid, signal.SIGINT)
    assert first.wait() == 130
    assert not left_of(family)
    assert first.output.rstrip().endswith("stopped; the next run goes on from here")


def test_sigterm_stops_the_flow_with_143(served: Tree, start):
    served.slow(30)
    run = start("flows.studio").until("train: 1/300")
    family = run.family()
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait() == 143, run.output
    assert not left_of(family)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_flow_leaves_nothing_not_even_its_own_server_and_the_next_run_works(
    studio: Tree, start, api_url, prefect_home, preloaded
):
    """Waits for a Prefect server; the proxies that are set cannot reach it."""
    shutil.copytree(prefect_home, studio.root / ".prefect")
    proxies = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5h://127.0.0.1:9",
        "NO_PROXY": "example.org",
    }
    studio.environment = {**studio.environment, **proxies}
    studio.slow(30)
    run = start("flows.studio").until("train: 1/300")
    family = run.family()
    own = next(process for process in family if "uvicorn" in process.cmdline())
    assert str(studio.root / ".prefect/prefect.db") in [file.path for file in own.open_files()]
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not left_of(family)

    studio.environment = {**studio.environment, "PREFECT_API_URL": api_url}
    studio.slow(0.1)
    studio.preloaded = preloaded
    again = studio.run("flows.studio")
    assert again.status == 0, again.output


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_dvc_fails_the_flow_with_a_sentence(served: Tree, start):
    served.slow(30)
    run = start("flows.studio", "train").until("train: 1/300")
    family = run.family()
    _one(family, "dvc").kill()
    assert run.wait() == 1
    assert run.output.rstrip().endswith("train: dvc was killed by signal 9")
    assert "generate" not in run.output  # only the target and what it needs
    assert not left_of(family)


def _one(family: list[psutil.Process], word: str) -> psutil.Process:
    return next(process for process in family if word in process.cmdline() and process.name().startswith("python"))


def _name(output: str) -> str:
    """The flow run's name, which distinguishes it from those of other tests."""
    match = re.search(r"Beginning flow run '([\w-]+)'", output)
    assert match, output
    return match[1]


def _state(output: str, stage: str) -> str:
    """The stage's state in the final table."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return next(row[1] for row in rows if row[0] == stage)
