"""Nights on a real Prefect server: a schedule, artifacts, notifications, cancelling, and deployments for workers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from atelier.files import digest_tree
from tests.flows.night_toys import NightTree
from tests.flows.prefect_api import Api
from tests.flows.preloaded import Preloaded
from tests.flows.toys import ROOT, Started, left_of

BLOCK = (
    "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook;"
    "words = dict(subject='{{{{subject}}}}', body='{{{{body}}}}');"
    "Webhook(name='studio', url='{url}', json_data=words).save('studio')"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], prefect_home: Path) -> Iterator[Api]:
    """A server started with `prefect server start`, with its scheduler."""
    home = tmp_path_factory.mktemp("server")
    shutil.copytree(prefect_home, home, dirs_exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "0", "PREFECT_UI_ENABLED": "0"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=home, env={**environment, **settings}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        _answers(f"{url}/health")
        yield Api(url)
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        for process in [*family, server]:
            process.kill()
        server.wait()


@pytest.fixture
def messages() -> Iterator[list[dict[str, str]]]:
    """The messages sent to a webhook; the first entry has its URL."""
    received: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, **json.loads(body)})
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        received.append({"url": f"http://127.0.0.1:{hook.server_address[1]}/hook?secret=anemone"})
        yield received
        hook.shutdown()


@pytest.fixture
def serve(night_tree: NightTree, api: Api, preloaded: Preloaded) -> Iterator[Callable[[str], Started]]:
    """`atelier nightly serve`, ended with the test whatever happens."""
    night_tree.preloaded = preloaded
    night_tree.environment = {
        **night_tree.environment,
        "PREFECT_API_URL": api.url,
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }
    started: list[Started] = []

    def serve(cron: str) -> Started:
        started.append(night_tree.start("flows.cli", "nightly", "serve", "--cron", cron))
        return started[-1].until(" is at ")

    yield serve
    for each in started:
        each.end()


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a machine that is busy otherwise
def test_nights_on_a_schedule_and_their_artifacts(
    night_tree: NightTree, api: Api, serve: Callable[[str], Started], messages: list[dict[str, str]]
) -> None:
    """Waits for a server's start, for a time of the schedule, and for five nights."""
    hook = messages.pop()["url"]
    night_tree.edit(nightly__notify=hook)
    night_tree.commit()
    name = _deployment(serve("0 2 1 1 *"), api)
    assert [s["schedule"]["cron"] for s in api.deployment(name)["schedules"]] == ["0 2 1 1 *"]
    api.every(name, seconds=20)  # too short for a person's cron line, long enough for a test
    _until(lambda: api.runs() and api.runs()[0].state[0] == "Running")
    first = api.runs()[0]
    api.pause(name)

    assert first.wait() == ("Promoted", "atelier@v1.0.0: the first champion")
    assert first.facts["auto_scheduled"]
    began = datetime.fromisoformat(first.facts["expected_start_time"])
    assert first.facts["name"] == f"night of {began.astimezone().date()}"
    stages = ["scrape", "augment", "train", "evaluate"]
    _until(lambda: first.tasks.keys() >= {*stages, "promote"})
    tasks = first.tasks
    assert [tasks[stage][0] for stage in [*stages, "promote"]] == ["Completed"] * 5
    assert tasks["train"][1].startswith("dvc: executed ")
    assert "train: trained" in first.log
    assert "secret=anemone" not in first.log
    shown = first.artifacts
    assert float(shown["train-progress"]) == 100
    assert [row["stage"] for row in json.loads(shown["stages"])] == stages
    assert "24 works in the catalog" in shown["night"]
    assert "`git merge atelier@v1.0.0 && dvc checkout`" in shown["night"]

    night_tree.add_painting()
    second = api.start(name, night="2026-12-01")
    outcome, message = second.wait()
    assert outcome == "Promoted", message
    assert message.startswith("atelier@v1.1.0: kid ")
    assert "better" in message
    _until(lambda: second.tasks.keys() >= {*stages, "compare", "promote"})
    assert {name: state for name, (state, _) in second.tasks.items()} == dict.fromkeys(
        [*stages, "compare", "promote"], "Completed"
    )
    shown = second.artifacts
    assert "| kid | " in shown["night"]
    assert shown["champion-and-challenger"].startswith("data:image/webp;base64,")

    champion = night_tree.champion()
    third = api.start(name, night="2026-12-02")
    assert third.wait() == (
        "Nothing new",
        "v1.1.0 stays: the same paintings, settings and code make its bytes",
    )
    _until(lambda: third.tasks.keys() >= {"scrape", "augment", "train"})
    assert {name: state for name, (state, _) in third.tasks.items()} == {
        "scrape": "Completed", "augment": "Cached", "train": "Cached",
    }  # fmt: skip
    assert night_tree.champion() == champion
    assert night_tree.git("tag", "--list").split() == ["atelier@v1.0.0", "atelier@v1.1.0"]

    missed = api.start(name, scheduled=(began - timedelta(days=1)).isoformat())
    outcome, message = missed.wait()
    assert (outcome, message.startswith("superseded by the night of 2026-12-02: ")) == ("Skipped", True)

    assert [(message["subject"], message["path"]) for message in messages] == [
        ("Atelier: promoted", "/hook?secret=anemone")
    ] * 2
    assert "atelier@v1.1.0: kid" in messages[1]["body"]

    _assert_a_better_champion_is_kept(night_tree)
    assert len(messages) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.timeout(900)
