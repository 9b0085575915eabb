"""The tree beside the user's, in which trials run: what it has of the user's, and what never comes back."""

import re
import shutil
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.files import write_json
from flows.clones import trials_clone
from flows.repo.git import git
from flows.trials.record import exploration_names
from tests.flows.explore_toys import ExploreTree


@pytest.fixture
def tree(exploring: ExploreTree, monkeypatch: pytest.MonkeyPatch) -> ExploreTree:
    monkeypatch.setenv("HOME", exploring.environment["HOME"])
    return exploring


def prepared(tree: ExploreTree) -> trials_clone.TrialsClone:
    ours = trials_clone.snapshot(tree.root)
    trials_clone.prepare(ours, "sea", ["sea"])
    return ours


def test_it_has_the_users_edits_and_leaves_the_users_tree_as_it_is(tree: ExploreTree):
    tree.set("works: 600 ", "works: 24 ")
    (tree.root / "new.py").write_text("# new\n")
    tree.git("add", "new.py")
    tree.set("seed: 0 ", "seed: 5 ")
    before = tree.git("status", "--porcelain"), (tree.root / "params.yaml").read_text()
    ours = prepared(tree)
    assert (ours.root / "params.yaml").read_text() == before[1]
    assert (ours.root / "new.py").read_text() == "# new\n"
    assert (tree.git("status", "--porcelain"), (tree.root / "params.yaml").read_text()) == before
    assert tree.git("stash", "list") == ""


def test_what_a_trial_leaves_is_gone_before_the_next_and_data_stay(tree: ExploreTree):
    ours = prepared(tree)
    (ours.root / "params.yaml").write_text("train: broken\n")
    (ours.root / "left.py").touch()
    for name in ("data/scrape", "dvc.lock"):
        (ours.root / name).write_text("made by a stage\n")
    ours.clean()
    assert (ours.root / "params.yaml").read_text() == (tree.root / "params.yaml").read_text()
    assert not (ours.root / "left.py").exists()
    assert (ours.root / "data/scrape").read_text() == (ours.root / "dvc.lock").read_text() == "made by a stage\n"


def test_what_stages_write_makes_no_other_exploration_and_what_a_person_edits_does(tree: ExploreTree):
    before = trials_clone.snapshot(tree.root).identity
    (tree.root / "dvc.lock").write_text("schema: '2.0'\n")
    (tree.root / "metrics.json").write_text("{}")
    assert trials_clone.snapshot(tree.root).identity == before
    tree.git("add", "dvc.lock")
    assert trials_clone.snapshot(tree.root).identity == before
    tree.set("seed: 0 ", "seed: 5 ")
    assert trials_clone.snapshot(tree.root).identity != before


def test_what_has_arrived_is_copied_and_what_no_commit_holds_is_lent(tree: ExploreTree):
    for name in (".atelier/images/512.arrivals", "models/old-0123456789abcdef/model.json", "mine/a.jpg"):
        path = tree.root / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    tree.set("path: null ", "path: mine ")
    ours = prepared(tree)
    for name in (".atelier/images/512.arrivals", "models/old-0123456789abcdef/model.json", "mine/a.jpg"):
        assert (ours.root / name).read_text() == name
    assert not (ours.root / ".atelier/images").is_symlink()
    ours.clean()
    assert (ours.root / "mine/a.jpg").exists()


def test_edits_that_an_experiment_would_take_the_place_of_are_named(tree: ExploreTree):
    tree.set("works: 600 ", "works: 24 ")
    ours = prepared(tree)
    with pytest.raises(AtelierError, match=r"there is no experiment sea-1 of the commit \w{10}: `dvc exp show`"):
        lost_by(tree, "sea-1", "sea")
    tree.git("update-ref", ours.ref("sea-1"), ours.base)
    assert lost_by(tree, "sea-1", "sea") == []  # the edit was there when the trial began
    tree.set("works: 24 ", "works: 25 ")
    assert lost_by(tree, "sea-1", "sea") == ["params.yaml"]
    tree.git("update-ref", ours.ref("sea-2"), tree.git("stash", "create"))
    assert lost_by(tree, "sea-1", "sea") == []  # it is another experiment


def lost_by(tree: ExploreTree, experiment: str, name: str) -> list[str]:
    """The files whose content would be lost by adopting an experiment."""
    return list(trials_clone.adoption(tree.root, experiment, name).lost)


