"""A promotion: one commit, one tag, all or nothing in the user's repository, and nothing left to train."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.champion import promote
from tests.flows.person import NAME, Studio

KILLED = """
import os, signal, sys
from pathlib import Path
from flows import champion, dvc
from flows.clone import Clone

def audit(event, arguments):
    if event == "subprocess.Popen" and set(sys.argv[4:]) <= set(map(str, arguments[1])):
        os.kill(os.getpid(), signal.SIGKILL)

root, user, base = sys.argv[1:4]
clone = Clone(Path(root), Path(user), "nightly", base, ())
sys.addaudithook(audit)
champion.promote(clone, None, "2026-11-25", "better", print)
"""


def tree(person: Studio, commit: str) -> dict[str, str]:
    """What a commit holds: mode and name of each file's content."""
    lines = person.git("ls-tree", "-r", commit).splitlines()
    return {line.partition("\t")[2]: line.partition("\t")[0] for line in lines}


def told(person: Studio, commit: str) -> dict:
    return json.loads(person.git("show", f"{commit}:models/champion.json"))


def test_the_first_promotion_adds_the_robots_files_to_the_users_commit_and_nothing_else(person: Studio):
    base = person.git("rev-parse", "HEAD")
    person.set("kimg: 120", "kimg: 7")  # at work on something
    clone, promotion = person.night("2026-11-24")
    assert (promotion.version, promotion.tag, promotion.pushed) == ("1.0.0", "atelier@v1.0.0", None)
    assert person.git("rev-parse", "nightly", "atelier@v1.0.0^{commit}").split() == [promotion.commit] * 2
    assert person.git("log", "-1", "--format=%P|%an|%ae|%s", "nightly") == (
        f"{base}|{NAME}|anna@example.org|atelier@v1.0.0: better"
    )
    assert person.git("cat-file", "-t", "atelier@v1.0.0") == "tag"
    before, after = tree(person, base), tree(person, promotion.commit)
    champion = told(person, "nightly")
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed == {
        "params.yaml", "dvc.lock", "metrics.json", "models/champion.json", f"{champion['path']}.dvc",
    }  # fmt: skip
    difference = person.git("diff", "-U0", base, "nightly", "--", "params.yaml").splitlines()
    assert [line for line in difference if line.startswith("+ ")] == [
        '+  snapshot: "2026-11-24"     # a quoted date, any: change it to ask the source again'
    ]
    assert (champion["version"], champion["night"], champion["paintings"]) == ("1.0.0", "2026-11-24", 1)
    assert person.git("status", "--porcelain") == "M params.yaml"
    assert person.at(clone.root).git("status", "--porcelain") == "?? data/"


def test_taking_a_night_over_restores_everything_and_runs_nothing(person: Studio):
    person.night("2026-11-24")
    _, promotion = person.night("2026-11-25")
    assert person.ran() == ["scrape", "train", "evaluate", "generate"] * 2
    champion, start = told(person, "nightly"), told(person, "nightly~1")
    assert promotion.version == "1.0.1"
    assert {f"{path}.dvc" for path in (champion["path"], start["path"])} <= tree(person, "nightly").keys()

    person.git("merge", "-q", "nightly")
    person.dvc("repro", "-q")
    assert person.ran() == []
    person.dvc("checkout", "-q")  # the champion, to train on from
    assert person.dvc("status").strip() == "Data and pipelines are up to date."
    assert "2026" in (person.root / "data/model/generator.safetensors").read_text()

    bytes_of = {}
    for version in ([], ["--rev", "v1.0.0"]):
        person.dvc("artifacts", "get", ".", "atelier", "-o", "../got", "--force", *version)
        bytes_of[len(version)] = (person.root.parent / "got").read_bytes()
    assert bytes_of[0] == (person.root / "data/model/generator.safetensors").read_bytes() != bytes_of[2]
    gto = [str(Path(sys.executable).with_name("gto")), "show", "--json"]
    shown = json.loads(subprocess.check_output(gto, cwd=person.root, env=person.environment))
    assert shown["atelier"]["version"] == "v1.0.1"

    person.git("rm", "-q", "--cached", "dvc.lock", "metrics.json")  # by the run cache alone
    (person.root / "dvc.lock").unlink()
    shutil.rmtree(person.root / "data")
    person.dvc("repro", "-q")
    assert person.ran() == []


def test_a_commit_of_the_users_is_merged_with_their_lock_and_settings_and_the_robots_champion(person: Studio):
    _, first = person.night("2026-11-24")
    person.set("seed: 1                    # another seed, other artworks", "seed: 2")
    (person.root / "dvc.yaml").write_text((person.root / "dvc.yaml").read_text() + "# mine\n")
    person.dvc("repro", "-q")
    base = person.commit("my own way")  # with dvc.lock, of which the branch has another

    person.paint("cliffs")
    clone, before = person.evening("2026-11-25")
    lock = person.git("show", f"{base}:dvc.lock")
    promotion = promote(clone, before, "2026-11-25", "better", print)
    assert promotion.version == "1.1.0"  # other paintings
    assert person.git("log", "-1", "--format=%P", "nightly") == f"{first.commit} {base}"
    after, mine = tree(person, "nightly"), tree(person, base)
    robots = {"params.yaml", "dvc.lock", "metrics.json", "models/champion.json"}
    assert {name for name in mine if after[name] != mine[name]} <= robots
    assert "seed: 2" in person.git("show", "nightly:params.yaml")
    assert person.git("show", "nightly:dvc.lock") != lock
    assert len([name for name in after if name.endswith(".dvc")]) == 2  # and the one it was trained on from

    person.git("merge", "-q", "nightly")
    person.ran()
    person.dvc("repro", "-q")
    assert person.ran() == []
    person.git("commit", "-q", "--allow-empty", "-m", "on from there")
    clone = person.prepare()
    assert clone.tip == promotion.commit
    assert person.at(clone.root).git("status", "--porcelain") == ""