def test_a_refused_a_cancelled_and_a_killed_night_are_reported_and_leave_no_training_running(
    night_tree: NightTree, api: Api, serve: Callable[[str], Started], messages: list[dict[str, str]]
) -> None:
    """Waits for a night that is refused, and for two to be in their training."""
    night_tree.edit(nightly__notify="custom-webhook/studio", train__kimg=60)
    night_tree.commit()
    served = serve("0 2 1 1 *")
    name = _deployment(served, api)
    saved = night_tree.run("-c", BLOCK.format(url=messages.pop()["url"]))
    assert saved.status == 0, saved.output

    night_tree.git("switch", "-qc", "nightly")
    run = api.start(name)
    state, said = run.wait()
    assert state == "Failed"
    assert said.startswith("the branch nightly is checked out in ")
    assert "Traceback" not in run.log
    night_tree.git("switch", "-q", "main")
    night_tree.git("branch", "-qD", "nightly")

    run = api.start(name)
    run.until("train: 1/600 strokes")
    training = served.child("train")
    beside = night_tree.run("flows.cli", "nightly", "run")
    assert beside.status == 1
    assert "another night (PID " in beside.output
    run.cancel()
    assert not left_of([training])
    assert run.wait()[0] == "Cancelled"
    _until(lambda: len(messages) == 2)
    assert [message["subject"] for message in messages] == ["Atelier: failed", "Atelier: cancelling"]
    assert said in messages[0]["body"]

    run = api.start(name)
    run.until("train: 1/600 strokes")
    family = served.family()
    os.kill(served.pid, signal.SIGKILL)
    assert not left_of(family)
    assert run.wait()[0] == "Crashed"
    assert night_tree.champion() is None
    assert not night_tree.git("status", "--porcelain")


