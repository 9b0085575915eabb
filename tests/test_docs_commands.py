"""Every command in the pages' shell blocks is run, in the order of its page, in one small studio.

Not run are those in `SKIPPED`, with the reason, and those in `ELSEWHERE`, with the test that runs them.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.atelier.importers.test_layers import drawn, net_d, net_g
from tests.atelier.importers.test_models import pth_pair
from tests.clones import ROOT, SMALL, clone_here, edit
from tests.forks import Forks
from tests.test_docs import BLOCK, PAGES, ids
from tests.torch7 import dumped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="commands run in forks of one process"),
]

SKIPPED = {
    "make test": "is this suite",
    "make quick": "is this suite",
    "make lint": "continuous integration runs it; mypy takes a minute",
    "prefect server start": "stays until it is stopped; tests/flows/orchestration starts such servers",
    "prefect work-pool create studio-process --type process": "needs a Prefect server",
    "prefect work-pool set-concurrency-limit studio-process 1": "needs a Prefect server",
    "sudo systemctl enable --now prefect nightly": "needs systemd",
    "journalctl --unit nightly --follow": "needs systemd",
    "ssh -L 4200:127.0.0.1:4200 studio@the-machine": "needs another machine",
    "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 8 --master-addr FIRST --master-port 29500 -m tasks.train":
        "needs two machines with eight GPUs each",
}  # fmt: skip
IMPORTED = "tests/atelier/importers/test_r3gan.py::test_the_networks_of_a_snapshot_give_the_same_outputs"
NIGHTS = "tests/flows/night/test_served_nights.py::"
EXPLORE = "tests/flows/test_explore.py::test_a_killed_grid_continues_and_its_best_trial_is_adopted"
TRIALS = "tests/flows/trials/test_run.py::test_a_search_stops_a_training_that_is_worse_than_the_others"
SERVE = 'atelier nightly serve --cron "0 2 * * *" --timezone Europe/Paris'
ELSEWHERE = {
    "atelier import network-snapshot-final.pkl --name ffhq-256 --accept-licence": IMPORTED,
    "atelier reproduce 7-00003.png":
        "tests/flows/test_reproduce.py::test_pictures_that_a_browser_saved_are_confirmed",
    SERVE: f"{NIGHTS}test_nights_on_a_schedule_and_their_artifacts",
    "atelier reproduce 1-00007.png --explain":
        "tests/flows/test_reproduce.py::test_after_dvc_gc_the_model_is_fetched_from_the_remote",
    "atelier vary 1-00007.png --count 8 --strength 0.3":
        "tests/flows/test_reproduce.py::test_variations_of_a_picture_are_painted_and_can_be_reproduced",
    "atelier nightly run": f"{NIGHTS}test_nights_on_a_schedule_and_their_artifacts",
    "prefect deploy --name nightly-process":
        f"{NIGHTS}test_the_deployments_for_workers_are_accepted_and_a_worker_runs_until_it_needs_the_remote",
    "prefect worker start --pool studio-process":
        f"{NIGHTS}test_the_deployments_for_workers_are_accepted_and_a_worker_runs_until_it_needs_the_remote",
    "git merge nightly && dvc checkout":
        "tests/flows/night/test_promotion.py::test_merging_a_night_restores_all_outputs_and_runs_no_stage",
    "atelier explore grid train.lr=1e-4,2e-4 augment.crop=center,random --minutes 5": EXPLORE,
    "atelier explore grid train.lr=1e-4,2e-4 generate.truncation=0.6,1.0,1.4 --minutes 1.2": EXPLORE,
    "atelier explore search train.lr=log:1e-5,1e-3 train.batch=32,64 --trials 20": TRIALS,
    "atelier explore search train.lr=log:1e-5,1e-3 train.batch=32,64 train.sketch.ngf=int:16,48 train.beta1=0..0.9 "
    "--trials 20": TRIALS,
    "atelier explore apply lr-truncation-c4d0-5": EXPLORE,
    "atelier explore apply lr-truncation-c4d0": EXPLORE,
    "atelier explore show lr-truncation-c4d0":
        "tests/flows/commands/test_training.py::"
        "test_the_sheet_and_the_table_are_drawn_again_with_the_best_trial_first",
}  # fmt: skip
SHORTER = {  # in these tests
    r"--seconds \d+": "--seconds 0.5", r"--count (64|16)": "--count 2",
    r"project photo\.jpg": "project photo.jpg --steps 2",
}  # fmt: skip
STAGES = ("scrape", "download", "augment", "train", "evaluate", "generate", "train_upscaler", "upscale", "page")


def commands(page: Path) -> list[str]:
    """The page's commands in their order, without comments; a job script for a batch system is none."""
    blocks = [block for language, block in BLOCK.findall(page.read_text()) if language == "sh"]
    text = "".join(block for block in blocks if not block.startswith("#!/")).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s+)#.*", "", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line]


