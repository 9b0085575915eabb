"""`atelier doctor` in a real tree: what it says of git, the remote and Prefect, and that it changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands import doctor as report
from tests.flows.toys import Tree
from tests.users import unprivileged


def files(root: Path) -> dict[str, float]:
    """Everything in the tree but the logs of its commands, with the time it was last changed."""
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


def test_what_is_missing_is_named_with_its_cure_and_what_is_well_passes(studio: Tree) -> None:
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


def test_a_remote_and_a_server_that_are_not_there_are_wrong(studio: Tree) -> None:
    set_remote(studio, Path("/no/such/store"))
    studio.environment = {**studio.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    status, said = doctor(studio)
    assert status == 1
    assert "wrong   DVC remote: s: there is no /no/such/store" in said
    assert "wrong   Prefect: no server at http://127.0.0.1:9/api" in said


def test_a_config_that_dvc_emptied_at_an_umlaut_is_named(
    studio: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(studio.root)
    git(studio, "add", ".")
    git(studio, "-c", "user.name=Anna", "-c", "user.email=a@example.org", "commit", "-qm", "my studio")
    command = [sys.executable, "-m", "dvc", "remote", "add", "-d", "r", "../störe"]
    assert subprocess.run(command, capture_output=True, env=studio.environment).returncode
    found = report._remote()
    assert found.state == "wrong" and "git checkout .dvc/config" in found.fix


def test_the_states_that_trainings_resume_from_are_counted_with_their_size(tmp_path: Path) -> None:
    root = tmp_path / "studio"
    for place, size, finished in (
        ("studio/.atelier/train/a", 2_000_000, True), ("studio/.atelier/train/b", 1_000_000, False),
        ("studio.explore/.atelier/train/c", 5_000, False),
    ):  # fmt: skip
        (tmp_path / place / "grids").mkdir(parents=True)
        (tmp_path / place / "state-000000001.safetensors").write_bytes(b"x" * size)
        if finished:
            (tmp_path / place / "finished").touch()
    here, clone = [finding.message for finding in report.kept_states(root)]
    assert "2 trainings in .atelier/train, 3.0 MB, 1 not finished" in here
    assert f"1 training in {tmp_path}/studio.explore/.atelier/train, 5.0 kB, 1 not finished" in clone
    assert not [*report.kept_states(tmp_path)]


def test_what_belongs_to_another_user_is_named(studio: Tree) -> None:
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
def test_a_repository_of_another_users_is_no_empty_one(studio: Tree) -> None:
    os.chown(studio.root, 54321, 54321)
    os.chown(studio.root / ".git", 54321, 54321)
    for command in ("ledger", "doctor"):
        done = studio.run("flows.cli", command)
        assert done.status == 1 and "belongs to another user, so git reads nothing of it" in done.output
        assert "git config --global --add safe.directory" in done.output and "no commit" not in done.output
