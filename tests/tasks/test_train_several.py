"""The train stage in several processes, started by DVC or by torchrun, and killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.settings.load import load_params
from tasks import train
from tasks.stage import Stage
from tests import judged_small
from tests.datasets import pack_blots
from tests.stages import ROOT, started

SETTINGS = {
    "arch": "dcgan", "kimg": 0.4, "batch": 8, "snapshot_kimg": 0.08, "lr_decay": 0.5, "device": "cpu", "gpus": 2,
    "dcgan": {"nz": 8, "ngf": 8, "ndf": 4},
}  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", judged_small.train)
    pack_blots(24)
    YAML().dump({"train": SETTINGS}, Path("params.yaml"))


def stage() -> Stage:
    return Stage("train", load_params(Path("params.yaml")))


def outs() -> dict[str, str]:
    found = [*Path("data/model").iterdir(), *Path("data/training").rglob("*.*")]
    return {str(path): digest(path) for path in sorted(found)}


def last_state() -> int:
    found = Path(".atelier/train").glob("*/state-*.safetensors")
    return max((int(path.stem.removeprefix("state-")) for path in found), default=0)


def trainers(pid: int) -> list[psutil.Process]:
    """The processes of the training that `pid` has started; multiprocessing's resource tracker ends by itself."""
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def wait_for_state(step: int) -> None:
    """Until there is a state of that many steps."""
    limit_s = time.monotonic() + 240
    while last_state() < step:
        assert time.monotonic() < limit_s
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine takes its time to start eight interpreters
def test_when_any_process_is_killed_all_end_and_the_next_run_ends_with_the_same_bytes(capfd) -> None:
    """Waits for four starts of two processes each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.judged_small"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kid_coarse") == len(list(Path("data/training/grids").iterdir())) + 1  # one voice
    undisturbed = outs()
    for path in Path(".atelier/train").glob("*/state-*"):
        path.unlink()

    with started("train") as process:  # the one that dvc starts
        wait_for_state(10)
        processes = trainers(process.pid)
        assert len(processes) == 2
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    reached = last_state()
    assert reached < 40

    def kill_the_second() -> None:
        wait_for_state(reached + 1)
        trainers(os.getpid())[1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(AtelierError, match=r"ended from outside \(SIGKILL\); run again"):
        train.run(stage())
    killer.join()
    assert not trainers(os.getpid())

    capfd.readouterr()
    train.run(stage())
    out, err = capfd.readouterr()
    assert "goes on from" in out
    assert "Traceback" not in err
    assert outs() == undisturbed