def test_the_deployments_for_workers_are_accepted_and_a_worker_runs_until_it_needs_the_remote(
    night_tree: NightTree, api: Api
) -> None:
    shutil.copytree(ROOT / "flows", night_tree.root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", night_tree.root)
    script = [sys.executable, ROOT / "deploy/kubernetes_pool.py"]
    kubernetes = json.loads(subprocess.check_output(script, env=night_tree.environment, cwd=night_tree.root))
    job = json.dumps(kubernetes["job_configuration"]["job_manifest"])
    placeholders = ("{{ claim }}", "{{ user }}", "{{ gpus }}", "{{ image }}", "{{ command }}")
    assert all(placeholder in job for placeholder in placeholders)
    assert {"claim", "user", "gpus", "image"} <= kubernetes["variables"]["properties"].keys()
    for kind, template in (("process", None), ("docker", None), ("kubernetes", kubernetes)):
        api.ask("work_pools/", {"name": f"studio-{kind}", "type": kind, "base_job_template": template or {}})
    night_tree.environment = {**night_tree.environment, "PREFECT_API_URL": api.url}
    deployed = night_tree.run("prefect", "--no-prompt", "deploy", "--all")
    assert deployed.status == 0, deployed.output
    for kind in ("process", "docker", "kubernetes"):
        found = api.deployment(f"nightly-{kind}")
        assert found["work_pool_name"] == f"studio-{kind}"
        assert [each["schedule"]["timezone"] for each in found["schedules"]] == ["Europe/Paris"]
        assert [each["active"] for each in found["schedules"]] == [kind == "process"]  # one night at two o'clock
        assert found["parameter_openapi_schema"]["properties"]["night"]["default"] is None

    store = "[core]\n    remote = store\n['remote \"store\"']\n    url = /no/such/place\n"
    (night_tree.root / ".dvc/config.local").write_text(store)
    run = api.start("nightly-process")
    worked = night_tree.run("prefect", "worker", "start", "--pool", "studio-process", "--run-once")
    assert worked.status == 0, worked.output
    assert run.wait() == ("Failed", "store: there is no /no/such/place")
    assert "Traceback" not in run.log


def _assert_a_better_champion_is_kept(tree: NightTree) -> None:
    """Run nights by hand whose challengers cannot beat the champion; its files do not change."""
    champion = tree.champion()
    assert champion
    clone = tree.root.with_name("studio.nightly")
    before, report = _kept_files(tree, champion), clone / ".atelier/nightly/report.md"
    report.unlink()
    (report / "in the way").mkdir(parents=True)
    for settings, night, verdict in (
        ({"train__seed": 6}, "2026-12-03", "worse"),
        ({"train__seed": 0, "train__generation": 1}, "2026-12-04", "even"),  # other bytes, the same pictures
    ):
        tree.edit(**settings)
        tree.commit()
        run = tree.run("flows.cli", "nightly", "run", "--night", night)
        assert run.status == 0, run.output
        said = run.output.rstrip().splitlines()[-1]
        assert said.startswith("Kept: v1.1.0 stays: kid "), said
        assert said.count(f"({verdict})") == 2
        # the outcome is the same without a report
        assert ("; its report is incomplete: Is a directory" in said) == (night == "2026-12-03")
        shutil.rmtree(report, ignore_errors=True)
        assert _kept_files(tree, champion) == before
    status = tree.run("flows.cli", "nightly", "status").output
    assert "champion  atelier@v1.1.0, night of 2026-12-01, " in status
    assert "last      Kept, night of 2026-12-04" in status
    assert "| distance | champion v1.1.0 | challenger |" in report.read_text()
    assert "| `scrape.snapshot` | `2026-11-22` | `2026-12-04` |" in report.read_text()


def _kept_files(tree: NightTree, champion: dict[str, str]) -> tuple[str, str]:
    """The commit of the branch nightly, and a hash of the champion's files in the night's clone."""
    kept = tree.root.with_name("studio.nightly") / champion["path"]
    return tree.git("rev-parse", "nightly"), digest_tree(kept)


def _deployment(served: Started, api: Api) -> str:
    """The name of this studio's deployment, once it is on the server."""
    match = re.search(r"nightly/(studio-[0-9a-f]{8}) is at ", served.output)
    assert match, served.output
    name = match[1]
    _until(lambda: name in [known["name"] for known in api.ask("deployments/filter", {})])
    return name


def _answers(url: str) -> None:
    def is_up() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            return False

    _until(is_up)


def _until(true: Callable[[], object], timeout_s: float = 120) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.3)
