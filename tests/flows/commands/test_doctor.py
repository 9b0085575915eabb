"""`atelier doctor` in a real studio: git, the remote, Prefect, permissions; and that it changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands.doctor import _prefect, _remote, resumable_states
from tests.flows.prefect_api import use_server
from tests.flows.preloaded import Preloaded
from tests.flows.toys import Tree
from tests.users import unprivileged


def files(root: Path) -> dict[str, float]:
    """Every file of the studio except the logs of its commands, with its modification time."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime
        for path in root.rglob("*")
        if not path.name.startswith(".log-")
    }


def doctor(tree: Tree) -> tuple[int, str]:
    done = tree.run("flows.cli", "doctor")
    status = done.status
    assert status is not None
    return status, done.output


def set_remote(tree: Tree, store: Path) -> None:
    lines = ["[core]", "    remote = s", "['remote \"s\"']", f"    url = {store}", ""]
    (tree.root / ".dvc/config.local").write_text("\n".join(lines))


def git(tree: Tree, *words: str) -> None:
    subprocess.run(["git", *words], cwd=tree.root, env=tree.environment, check=True, capture_output=True)


def test_what_is_missing_is_reported_with_its_fix_and_the_rest_is_ok(studio: Tree) -> None:
    before = files(studio.root)
    status, said = doctor(studio)
    assert status == 1
    assert "wrong   git: this directory has no commit" in said
    assert "warning DVC remote: none is set" in said
    assert "Traceback" not in said
    assert files(studio.root) == before

    for key, value in (("user.name", "Anna"), ("user.email", "anna@example.org")):
        git(studio, "config", key, value)
    git(studio, "add", ".")
    git(studio, "commit", "-qm", "my studio")
    store = studio.root.parent / "store"
    set_remote(studio, store)
    before = files(studio.root)
    status, said = doctor(studio)
    assert status == 0, said
    assert "ok      git: commits are Anna's, anna@example.org" in said
    assert f"ok      DVC remote: {store} can be reached" in said
    assert "ok      Prefect: no server is set" in said
    assert "ok      params.yaml" in said
    assert files(studio.root) == before


def test_a_missing_remote_and_a_server_that_does_not_answer_are_wrong(
    studio: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_remote(studio, Path("/no/such/store"))
    monkeypatch.chdir(studio.root)
    use_server(monkeypatch, "http://127.0.0.1:9/api")
    remote, server = _remote(), _prefect()
    assert remote.state == "wrong" and remote.message.startswith("s: there is no /no/such/store")
    assert server.state == "wrong" and server.message.startswith("no server at http://127.0.0.1:9/api")


def test_a_config_that_dvc_emptied_because_of_an_umlaut_is_reported(
    studio: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(studio.root)
    git(studio, "add", ".")
    git(studio, "-c", "user.name=Anna", "-c", "user.email=a@example.org", "commit", "-qm", "my studio")
    command = [sys.executable, "-m", "dvc", "remote", "add", "-d", "r", "../störe"]
    assert subprocess.run(command, capture_output=True, env=studio.environment).returncode
    found = _remote()
    assert found.state == "wrong" and "git checkout .dvc/config" in found.fix


def test_resumable_states_are_reported_with_their_number_and_size(tmp_path: Path) -> None:
    root = tmp_path / "studio"
    for place, size, finished in (
        ("studio/.atelier/train/a", 2_000_000, True), ("studio/.atelier/train/b", 1_000_000, False),
        ("studio.explore/.atelier/train/c", 5_000, False),
    ):  # fmt: skip
        (tmp_path / place / "grids").mkdir(parents=True)
        (tmp_path / place / "state-000000001.safetensors").write_bytes(b"x" * size)
        if finished:
            (tmp_path / place / "finished").touch()
    here, clone = [finding.message for finding in resumable_states(root)]
    assert "2 trainings in .atelier/train, 3.0 MB, 1 not finished" in here
    assert f"1 training in {tmp_path}/studio.explore/.atelier/train, 5.0 kB, 1 not finished" in clone
    assert not [*resumable_states(tmp_path)]


def test_files_of_another_user_are_reported(studio: Tree) -> None:
    for name in (".atelier/train", ".atelier/images"):
        (studio.root / name).mkdir(parents=True)
    (studio.root / ".atelier/train").chmod(0o555)
    command = [
        *unprivileged(),
        sys.executable,
        "-c",
        "from flows.commands import doctor; print(*doctor._user())",
    ]
    done = subprocess.run(command, cwd=studio.root, env=studio.environment, capture_output=True, text=True)
    assert "message='.atelier/train may not be written by this user (uid " in done.stdout, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a tree to another user")
def test_a_repository_of_another_user_is_not_reported_as_empty(studio: Tree, preloaded: Preloaded) -> None:
    studio.preloaded = preloaded
    os.chown(studio.root, 54321, 54321)
    os.chown(studio.root / ".git", 54321, 54321)
    for command in ("ledger", "doctor"):
        done = studio.run("flows.cli", command)
        assert done.status == 1 and "belongs to another user, so git reads nothing of it" in done.output
        assert "git config --global --add safe.directory" in done.output and "no commit" not in done.output
