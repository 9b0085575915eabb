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
from flows.clones.sibling import committed_params
from tests.flows.person import Studio


def test_the_night_has_the_commit_and_an_uncommitted_edit_is_neither_in_it_nor_lost(person: Studio):
    person.set("kimg: 64", "kimg: 7")
    (person.root / "new stage é.py").write_text("print()")
    before = (person.git("status", "--porcelain"), (person.root / "params.yaml").read_bytes())
    clone = person.prepare()
    assert clone.root == person.root.parent / "my studio.nightly"
    assert clone.base == person.git("rev-parse", "HEAD")
    assert clone.uncommitted == ("params.yaml", "new stage é.py")
    assert "kimg: 64" in (clone.root / "params.yaml").read_text()
    assert not (clone.root / "new stage é.py").exists()
    assert (person.git("status", "--porcelain"), (person.root / "params.yaml").read_bytes()) == before


def test_a_nights_settings_are_the_commits_however_they_were_edited_since(person: Studio):
    person.set("branch: nightly ", "branch: robot ")
    person.set("notify: null ", "notify: https://example.org/committed ")
    person.commit("a robot's branch")
    person.set("branch: robot ", "branch: main ")
    person.set("notify: https://example.org/committed ", "notify: https://example.org/edited ")
    nights = committed_params(person.root).nightly
    assert (nights.branch, nights.notify) == ("robot", "https://example.org/committed")
    (person.root / "params.yaml").write_text("half an edit: [")
    assert committed_params(person.root).nightly == nights
    person.commit("a mistake")
    with pytest.raises(AtelierError, match=r"^params.yaml \(of commit \w{7,}\):1: not valid YAML"):
        committed_params(person.root)


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the working directory of a process may be hidden")
def test_a_lock_of_a_killed_dvc_is_dropped_though_its_number_is_another_process_by_now(person: Studio):
    root = person.prepare().root
    lock = root / ".dvc/tmp/rwlock"
    for place, stays in ((person.root, False), (root, True)):
        process = subprocess.Popen(["sleep", "60"], cwd=place)
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(
            json.dumps({"write": {str(root / "data/catalog"): {"pid": process.pid, "cmd": "dvc"}}, "read": {}})
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
    for name in ("640.v1.sqlite", "800.v1.damaged"):  # neither is copied
        (images / name).write_bytes(b"no database" * 1000)
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
    assert [path.name for path in (ours / "images").iterdir()] == ["512.arrivals"]
    with (ours / "images/512.arrivals").open("ab") as file:
        file.write(b" of the night")
    assert (images / "512.arrivals").read_bytes() == b"pictures"
    person.prepare()
    assert (ours / "images/512.arrivals").read_bytes() == b"pictures of the night"


def test_what_params_name_in_the_users_tree_and_no_commit_holds_is_lent(person: Studio):
    with (person.root / ".gitignore").open("a") as file:
        file.write("/mine/\n")
    person.set("path: null ", "path: mine/paintings ")
    person.set("init_from: auto ", "init_from: models/barrat-0123456789abcdef ")
    person.commit("my own")
    for name in ("mine/paintings/sea.jpg", "models/barrat-0123456789abcdef/generator.safetensors"):
        (person.root / name).parent.mkdir(parents=True)
        (person.root / name).write_text(name)
    for _ in range(2):
        root = person.prepare().root
        assert (root / "mine/paintings/sea.jpg").read_text() == "mine/paintings/sea.jpg"
        assert (root / "models/barrat-0123456789abcdef/generator.safetensors").exists()
    assert not person.at(root).git("diff", "HEAD", "--stat")


def lend(person: Studio, folder: str, ignored: str) -> Path:
    """A folder with a picture, which params.yaml names and git ignores, lent to a night once."""
    place = person.root / folder
    place.mkdir(parents=True)
    (place / "sea.jpg").write_text("the sea")
    person.set("path: null ", f"path: {folder} ")
    with (person.root / ".gitignore").open("a") as file:
        file.write(ignored)
    person.commit("my own")
    root = person.prepare().root
    assert (root / folder / "sea.jpg").read_text() == "the sea"
    assert (root / folder).is_symlink()
    return place


def track(person: Studio, folder: str) -> None:
    person.dvc("add", "-q", folder)
    person.git("add", "-f", f"{folder}.dvc")
    person.commit("tracked from now on")


@pytest.mark.parametrize("folder", ["paintings", "mine/paintings", "data/paintings"])
def test_a_lent_folder_that_is_tracked_later_keeps_what_was_not_added(person: Studio, folder: str):
    place = lend(person, folder, f"/{folder.split('/')[0]}/*\n!*.dvc\n")
    track(person, folder)
    (place / "dune.jpg").write_text("not added yet")
    (place / "sea.jpg").unlink()
    (place / "sea.jpg").write_text("painted over")
    root = person.prepare().root
    assert sorted(path.name for path in place.iterdir()) == ["dune.jpg", "sea.jpg"]
    assert (place / "sea.jpg").read_text() == "painted over"
    assert [path.name for path in (root / folder).iterdir()] == ["sea.jpg"]
    assert (root / folder / "sea.jpg").read_text() == "the sea"  # as it was committed


def test_a_folder_that_is_no_longer_tracked_is_lent_again_with_all_that_it_has(person: Studio):
    place = lend(person, "paintings", "/paintings\n")
    track(person, "paintings")
    person.prepare()
    person.git("rm", "-qf", "paintings.dvc")
    person.commit("not tracked any more")
    (place / "dune.jpg").write_text("new")
    root = person.prepare().root
    assert sorted(path.name for path in (root / "paintings").iterdir()) == ["dune.jpg", "sea.jpg"]


def test_links_of_the_users_inside_a_lent_folder_stay(person: Studio, tmp_path: Path):
    (tmp_path / "titles.csv").write_text("sea.jpg,The sea")
    mine = person.root / "mine"
    mine.mkdir()
    (mine / "titles.csv").symlink_to(tmp_path / "titles.csv")
    person.set("catalog: null ", "catalog: mine/titles.csv ")
    person.git("add", "params.yaml")
    lend(person, "mine/../mine/paintings", "/mine/\n")
    person.set("path: mine/../mine/paintings", "path: mine")
    person.commit("the whole folder")
    for _ in range(2):
        root = person.prepare().root
        assert (mine / "titles.csv").readlink() == tmp_path / "titles.csv"
        assert (root / "mine/titles.csv").read_text() == "sea.jpg,The sea"
        assert (root / "mine/paintings/sea.jpg").read_text() == "the sea"


@pytest.mark.parametrize("place", ["models", "data/model", "paintings"])
def test_a_link_in_a_commit_that_leads_out_of_the_clone_is_refused_where_it_would_be_written_through(
    person: Studio, tmp_path: Path, place: str
):
    outside = tmp_path / "large disk"
    outside.mkdir()
    (outside / "sea.jpg").write_text("mine")
    (person.root / "paintings").mkdir()
    (person.root / "paintings/sea.jpg").write_text("the sea")
    track(person, "paintings")
    shutil.rmtree(person.root / "paintings")
    (person.root / place).parent.mkdir(exist_ok=True)
    (person.root / place).symlink_to("../" * (place.count("/") + 1) + outside.name)
    person.git("add", "-f", place)
    person.git("commit", "-qm", "a link")
    with pytest.raises(AtelierError, match=rf"nightly/{place} is a symbolic link to .*large disk, and writing"):
        person.prepare()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("sea.jpg", "mine")]


