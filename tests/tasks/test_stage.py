"""What every stage does around its work, in a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.users import unprivileged

ROOT = Path(__file__).parents[2]
STAGE = """
from tasks import stage
def work(stage):
    print("at work")
    stage.state_of("key")
    return "done"
stage.main("train", work)
"""


@pytest.mark.parametrize("name", ["train", "train/key", "executed", "progress"])
def test_a_folder_of_another_users_is_named_before_the_work_and_not_after_it(tmp_path: Path, name: str) -> None:
    for file in ("params.yaml", "dvc.yaml"):
        (tmp_path / file).write_text((ROOT / file).read_text())
    folder = tmp_path / ".atelier" / name
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    command = [*unprivileged(), sys.executable, "-c", STAGE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"train: .atelier/{name} cannot be written: Permission denied")
    assert ("at work" in done.stdout) == name.startswith("train")
    folder.chmod(0o755)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / ".atelier/executed/train.json").read_text())
    assert 0 < record["seconds"] < record["ended"] <= time.time()  # the page shows them