def an_experiment(tree: ExploreTree, ours: trials_clone.TrialsClone, number: int, lr: str) -> str:
    """A trial that completed: an experiment of the exploration sea, with another learning rate."""
    ours.clean()
    path = ours.root / "params.yaml"
    assert "  lr: 0.0002 " in path.read_text()
    path.write_text(path.read_text().replace("  lr: 0.0002 ", f"  lr: {lr} ", 1))
    (ours.root / "dvc.lock").write_text("schema: '2.0'\n")
    clone = ExploreTree(ours.root, tree.environment)
    clone.git("add", "-f", "dvc.lock")
    clone.git("commit", "-qam", "a trial")
    clone.git("update-ref", ours.ref(f"sea-{number}"), "HEAD")
    clone.git("checkout", "-q", "--detach", ours.head)
    ours.export(f"sea-{number}")
    return f"sea-{number}"


def adopt(tree: ExploreTree, experiment: str) -> trials_clone.Adoption:
    plan = trials_clone.adoption(tree.root, experiment, "sea")
    assert not plan.lost
    plan.write()
    return plan


def params(tree: ExploreTree) -> str:
    return (tree.root / "params.yaml").read_text()


def test_an_experiment_is_adopted_after_commits_and_what_they_changed_stays(tree: ExploreTree):
    tree.set("works: 600 ", "works: 24 ")
    experiment = an_experiment(tree, prepared(tree), 1, "0.0001")
    (tree.root / "notes.md").write_text("what I have learned")
    tree.commit()  # the edit with which the exploration began, too
    assert adopt(tree, experiment).kept == ("notes.md",)
    assert "lr: 0.0001 " in params(tree)
    assert "works: 24 " in params(tree)
    assert (tree.root / "dvc.lock").exists()
    assert (tree.root / "notes.md").read_text() == "what I have learned"
    assert tree.git("status", "--porcelain", "--untracked-files=no").split() == ["M", "params.yaml"]


def test_settings_of_a_commit_since_are_merged_with_the_experiments_or_refused(tree: ExploreTree):
    experiment = an_experiment(tree, prepared(tree), 1, "0.0001")
    tree.set("works: 600 ", "works: 24 ")
    tree.commit()
    assert list(adopt(tree, experiment).merged) == ["params.yaml"]
    assert "lr: 0.0001 " in params(tree)
    assert "works: 24 " in params(tree)

    tree.git("checkout", "-q", "--", "params.yaml")
    tree.set("  lr: 0.0002 ", "  lr: 0.0003 ")
    tree.commit()
    with pytest.raises(AtelierError, match=r"params.yaml: a commit since .* sea-1 both change the same lines"):
        adopt(tree, experiment)
    assert "lr: 0.0003 " in params(tree)


def test_files_of_dvcs_folders_that_were_not_added_are_named_and_stay(tree: ExploreTree):
    for name in ("a.jpg", "sub/b.jpg"):
        (tree.root / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / "mine" / name).write_text(name)
    (tree.root / "one.csv").write_text("title")
    tree.dvc("add", "-q", "mine", "one.csv")
    tree.commit()
    experiment = an_experiment(tree, prepared(tree), 1, "0.0001")
    assert lost_by(tree, experiment, "sea") == []
    (tree.root / "mine/new").mkdir()
    (tree.root / "mine/new/c.jpg").write_text("not added yet")
    for name in ("mine/sub/b.jpg", "one.csv"):
        (tree.root / name).unlink()
        (tree.root / name).write_text("painted over")
    (tree.root / "mine/a.jpg").unlink()
    assert lost_by(tree, experiment, "sea") == [
        "mine/a.jpg", "mine/new/c.jpg", "mine/sub/b.jpg", "one.csv",
    ]  # fmt: skip
    tree.dvc("add", "-q", "mine", "one.csv")
    tree.commit()
    shutil.rmtree(tree.root / ".dvc/cache")  # nothing is asked of it for folders of a person's
    adopt(tree, experiment)
    assert (tree.root / "mine/new/c.jpg").read_text() == "not added yet"
    assert (tree.root / "mine/sub/b.jpg").read_text() == "painted over"


def test_a_remote_that_is_away_is_not_asked_for_what_the_cache_has(tree: ExploreTree):
    (tree.root / "mine").mkdir()
    (tree.root / "mine/a.jpg").write_text("the sea")
    tree.dvc("add", "-q", "mine")
    tree.dvc("remote", "add", "-d", "away", "/no/such/store")
    tree.commit()
    ours = prepared(tree)
    assert (ours.root / "mine/a.jpg").read_text() == "the sea"
    shutil.rmtree(tree.root / ".dvc/cache")
    shutil.rmtree(ours.root / "mine")
    with pytest.raises(AtelierError, match="there is no /no/such/store"):
        prepared(tree)


