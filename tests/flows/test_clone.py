"""The night's clone: the user's commit and nothing else, made once, clean each night; and when there is to be none."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from tests.flows.person import Studio


def test_the_night_has_the_commit_and_an_uncommitted_edit_is_neither_in_it_nor_lost(person: Studio):
    person.set("kimg: 120", "kimg: 7")
    (person.root / "new stage é.py").write_text("print()")
    before = (person.git("status", "--porcelain"), (person.root / "params.yaml").read_bytes())
    clone = person.prepare()
    assert clone.root == person.root.parent / "my studio.nightly"
    assert clone.base == person.git("rev-parse", "HEAD")
    assert clone.uncommitted == ("params.yaml", "new stage é.py")
    assert "kimg: 120" in (clone.root / "params.yaml").read_text()
    assert not (clone.root / "new stage é.py").exists()
    assert (person.git("status", "--porcelain"), (person.root / "params.yaml").read_bytes()) == before


def test_whatever_an_earlier_night_left_is_gone_and_outs_stay(person: Studio):
    root = person.prepare().root
    theirs = person.at(root)
    theirs.dvc("repro", "-q")
    (root / "stage.py").write_text("half a night's")
    (root / "leftover.py").touch()
    theirs.git("add", "-f", "dvc.lock", "stage.py")
    theirs.git("commit", "-qm", "never pushed")
    theirs.git("tag", "atelier@v9.0.0")
    theirs.git("branch", "stray")
    for lock in ("index.lock", "HEAD.lock", "refs/heads/stray.lock"):
        (root / ".git" / lock).touch()  # as a killed git leaves them

    clone = person.prepare()
    assert theirs.git("status", "--porcelain") == "?? data/"
    assert theirs.git("rev-parse", "HEAD") == clone.base
    assert theirs.git("tag") == ""
    assert not (root / "leftover.py").exists()
    assert (root / "data/model/generator.safetensors").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says where a process is at work")
def test_a_lock_of_a_killed_dvc_is_dropped_though_its_number_is_another_process_by_now(person: Studio):
    root = person.prepare().root
    lock = root / ".dvc/tmp/rwlock"
    for place, stays in ((person.root, False), (root, True)):
        process = subprocess.Popen(["sleep", "60"], cwd=place)
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(
            json.dumps({str(root / "data/catalog"): {"write": {"pid": process.pid, "cmd": "dvc"}}})
        )
        person.prepare()
        process.kill()
        process.wait()
        assert lock.exists() == stays


def test_what_has_arrived_is_not_asked_for_again_and_goes_its_own_way_from_here(person: Studio):
    images, scrape = (person.root / ".atelier" / name for name in ("images", "scrape"))
    images.mkdir(parents=True)
    scrape.mkdir()
    (images / "512.arrivals").write_bytes(b"pictures")
    (scrape / "question.requests").write_text("3")
    site = sqlite3.connect(scrape / "site.v1.sqlite", isolation_level=None)
    site.execute("PRAGMA journal_mode = WAL")
    site.execute("CREATE TABLE answers (path TEXT)")
    site.execute("INSERT INTO answers VALUES ('/genre/marina')")  # in the log beside the file, as at work

    ours = person.prepare().root / ".atelier"
    assert sqlite3.connect(ours / "scrape/site.v1.sqlite").execute("SELECT path FROM answers").fetchall() == [
        ("/genre/marina",)
    ]
    assert (ours / "scrape/question.requests").read_text() == "3"
    with (ours / "images/512.arrivals").open("ab") as file:
        file.write(b" of the night")
    assert (images / "512.arrivals").read_bytes() == b"pictures"
    person.prepare()
    assert (ours / "images/512.arrivals").read_bytes() == b"pictures of the night"


def test_what_params_name_in_the_users_tree_and_no_commit_holds_is_lent(person: Studio):
    with (person.root / ".gitignore").open("a") as file:
        file.write("/mine/\n")
    person.set("path: null ", "path: mine/paintings ")
    person.set("init_from: null ", "init_from: models/barrat-0123456789abcdef ")
    person.commit("my own")
    for name in ("mine/paintings/sea.jpg", "models/barrat-0123456789abcdef/generator.safetensors"):
        (person.root / name).parent.mkdir(parents=True)
        (person.root / name).write_text(name)
    for _ in range(2):
        root = person.prepare().root
        assert (root / "mine/paintings/sea.jpg").read_text() == "mine/paintings/sea.jpg"
        assert (root / "models/barrat-0123456789abcdef/generator.safetensors").exists()
    assert not person.at(root).git("diff", "HEAD", "--stat")


def test_what_dvc_tracks_is_brought_as_it_was_committed(person: Studio):
    paintings = person.root / "paintings"
    paintings.mkdir()
    (paintings / "sea.jpg").write_text("the sea")
    person.dvc("add", "-q", "paintings")
    person.set("path: null ", "path: paintings ")
    person.commit("my paintings")
    (paintings / "sea.jpg").chmod(0o644)
    (paintings / "sea.jpg").write_text("half painted over")
    ours = person.prepare().root / "paintings"
    assert not ours.is_symlink()
    assert (ours / "sea.jpg").read_text() == "the sea"

    shutil.rmtree(person.root / ".dvc/cache")
    shutil.rmtree(ours)
    with pytest.raises(AtelierError, match=r"dvc checkout in .*paintings"):
        person.prepare()


def test_cache_remotes_and_keys_are_the_users_wherever_they_are_written_down(person: Studio):
    person.dvc("remote", "add", "-d", "inside", "store")  # relative, and in no commit yet
    person.dvc("remote", "modify", "--local", "inside", "verify", "true")
    clone = person.prepare()
    theirs = person.at(clone.root)
    assert theirs.dvc("cache", "dir").strip() == str(person.root / ".dvc/cache")
    assert str(person.root / "store") in theirs.dvc("remote", "list").replace("\n", "")  # wrapped
    local = clone.root / ".dvc/config.local"
    assert "verify = true" in local.read_text()
    assert local.stat().st_mode & 0o777 == 0o600
    assert not theirs.git("status", "--porcelain")

    person.git("checkout", "--", ".dvc/config")
    (person.root / ".dvc/config.local").unlink()
    person.prepare()
    assert "inside" not in theirs.dvc("remote", "list")


def test_neither_hooks_nor_habits_of_the_user_rule_the_clone(person: Studio, tmp_path: Path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "post-index-change", "reference-transaction", "pre-push"):
        (hooks / name).write_text(f"#!/bin/sh\npwd >> {tmp_path}/hooked\n")
        (hooks / name).chmod(0o755)
    template = tmp_path / "template"
    shutil.copytree(hooks, template / "hooks")
    person.git("config", "--global", "core.hooksPath", str(hooks))
    person.git("config", "--global", "init.templateDir", str(template))
    person.git("config", "--global", "clone.defaultRemoteName", "home")
    try:
        clone = person.prepare()
        person.at(clone.root).git("checkout", "-q", "--detach")  # nor by a stage that uses git itself
    finally:
        (Path(person.environment["HOME"]) / ".gitconfig").unlink()
    assert not (tmp_path / "hooked").exists()
    assert not (clone.root / ".git/hooks").exists()


def test_a_studio_that_was_moved_with_its_clone_has_its_nights_there(person: Studio, tmp_path: Path):
    (person.prepare().root / "data").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("my studio", "my studio.nightly"):
        (tmp_path / name).rename(elsewhere / name)
    moved = person.at(elsewhere / "my studio")
    moved.git("commit", "-q", "--allow-empty", "-m", "moved")
    clone = moved.prepare()
    assert (clone.root, clone.base) == (elsewhere / "my studio.nightly", moved.git("rev-parse", "HEAD"))
    assert (clone.root / "data").exists()


def checked_out(person: Studio) -> None:
    person.git("switch", "-q", "-c", "nightly")


def checked_out_beside(person: Studio) -> None:
    person.git("worktree", "add", "-q", "-b", "nightly", "../beside")


def in_the_way(person: Studio) -> None:
    person.git("branch", "nightly/old")


def nameless(person: Studio) -> None:
    person.git("config", "--unset", "user.email")


def without_stages(person: Studio) -> None:
    person.git("rm", "-q", "--cached", "dvc.yaml")
    person.git("commit", "-qm", "no stages")


def without_commit(person: Studio) -> None:
    person.git("checkout", "-q", "--orphan", "anew")


def without_git(person: Studio) -> None:
    shutil.rmtree(person.root / ".git")


def damaged(person: Studio) -> None:
    (person.prepare().root / ".git/packed-refs").write_text("torn by a power cut")


def with_submodules(person: Studio) -> None:
    (person.root / ".gitmodules").touch()
    person.commit("paintings of others")


def with_a_strange_neighbour(person: Studio) -> None:
    (person.root.parent / "my studio.nightly").mkdir()


def with_a_remote_that_is_away(person: Studio) -> None:
    person.dvc("remote", "add", "-d", "--local", "away", "/no/such/store")


def misnamed(person: Studio) -> None:
    person.set("branch: nightly", "branch: nightly.lock")


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (checked_out, r"the branch nightly is checked out in .*/my studio, and a night could not commit"),
        (checked_out_beside, r"the branch nightly is checked out in .*/beside"),
        (in_the_way, r"there is a branch nightly/old, beside which"),
        (misnamed, r"nightly.branch holds 'nightly.lock', which git takes for no branch's name"),
        (nameless, r"git knows no name and e-mail for commits in .*: `git config --global user.name You`"),
        (without_stages, r"dvc.yaml is in no commit of .*: `git add dvc.yaml && git commit`"),
        (without_commit, r"studio has no commit yet"),
        (without_git, r"studio is no git repository.*: `git init"),
        (damaged, r"where that stays so, remove .*/my studio.nightly: the next night makes it anew"),
        (with_submodules, r"has git submodules, which the night's clone would lack"),
        (with_a_strange_neighbour, r"my studio.nightly is where the night works, but no night made it"),
        (with_a_remote_that_is_away, r"there is no /no/such/store"),
    ],
)
def test_a_night_that_would_be_vain_is_refused_at_its_beginning(
    person: Studio, trouble: Callable[[Studio], None], sentence: str
):
    trouble(person)
    refs = person.refs() if (person.root / ".git").exists() else ""
    with pytest.raises(AtelierError, match=sentence):
        person.prepare()
    assert not refs or person.refs() == refs
    assert person.ran() == []


def test_a_studio_below_the_root_of_its_repository_is_refused(person: Studio):
    deeper = person.at(person.root / "deeper")
    deeper.root.mkdir()
    shutil.copy(person.root / "params.yaml", deeper.root)
    with pytest.raises(AtelierError, match=r"is the folder deeper of a git repository"):
        deeper.prepare()
