"""Studios with toy stages in real DVC repositories, and one real Prefect server for all tests of a session."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.flows.dvc_command import dvc
from tests.flows.explore_toys import ExploreTree, make_explore_tree
from tests.flows.night_toys import NightTree, make_night_tree, paint_pictures
from tests.flows.person import Studio
from tests.flows.preloaded import Preloaded
from tests.flows.toys import ROOT, Started, Tree


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user without settings for git, DVC and Prefect."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DVC", "ATELIER"))}
    return {
        **kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SHELL": "/bin/sh",
    }  # fmt: skip


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """`shared(name, make)` is a folder that `make` fills once, in the first pytest-xdist worker that needs it."""
    parent = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        parent = parent.parent

    def shared(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = parent / name, parent / f"{name}.made"
        with FileLock(parent / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker in which `make` failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    root = tmp_path_factory.mktemp("studio")
    for name in ("params.yaml", "pyproject.toml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, env=environment, check=True)
    dvc(root, environment, "init", "-q")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    return root


@pytest.fixture
def studio(tmp_path: Path, _template: Path, environment: dict[str, str]) -> Tree:
    root = tmp_path / "studio"
    shutil.copytree(_template, root)
    tree = Tree(root, environment)
    tree.slow(0.2)
    return tree


@pytest.fixture(scope="session")
def _finished_template(shared: Shared, _template: Path, environment: dict[str, str]) -> Path:
    def make(root: Path) -> None:
        shutil.copytree(_template, root, dirs_exist_ok=True)
        tree = Tree(root, environment)
        tree.slow(0.2)
        tree.dvc("repro", "-q")

    return shared("finished", make)


@pytest.fixture
def finished(tmp_path: Path, _finished_template: Path, environment: dict[str, str]) -> Tree:
    """Another studio, equal to `studio`, whose stages are all up to date."""
    shutil.copytree(_finished_template, tmp_path / "finished")
    return Tree(tmp_path / "finished", environment)


@pytest.fixture
def start(studio: Tree) -> Iterator[Callable[..., Started]]:
    """`start("flows.studio")`, ended with the test in any case."""
    started: list[Started] = []

    def start(*command: str) -> Started:
        started.append(studio.start(*command))
        return started[-1]

    yield start
    for each in started:
        each.end()


# a server that ends with the process with the given PID
SERVER = """
import os, sys
import psutil
from flows.orchestration import server
server.start()()
print(os.environ["PREFECT_API_URL"], flush=True)
psutil.wait_procs([psutil.Process(int(sys.argv[1]))])
"""


@pytest.fixture(scope="session")
def api_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> str:
    """The API's address of a Prefect server for all flows of the session, also those of other pytest-xdist workers.

    With it a flow takes 4 s instead of 11. It ends with the session's first process.
    """
    folder, owner = tmp_path_factory.getbasetemp(), os.getpid()
    if hasattr(request.config, "workerinput"):
        folder, owner = folder.parent, os.getppid()
    home, address = folder / "prefect", folder / "prefect-address"
    with FileLock(folder / "prefect.lock"):
        if not address.exists():
            home.mkdir()
            process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(owner)], cwd=home,
                env={**environment, "PREFECT_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stdout
            url = process.stdout.readline().strip()
            (folder / "prefect-home").mkdir()
            shutil.copy(home / "memo_store.toml", folder / "prefect-home")
            with (
                contextlib.closing(sqlite3.connect(home / "prefect.db")) as used,
                contextlib.closing(sqlite3.connect(folder / "prefect-home/prefect.db")) as copy,
            ):
                used.backup(copy)
            address.write_text(url)
    return address.read_text()


@pytest.fixture(scope="session")
def prefect_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, api_url: str) -> Path:
    """A PREFECT_HOME to copy, for servers of their own: with its database a server starts in a third of the time."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if hasattr(request.config, "workerinput") else folder) / "prefect-home"


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Preloaded]:
    """A process that has imported Prefect and DVC; commands in its forks start two seconds sooner."""
    process = Preloaded(tmp_path_factory.mktemp("preloaded"), environment)
    yield process
    process.end()


@pytest.fixture
def served(studio: Tree, api_url: str, preloaded: Preloaded) -> Tree:
    """The studio, with the session's Prefect server; its commands are forks."""
    studio.environment = {**studio.environment, "PREFECT_API_URL": api_url}
    studio.preloaded = preloaded
    return studio


@pytest.fixture(scope="session")
def _person_template(shared: Shared, environment: dict[str, str]) -> Path:
    return shared("person", lambda place: Studio.new(place / "my studio", environment))


@pytest.fixture(scope="session")
def _promoted_template(shared: Shared, _person_template: Path, environment: dict[str, str]) -> Path:
    def make(place: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            person = _person(place, _person_template, environment, patch)
            person.set("kimg: 64", "kimg: 7")  # an uncommitted edit
            person.night("2026-11-24")
            assert person.ran() == ["scrape", "train", "evaluate", "generate"]

    return shared("promoted", make)


@pytest.fixture
def person(
    tmp_path: Path, _person_template: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Studio:
    """A user's studio, committed; the test runs in that user's environment."""
    return _person(tmp_path, _person_template, environment, monkeypatch)


@pytest.fixture
def promoted(
    tmp_path: Path, _promoted_template: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Studio:
    """The studio of `person` and its night's clone after the first promotion, in the night of 2026-11-24."""
    return _person(tmp_path, _promoted_template, environment, monkeypatch)


def _person(place: Path, template: Path, environment: dict[str, str], patch: pytest.MonkeyPatch) -> Studio:
    for name in set(os.environ) - set(environment):
        patch.delenv(name)
    for name, value in environment.items():
        patch.setenv(name, value)
    shutil.copytree(template, place, dirs_exist_ok=True, symlinks=True)
    return Studio(place / "my studio", environment)


@pytest.fixture(scope="session")
def _night_pictures(shared: Shared) -> Path:
    return shared("painted", paint_pictures)


@pytest.fixture
def night_tree(tmp_path: Path, environment: dict[str, str], _night_pictures: Path) -> NightTree:
    """A studio whose nights compare models on real pictures, committed, with its paintings beside it."""
    return make_night_tree(tmp_path, environment, _night_pictures)


@pytest.fixture(scope="session")
def _explore_template(shared: Shared, environment: dict[str, str]) -> ExploreTree:
    place = shared("exploring", lambda place: make_explore_tree(place, environment))
    return ExploreTree(place / "studio", environment)


@pytest.fixture
def exploring(tmp_path: Path, _explore_template: ExploreTree) -> ExploreTree:
    """A committed studio for explorations."""
    return _explore_template.copied(tmp_path)