def test_an_edit_that_removes_a_dvc_file_is_no_trouble(tree: ExploreTree):
    (tree.root / "mine").mkdir()
    (tree.root / "mine/a.jpg").write_text("the sea")
    tree.dvc("add", "-q", "mine")
    tree.set("path: null ", "path: mine ")
    tree.commit()
    (tree.root / "mine.dvc").unlink()
    assert (prepared(tree).root / "mine/a.jpg").read_text() == "the sea"


def test_untracked_files_in_the_place_of_an_experiments_are_named_and_stay(tree: ExploreTree):
    (tree.root / "new.py").write_text("# new\n")
    (tree.root / "mine").mkdir()
    (tree.root / "mine/a.jpg").write_text("the sea")
    tree.dvc("add", "-q", "mine")
    tree.git("add", "new.py", "mine.dvc", ".gitignore")
    experiment = an_experiment(tree, prepared(tree), 1, "0.0001")
    tree.git("rm", "-q", "--cached", "new.py", "mine.dvc")
    (tree.root / "mine.dvc").unlink()
    assert lost_by(tree, experiment, "sea") == ["mine"]
    (tree.root / "new.py").write_text("# newer\n")
    assert lost_by(tree, experiment, "sea") == ["mine", "new.py"]
    assert (tree.root / "mine/a.jpg").read_text() == "the sea"


def test_what_an_exploration_began_with_is_forgotten_with_the_exploration_and_its_experiments(
    tree: ExploreTree,
):
    ours = trials_clone.snapshot(tree.root)
    for name in ("sea", "dune", "cliff-2"):
        trials_clone.prepare(ours, name, exploration_names(tree.root))
        write_json(tree.root / f".atelier/explore/{name}/explore.json", {})
    tree.git("update-ref", ours.ref("dune-1"), ours.base)
    for name in ("sea", "dune"):
        shutil.rmtree(tree.root / f".atelier/explore/{name}")

    def known(root: Path) -> set[str]:
        return set(git(root, "for-each-ref", "--format=%(refname:lstrip=3)", trials_clone.BASE).split())

    trials_clone.prepare(ours, "lake", exploration_names(tree.root))
    assert known(tree.root) == {"dune", "cliff-2", "lake"}  # dune has an experiment
    assert known(ours.root) == {"lake"}


def test_dvc_gc_as_the_docs_have_it_keeps_the_experiments(tree: ExploreTree):
    command = re.search(r"`dvc (gc [^`]*--all-experiments[^`]*)`", Path("docs/nightly.md").read_text())
    assert command
    (tree.root / "data/scrape").write_text("24 works")
    tree.dvc("commit", "-q", "--force", "scrape")
    tree.git("add", "-f", "dvc.lock")
    ours = trials_clone.snapshot(tree.root)
    tree.git("update-ref", ours.ref("sea-1"), ours.base)
    tree.git("rm", "-qf", "dvc.lock")
    cached = {path for path in (tree.root / ".dvc/cache/files").rglob("*") if path.is_file()}
    assert cached
    tree.dvc(*command[1].split(), "--force")
    assert {path for path in (tree.root / ".dvc/cache/files").rglob("*") if path.is_file()} == cached


def test_a_studio_that_git_does_not_hold_whole_is_refused_with_what_to_do(tree: ExploreTree):
    (tree.root / "atelier").mkdir()
    (tree.root / "atelier/mine.py").touch()
    with pytest.raises(AtelierError, match=r"git does not track atelier/mine.py, .*: `git add atelier/mine.py`"):
        trials_clone.snapshot(tree.root)
    shutil.rmtree(tree.root / ".git")
    with pytest.raises(AtelierError, match="is no git repository, and an experiment belongs to a commit"):
        trials_clone.snapshot(tree.root)
    tree.git("init", "-q")
    with pytest.raises(AtelierError, match="has no commit yet, and an experiment belongs to one"):
        trials_clone.snapshot(tree.root)


def test_a_directory_that_no_exploration_made_is_left_alone(tree: ExploreTree):
    (tree.root.parent / "studio.explore").mkdir()
    with pytest.raises(AtelierError, match="is the place of the exploration's clone, but is something else"):
        prepared(tree)