WITH_COMMANDS = [page for page in PAGES if commands(page)]


class Studio:
    """A finished studio with small params, in which commands run."""

    def __init__(self, root: Path, environment: dict[str, str], forks: Forks) -> None:
        self.root, self._environment, self._forks = root, environment, forks
        self._done: set[str] = set()

    def run(self, command: str) -> None:
        """Run a command of a page once, with the studio's own names; it must end with exit code 0."""
        if command in self._done:
            return
        self._done.add(command)
        work = pq.read_table(self.root / "data/catalog.parquet")["id"][0]
        words = {r"\bID\b": str(work), "/mnt/backup/atelier": str(self.root.with_name("remote"))} | SHORTER
        for found, put in words.items():
            command = re.sub(found, put, command)
        if command.startswith(("atelier ", "dvc ")):
            code, said = self._forks.run(shlex.split(command))
        else:
            done = subprocess.run(
                ["bash", "-ec", command], cwd=self.root, env=self._environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            code, said = done.returncode, done.stdout
        assert code == 0, f"{command}: exit code {code}\n{said}"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A clone of this repository in which every stage has run, with the files that the pages name."""
    place = tmp_path_factory.mktemp("docs")
    root, home = place / "studio", place / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DVC", "ATELIER"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "HOME": str(home), "PATH": path, "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    home.mkdir()
    clone_here(root)
    edit(root, {**SMALL, "augment": {"resolution": 32, "held_out": 0.5}, "generate": {"count": 8}})
    with Forks(root, environment) as forks:
        for stage in STAGES:
            code, said = forks.run(["python", "-m", f"tasks.{stage}"])
            assert code == 0, said
        code, said = forks.run(["dvc", "commit", "-q", "-f"])
        assert code == 0, said
        _add_files(root)
        yield Studio(root, environment, forks)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=ids)
def test_the_commands_of_a_page_run(page: Path, studio: Studio) -> None:
    for command in commands(page):
        if command not in SKIPPED and command not in ELSEWHERE:
            studio.run(command)


def test_what_is_not_run_stands_on_a_page_and_the_tests_that_run_it_exist() -> None:
    written = {command for page in WITH_COMMANDS for command in commands(page)}
    assert not (SKIPPED.keys() | ELSEWHERE.keys()) - written
    for test in set(ELSEWHERE.values()):
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], test


def _add_files(root: Path) -> None:
    """Add what a user of the pages has: pictures, other models, networks of others, and the tools' folder .venv."""
    shutil.copy(root / "data/artworks/1-00007.png", root)
    shutil.copy(root / "data/contact_sheet.png", root / "photo.jpg")  # its kind is told by its content
    shutil.copy(root / "data/model/generator.safetensors", root / "OLD.safetensors")
    shutil.copytree(root / "data/model", root / "models/sea-0123456789abcdef")
    pth_pair(root)
    for name in ("net_G.t7", "landscapes_net_G.t7"):
        (root / name).write_bytes(dumped(net_g(drawn())))
    (root / "net_D.t7").write_bytes(dumped(net_d(np.random.default_rng(0))))
    (root / ".venv/bin").mkdir(parents=True)
    activate = Path(sys.executable).with_name("activate")
    (root / ".venv/bin/activate").write_text(activate.read_text() if activate.exists() else "")
    (root / ".venv/.atelier-setup").touch()  # as `make setup` leaves it