def test_a_folder_in_which_a_stage_writes_is_not_lent(person: Studio):
    person.set("path: null ", "path: paintings ")
    stages = person.root / "dvc.yaml"
    stages.write_text(stages.read_text().replace("outs: [data/artworks]", "outs: [paintings/made]"))
    (person.root / ".gitignore").write_text("/paintings\n")
    (person.root / "paintings").mkdir()
    (person.root / "paintings/sea.jpg").write_text("the sea")
    person.commit("a stage that writes among my paintings")
    with pytest.raises(AtelierError, match=r"paintings is in no commit, and DVC writes paintings/made inside"):
        person.prepare()


def test_a_model_and_a_network_that_params_name_in_models_are_lent(person: Studio):
    network = "models/realesr-x4.safetensors"
    (person.root / "models").mkdir()
    (person.root / network).write_text("weights")
    text = (person.root / "params.yaml").read_text()
    person.set("method: learned ", "method: external ")
    external = text[text.index("  external:") :].splitlines()
    person.set(external[1], f"    path: {network}")
    person.set(external[2], f"    sha256: {'a' * 64}")
    person.commit("somebody else's network")
    assert (person.prepare().root / network).read_text() == "weights"


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
        (in_the_way, r"git cannot create a branch nightly beside the branch nightly/old"),
        (misnamed, r"nightly.branch holds 'nightly.lock', which is no valid name of a branch"),
        (nameless, r"git has no name and e-mail address for commits in .*: `git config --global user.name You`"),
        (without_stages, r"dvc.yaml is in no commit of .*: `git add dvc.yaml && git commit`"),
        (without_commit, r"studio has no commit yet"),
        (without_git, r"studio is no git repository.*: `git init"),
        (damaged, r"if that happens again, remove .*/my studio.nightly: the next night makes it anew"),
        (with_submodules, r"has git submodules, which the night's clone would lack"),
        (with_a_strange_neighbour, r"my studio.nightly is the place of the night's clone, but is something else"),
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
