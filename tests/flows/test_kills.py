"""kill -9 of any process at any moment: the next run produces what an undisturbed run produces."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.flows.toys import Started, Tree, left_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")

SERVER = """
import os, signal
from flows.orchestration import server
server.start()()
print(os.environ["PREFECT_API_URL"], flush=True)
signal.pause()
"""
FLOW, DVC = ("flows.studio",), ("dvc", "repro")
ROUNDS = [("flows.studio", FLOW), ("dvc", FLOW), ("dvc", DVC), ("train", DVC), ("server", FLOW)]
UNTIL_TRAINED = ("", "Running stage 'train'", "train: 1/")
MOMENTS = (*UNTIL_TRAINED, "Beginning flow run", "Running stage 'generate'")


class Killed(NamedTuple):
    """When a process was killed, and which others were running then."""

    when: str
    family: list[psutil.Process]


@pytest.fixture
def server(studio: Tree, tmp_path: Path, prefect_home: Path) -> Iterator[psutil.Process]:
    """A Prefect server for this test alone, which may be killed."""
    home = tmp_path / "prefect"
    shutil.copytree(prefect_home, home)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=home, env={**studio.environment, "PREFECT_HOME": str(home)},
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        address = process.stdout.readline().strip()
        # with the studio's settings, a call to a server that is gone takes 14 s
        gone = {"PREFECT_API_URL": address, "PREFECT_CLIENT_MAX_RETRIES": "0"}
        studio.environment = {**studio.environment, **gone}
        yield next(child for child in psutil.Process(process.pid).children() if "uvicorn" in child.cmdline())
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_run_after_a_killed_one_repairs_everything(
    studio: Tree, start: Callable[..., Started], server: psutil.Process
) -> None:
    """Waits for a Prefect server, and for five runs that are killed and five that are not.

    bench/kills.py kills hundreds, of the real pipeline.
    """
    studio.slow(0.6)
    studio.dvc("repro", "-q", "scrape")
    begun = (studio.root / "dvc.lock").read_bytes()
    studio.dvc("repro", "-q")
    undisturbed = outcome(studio)
    chance = random.Random(20261122)
    for number, (victim, command) in enumerate(ROUNDS):
        go_back(studio, begun)
        run = start(*command)
        when, family = kill(victim, run, server, chance)
        words = f"round {number}: {victim} was killed {when}"
        status = run.wait()
        assert status or victim == "server", f"{words}\n{run.output}"
        assert not left_of(family), words
        if number == 0:
            again = studio.run(*FLOW)
            assert again.status == 0, f"{words}\n{run.output}\n{again.output}"
            assert "is busy" not in again.output, words
        else:
            studio.dvc("repro")
        assert outcome(studio) == undisturbed, words
        assert not holders(studio), words
        assert not (studio.root / ".atelier/overlaps").exists(), words


def kill(victim: str, run: Started, server: psutil.Process, chance: random.Random) -> Killed:
    """Kill it at a random moment, or as soon after that as it runs."""
    moment = chance.choice(UNTIL_TRAINED if victim in ("dvc", "train") else MOMENTS)
    after_s = chance.uniform(0, 0.6)
    run.until(moment)
    time.sleep(after_s)
    while True:
        family = run.at_work()
        victims = [server] if victim == "server" else run.at_work(victim)
        for process in victims:
            process.kill()
        if victims:
            return Killed(f"{after_s:.1f} s after {moment!r}", family)
        assert run.status is None, run.output
        time.sleep(0.01)


def outcome(tree: Tree) -> dict[str, str]:
    """The SHA-256 of each output."""
    paths = [tree.root / "dvc.lock", *sorted((tree.root / "data").glob("[a-z]*"))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def holders(tree: Tree) -> list[int]:
    """The running processes that hold DVC's locks; DVC ignores locks of processes that have ended."""
    locks = json.loads((tree.root / ".dvc/tmp/rwlock").read_text())
    readers = [reader for holding in locks.get("read", {}).values() for reader in holding]
    pids = {holder["pid"] for holder in (*readers, *locks.get("write", {}).values())}
    return [pid for pid in pids if psutil.pid_exists(pid)]


def go_back(tree: Tree, lock: bytes) -> None:
    """Reset the studio to the state after its first stage."""
    shutil.rmtree(tree.root / ".dvc/cache")
    for name in ("train", "generate"):
        (tree.root / "data" / name).unlink(missing_ok=True)
    (tree.root / "dvc.lock").write_bytes(lock)
