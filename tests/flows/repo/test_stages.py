"""flows.repo.stages against real DVC repositories; Prefect takes no part."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from atelier.errors import AtelierError, TransientError
from flows.commands import doctor
from flows.repo import stages, storage
from tests.flows.toys import ROOT, Tree, left_of


class Notes:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ticks = 0

    def line(self, text: str) -> None:
        self.lines.append(text)

    def tick(self) -> None:
        self.ticks += 1


@pytest.fixture
def inside(studio: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.chdir(studio.root)
    for name in ("PATH", "PYTHONPATH", "SHELL", "HOME"):
        monkeypatch.setenv(name, studio.environment[name])
    return studio


def test_the_plan_has_dvc_yamls_order_and_knows_what_is_stale(inside):
    everything = stages.plan([], print)
    assert [(stage.name, stage.upstream, stage.stale) for stage in everything] == [
        ("scrape", (), True), ("train", ("scrape",), True), ("generate", ("train",), True),
    ]  # fmt: skip
    assert [stage.name for stage in stages.plan(["train"], print)] == ["scrape", "train"]
    with pytest.raises(AtelierError, match="no stage tran; did you mean train"):
        stages.plan(["tran"], print)


def test_what_dvc_tracks_without_a_stage_is_no_stage_of_the_plan(inside):
    (inside.root / "mine").write_text("paintings")
    inside.dvc("add", "-q", "mine")
    (inside.root / "mine").unlink()
    assert [stage.name for stage in stages.plan([], print)] == ["scrape", "train", "generate"]


def test_a_remote_of_a_kind_that_dvc_lacks_the_package_for_says_which(inside):
    inside.dvc("remote", "add", "-q", "-d", "store", "hdfs://bucket/studio")
    with pytest.raises(AtelierError, match=r"store, hdfs://bucket/studio: .*`uv pip install dvc-hdfs` brings it$"):
        storage.remote()


def test_a_stage_is_executed_then_unchanged_then_restored_when_a_param_comes_back(inside):
    verdicts = [stages.repro(stage.name, "first", Notes()) for stage in stages.plan([], print)]
    assert verdicts == ["executed"] * 3
    assert not any(stage.stale for stage in stages.plan([], print))
    assert stages.repro("generate", "second", Notes()) == "unchanged"
    key = stages.key("generate")

    inside.set("seed: 1                    # another seed gives other artworks", "seed: 2")
    assert [stage.name for stage in stages.plan([], print) if stage.stale] == ["generate"]
    assert stages.repro("generate", "third", Notes()) == "executed"
    assert stages.key("generate") != key

    inside.set("seed: 2", "seed: 1                    # another seed gives other artworks")
    assert stages.repro("generate", "fourth", Notes()) == "restored"
    assert stages.key("generate") == key
    assert len(key) == 12


def test_lines_arrive_while_the_stage_works(inside):
    inside.slow(2.5)
    notes = Notes()
    stages.repro("scrape", "run", Notes())
    stages.repro("train", "run", notes)
    assert "Running stage 'train':" in notes.lines
    said = re.search(r"train: painted \((\d+\.\d) s\)", "\n".join(notes.lines))
    assert said and float(said[1]) >= 2.5
    assert not any("git add" in line for line in notes.lines)
    assert notes.ticks > 2


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("mistake", "scrape: the sky is missing: paint it\nthen run again"),
        ("bug", "scrape: a mistake in its code: ZeroDivisionError: division by zero (traceback above)"),
        ("kill", "scrape: killed by signal 9, most likely because memory ran out"),
    ],
)
def test_a_failing_stage_says_why(inside, kind, sentence):
    inside.trouble(f"scrape {kind}")
    with pytest.raises(AtelierError) as caught:
        stages.repro("scrape", "run", Notes())
    assert str(caught.value) == sentence
    assert not isinstance(caught.value, TransientError)


def test_a_site_that_does_not_answer_is_trouble_that_may_pass(inside):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and nobody listens
        inside.trouble(f"scrape ask http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(TransientError) as caught:
            stages.repro("scrape", "run", Notes())
    assert str(caught.value).startswith("scrape: http://127.0.0.1:")
    assert str(caught.value).endswith("no connection (1 try)")


def test_a_bad_param_is_named_before_any_work(inside):
    inside.set("arch: sketch", "arch: sixty")
    with pytest.raises(AtelierError, match=r"params.yaml:\d+: train.arch holds 'sixty'"):
        stages.repro("scrape", "run", Notes())
    assert not (inside.root / "data/scrape").exists()


def test_a_stage_whose_own_params_are_edited_while_it_runs_is_not_recorded(inside):
    inside.slow(1)
    stages.repro("scrape", "run", Notes())

    class Editor(Notes):
        def line(self, text: str) -> None:
            if text.startswith("train: 1/10 "):
                inside.set("generation: 0", "generation: 1")

    with pytest.raises(AtelierError, match="the section train was edited while the stage ran"):
        stages.repro("train", "run", Editor())
    assert stages.key("train") == ""


def test_a_stage_held_by_another_dvc_is_waited_for(inside, start):
    inside.slow(4)
    other = start("dvc", "repro", "train").until("train: 1/40")
    notes = Notes()
    assert [stage.name for stage in stages.plan([], notes.line) if stage.stale] == ["generate"]
    assert stages.repro("train", "run", notes) == "unchanged"
    assert f"waiting for PID {other.pid}" in "\n".join(notes.lines)
    assert other.wait() == 0


def test_a_lock_that_names_a_stranger_is_not_waited_for(inside):
    stranger = psutil.Popen(["sleep", "60"])
    held = {"pid": stranger.pid, "cmd": "dvc repro"}
    target = str(inside.root / "data/scrape")
    (inside.root / ".dvc/tmp").mkdir(exist_ok=True)
    (inside.root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {target: held}, "read": {}}))
    with pytest.raises(AtelierError, match=r"another program now: remove \.dvc/tmp/rwlock"):
        stages.repro("scrape", "run", Notes())
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_a_killed_dvc_takes_its_stage_along_and_the_next_run_works(inside, start, shell):
    inside.environment = {**inside.environment, "SHELL": shell}
    inside.slow(30)
    repro = start("dvc", "repro").until("train: 1/300")
    family = repro.family()
    assert any("train" in process.cmdline() for process in family)
    os.kill(repro.pid, signal.SIGKILL)
    repro.wait()
    assert not left_of(family)
    inside.slow(0.1)
    assert stages.repro("train", "run", Notes()) == "executed"


def test_an_exception_in_the_watcher_stops_dvc_and_the_stage(inside):
    inside.slow(30)
    stages.repro("scrape", "run", Notes())
    family: list[psutil.Process] = []
    before = set(psutil.Process().children(recursive=True))  # other tests' servers

    class Impatient(Notes):
        def line(self, text: str) -> None:
            if text.startswith("train: 1/"):
                family.extend(set(psutil.Process().children(recursive=True)) - before)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.repro("train", "run", Impatient())
    assert len(family) >= 2
    assert not left_of(family)
    assert not any(json.loads((inside.root / ".dvc/tmp/rwlock").read_text()).values())  # dvc ended in order


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock", "mine.dvc"])
def test_a_conflict_that_git_left_is_named_with_its_line(inside, name):
    (inside.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    path = inside.root / name
    lines = path.read_text().splitlines() if path.exists() else ["outs:"]
    lines[1:1] = ["<<<<<<< HEAD", "=======", ">>>>>>> other"]
    path.write_text("\n".join(lines))
    with pytest.raises(AtelierError, match=rf"^{name}:2: git left a conflict here"):
        stages.plan([], print)
    found = doctor._stages()
    assert found.state == "wrong" and found.message.startswith(f"{name}:2: ")


def test_a_lock_that_is_none_says_how_to_have_it_back(inside):
    (inside.root / "dvc.lock").write_text("- a list\n")
    with pytest.raises(AtelierError, match=r"dvc.lock' validation failed: .*; `git checkout dvc.lock`"):
        stages.plan([], print)


def test_a_folder_without_git_says_to_clone_it(inside):
    shutil.rmtree(inside.root / ".git")
    with pytest.raises(AtelierError, match="is not a git repository, and DVC needs one: get Atelier with `git clone`"):
        stages.plan([], print)
    shutil.copy(ROOT / "Makefile", inside.root)
    made = subprocess.run(["make", "art"], cwd=inside.root, capture_output=True, text=True)
    assert made.returncode and "get Atelier with `git clone` instead of as a ZIP" in made.stdout
    assert not (inside.root / ".venv").exists()  # said before anything is downloaded