@pytest.mark.parametrize("kind", ["worktree", "shallow"])
def test_a_worktree_and_a_shallow_clone_have_their_nights(person: Studio, kind: str):
    user = person.at(person.root.parent / "other")
    person.git("commit", "-q", "--allow-empty", "-m", "second")
    if kind == "worktree":
        person.git("worktree", "add", "-q", "--detach", str(user.root))
    else:
        user.root.parent.joinpath("empty").mkdir()
        person.git("clone", "-q", "--depth=1", f"file://{person.root}", str(user.root))
        user.git("config", "user.name", NAME)
        user.git("config", "user.email", "anna@example.org")
    _, promotion = user.night("2026-11-24")
    assert user.git("rev-parse", "nightly") == promotion.commit
    user.ran()
    user.git("merge", "-q", "nightly")
    user.dvc("repro", "-q")
    assert user.ran() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process that kills itself")
def test_killed_at_any_step_a_promotion_has_not_happened_and_the_next_night_is_clean(person: Studio):
    """Waits for four processes, each killed at another step of a promotion to a remote."""
    person.dvc("remote", "add", "-d", "--local", "store", str(person.root.parent / "store"))
    person.night("2026-11-24")
    clone, _ = person.evening("2026-11-25")
    evening = shutil.copytree(clone.root, person.root.parent / "evening", symlinks=True)
    refs = person.refs()
    person.ran()
    for step in (["dvc", "add"], ["dvc", "push"], ["tag", "-a"], ["push", "--atomic"]):
        command = [sys.executable, "-c", KILLED, str(clone.root), str(clone.user), clone.base, *step]
        killed = subprocess.run(command, env=person.environment, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, f"{step}: {killed.stderr}"
        assert person.refs() == refs
        assert person.git("status", "--porcelain") == ""

        person.prepare()
        theirs = person.at(clone.root)
        assert theirs.git("tag") == "atelier@v1.0.0"
        assert theirs.git("diff", "--name-only", "origin/nightly") == "params.yaml"
        assert theirs.git("ls-files", "--others", "--exclude-standard", "--directory") == "data/"
        shutil.rmtree(clone.root)
        shutil.copytree(evening, clone.root, symlinks=True)
    _, promotion = person.night("2026-11-25")
    assert person.ran() == []
    assert promotion.version == "1.0.1"


def test_a_push_that_fails_changes_nothing_and_the_same_night_again_trains_nothing_again(person: Studio):
    clone, before = person.evening("2026-11-24")
    refs = person.refs()
    assert len(person.ran()) == 4
    hook = person.root / ".git/hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/nightly ] || { echo not tonight; exit 1; }\n')
    hook.chmod(0o755)
    with pytest.raises(AtelierError, match=r"git push in .*: (.|\n)*not tonight"):  # their own rule holds
        promote(clone, before, "2026-11-24", "better", print)
    assert person.refs() == refs  # not even the tag, which the rule allows
    hook.unlink()

    person.git("branch", "nightly", person.git("commit-tree", "-m", "meanwhile", "HEAD^{tree}"))
    with pytest.raises(AtelierError, match=r"git push in .*: (.|\n)*rejected"):  # never by force
        promote(clone, before, "2026-11-24", "better", print)
    person.git("branch", "-q", "-D", "nightly")

    person.night("2026-11-24")
    assert person.ran() == []


def test_a_remote_that_fails_at_the_end_changes_nothing_and_later_has_everything(person: Studio):
    store = person.root.parent / "store"
    person.dvc("remote", "add", "-d", "--local", "store", str(store))
    clone, before = person.evening("2026-11-24")
    refs = person.refs()
    assert len(person.ran()) == 4
    store.write_text("no folder any more")
    with pytest.raises(AtelierError, match=r"dvc push in .*studio.nightly: "):
        promote(clone, before, "2026-11-24", "better", print)
    assert person.refs() == refs
    store.unlink()

    _, promotion = person.night("2026-11-24")
    assert promotion.pushed == str(store)
    assert person.ran() == []
    person.git("merge", "-q", "nightly")
    shutil.rmtree(person.root / ".dvc/cache")  # as on another machine
    person.dvc("pull", "--run-cache", "-q")
    assert (person.root / told(person, "nightly")["path"] / "generator.safetensors").exists()
    person.dvc("repro", "-q")
    assert person.ran() == []
    assert "?? models" not in person.git("status", "--porcelain")
