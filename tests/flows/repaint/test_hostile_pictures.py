"""All hostile pictures in one `atelier reproduce`: each gets its verdict and message, and nothing is executed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.text import escaped
from tests.flows.hostile import Hostile, Workshop
from tests.flows.kept_studio import KeptStudio

# every Python process of the test logs the files that it opens and the processes that it starts
WATCHER = """\
import os, sys
_log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def _note(event, args):
    if event in ("open", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.listdir", "os.scandir"):
        os.write(_log, (event + " " + repr(args[:2]) + "\\n").encode("utf-8", "replace"))
sys.addaudithook(_note)
"""


class Trial:
    """The result of reproducing all files at once."""

    def __init__(self, files: list[Hostile], canary: Path, opened: str, status: int, out: str, err: str) -> None:
        self.files, self.canary, self.opened = files, canary, opened
        self.status, self.out, self.err = status, out, err
        rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        self.rows = {row["file"]: row for row in rows}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Trial:
    place = tmp_path_factory.mktemp("hostile")
    canary, log = place / "canary" / "secret", place / "opened"
    canary.parent.mkdir()
    canary.write_text("no process may read this")
    (place / "files").mkdir()
    (place / "site").mkdir()
    (place / "site/sitecustomize.py").write_text(WATCHER.format(log=str(log)))
    studio = KeptStudio.new(place / "studio", environment)
    files = Workshop(studio, place / "files", canary).all()
    studio.commit("my studio")
    watched = {
        **environment, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{place / 'site'}:{environment['PYTHONPATH']}",
    }  # fmt: skip
    command = [sys.executable, "-m", "flows.cli", "reproduce", "--json", *(str(each.path) for each in files)]
    done = subprocess.run(
        command,
        cwd=studio.root,
        env=watched,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )
    opened = log.read_text(errors="replace")
    return Trial(files, canary, opened, done.returncode, done.stdout, done.stderr)


def test_each_file_gets_its_verdict_and_message(trial) -> None:
    wrong = []
    for hostile in trial.files:
        row = trial.rows.get(escaped(hostile.path))
        if row is None or row["verdict"] != hostile.verdict or hostile.words not in row["said"]:
            wrong.append(f"{hostile.path.name}: {hostile.verdict}, {hostile.words!r}, but {row}")
    assert not wrong, "\n".join(wrong) + trial.err[-2000:]
    assert len(trial.files) > 20 and trial.status == 1


def test_messages_are_short_and_contain_no_control_characters(trial) -> None:
    for row in trial.rows.values():
        assert row["said"].isprintable() and row["file"].isprintable(), row
        assert len(row["said"]) < 1000, row
        assert row["said"] or row["verdict"] == "identical", row


def test_no_traceback_is_printed(trial) -> None:
    assert "Traceback" not in trial.err + trial.out


def test_nothing_is_executed_and_no_named_path_is_opened(trial) -> None:
    assert "good.png" not in trial.opened  # it is not among the files
    assert str(trial.files[0].path) in trial.opened  # the log works
    assert str(trial.canary.parent) not in trial.opened
    assert not trial.canary.with_name("secret.executed").exists()
