"""A promotion: one commit and one tag in the user's repository, after which nothing has to run again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.night.champion import promote
from tests.flows.person import NAME, Studio


def tree(person: Studio, commit: str) -> dict[str, str]:
    """The files of a commit: mode and hash by path."""
    lines = person.git("ls-tree", "-r", commit).splitlines()
    return {line.partition("\t")[2]: line.partition("\t")[0] for line in lines}


def champion_of(person: Studio, commit: str) -> dict:
    return json.loads(person.git("show", f"{commit}:models/champion.json"))


def test_the_first_promotion_adds_only_a_nights_files_to_the_users_commit(promoted: Studio):
    base = promoted.git("rev-parse", "HEAD")
    assert promoted.git("rev-parse", "nightly") == promoted.git("rev-parse", "atelier@v1.0.0^{commit}")
    assert promoted.git("cat-file", "-t", "atelier@v1.0.0") == "tag"
    assert promoted.git("log", "-1", "--format=%P|%an|%ae|%s", "nightly") == (
        f"{base}|{NAME}|anna@example.org|atelier@v1.0.0: better"
    )
    before, after = tree(promoted, base), tree(promoted, "nightly")
    champion = champion_of(promoted, "nightly")
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed == {
        "params.yaml", "dvc.lock", "metrics.json", "models/champion.json", f"{champion['path']}.dvc",
    }  # fmt: skip
    difference = promoted.git("diff", "-U0", base, "nightly", "--", "params.yaml").splitlines()
    assert [line for line in difference if line.startswith("+ ")] == [
        '+  snapshot: "2026-11-24"     # any quoted date; another date asks the source again'
    ]
    assert (champion["version"], champion["night"], champion["paintings"]) == ("1.0.0", "2026-11-24", 1)
    assert promoted.git("status", "--porcelain") == "M params.yaml"  # the user's own edit
    clone = promoted.at(promoted.root.with_name("my studio.nightly"))
    assert clone.git("status", "--porcelain") == "?? data/"


def test_merging_a_night_restores_all_outputs_and_runs_no_stage(promoted: Studio):
    person = promoted
    _, promotion = person.night("2026-11-25")
    assert person.ran() == ["scrape", "train", "evaluate", "generate"]
    champion, start = champion_of(person, "nightly"), champion_of(person, "nightly~1")
    assert (promotion.version, promotion.pushed) == ("1.0.1", None)
    assert {f"{path}.dvc" for path in (champion["path"], start["path"])} <= tree(person, "nightly").keys()

    person.git("checkout", "-q", "params.yaml")
    person.git("merge", "-q", "nightly")
    person.dvc("repro", "-q")
    assert person.ran() == []
    person.dvc("checkout", "-q")  # the champion's files
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

    person.git("rm", "-q", "--cached", "dvc.lock", "metrics.json")  # only the run cache is left
    (person.root / "dvc.lock").unlink()
    shutil.rmtree(person.root / "data")
    person.dvc("repro", "-q")
    assert person.ran() == []


def test_a_new_commit_of_the_user_is_merged_with_its_settings_and_the_nights_champion(
    promoted: Studio,
):
    person, first = promoted, promoted.git("rev-parse", "nightly")
    person.set("seed: 1                    # another seed gives other artworks", "seed: 2")
    (person.root / "dvc.yaml").write_text((person.root / "dvc.yaml").read_text() + "# mine\n")
    person.dvc("repro", "-q")
    base = person.commit("a change")  # with a dvc.lock that differs from the branch's

    person.paint("cliffs")
    clone, before = person.evening("2026-11-25")
    lock = person.git("show", f"{base}:dvc.lock")
    promotion = promote(clone, before, "2026-11-25", "better", print)
    assert promotion.version == "1.1.0"  # other paintings
    assert person.git("log", "-1", "--format=%P", "nightly") == f"{first} {base}"
    after, mine = tree(person, "nightly"), tree(person, base)
    of_nights = {"params.yaml", "dvc.lock", "metrics.json", "models/champion.json"}
    assert {name for name in mine if after[name] != mine[name]} <= of_nights
    assert "seed: 2" in person.git("show", "nightly:params.yaml")
    assert person.git("show", "nightly:dvc.lock") != lock
    assert (
        len([name for name in after if name.endswith(".dvc")]) == 2
    )  # the new champion and the one it was trained from

    person.git("merge", "-q", "nightly")
    person.ran()
    person.dvc("repro", "-q")
    assert person.ran() == []
    person.git("commit", "-q", "--allow-empty", "-m", "later")
    clone = person.prepare()
    assert clone.tip == promotion.commit
    assert person.at(clone.root).git("status", "--porcelain") == ""


@pytest.mark.parametrize("kind", ["worktree", "shallow"])
def test_nights_work_in_a_worktree_and_in_a_shallow_clone(person: Studio, kind: str):
    user = person.at(person.root.parent / "other")
    person.git("commit", "-q", "--allow-empty", "-m", "second")
    if kind == "worktree":
        person.git("worktree", "add", "-q", "--detach", str(user.root))
    else:
        person.git("clone", "-q", "--depth=1", f"file://{person.root}", str(user.root))
        user.git("config", "user.name", NAME)
        user.git("config", "user.email", "anna@example.org")
    _, promotion = user.night("2026-11-24")
    assert user.git("rev-parse", "nightly", "atelier@v1.0.0^{commit}").split() == [promotion.commit] * 2
