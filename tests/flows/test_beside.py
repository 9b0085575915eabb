"""The tree beside the user's, in which trials run: what it has of the user's, and what never comes back."""

import shutil

import pytest

from atelier.errors import AtelierError
from flows import beside
from tests.flows.explore_toys import ExploreTree


@pytest.fixture
def tree(exploring: ExploreTree, monkeypatch: pytest.MonkeyPatch) -> ExploreTree:
    monkeypatch.setenv("HOME", exploring.environment["HOME"])
    return exploring


def prepared(tree: ExploreTree) -> beside.Beside:
    ours = beside.look(tree.root)
    beside.prepare(ours, "sea")
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
    assert (
        (ours.root / "data/scrape").read_text() == (ours.root / "dvc.lock").read_text() == "made by a stage\n"
    )


def test_what_stages_write_makes_no_other_exploration_and_what_a_person_edits_does(tree: ExploreTree):
    before = beside.look(tree.root).identity
    (tree.root / "dvc.lock").write_text("schema: '2.0'\n")
    (tree.root / "metrics.json").write_text("{}")
    assert beside.look(tree.root).identity == before
    tree.git("add", "dvc.lock")
    assert beside.look(tree.root).identity == before
    tree.set("seed: 0 ", "seed: 5 ")
    assert beside.look(tree.root).identity != before


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
    with pytest.raises(
        AtelierError, match=r"there is no experiment sea-1 of the commit \w{10}: `dvc exp show`"
    ):
        beside.lost_by(tree.root, "sea-1", "sea")
    tree.git("update-ref", ours.ref("sea-1"), ours.base)
    assert beside.lost_by(tree.root, "sea-1", "sea") == []  # the edit was there when the trial began
    tree.set("works: 24 ", "works: 25 ")
    assert beside.lost_by(tree.root, "sea-1", "sea") == ["params.yaml"]
    tree.git("update-ref", ours.ref("sea-2"), tree.git("stash", "create"))
    assert beside.lost_by(tree.root, "sea-1", "sea") == []  # it is another experiment


def test_a_studio_that_git_does_not_hold_whole_is_refused_with_what_to_do(tree: ExploreTree):
    (tree.root / "atelier").mkdir()
    (tree.root / "atelier/mine.py").touch()
    with pytest.raises(
        AtelierError, match=r"git knows nothing of atelier/mine.py, .*: `git add atelier/mine.py`"
    ):
        beside.look(tree.root)
    shutil.rmtree(tree.root / ".git")
    with pytest.raises(AtelierError, match="is no git repository, and an experiment belongs to a commit"):
        beside.look(tree.root)
    tree.git("init", "-q")
    with pytest.raises(AtelierError, match="has no commit yet, and an experiment belongs to one"):
        beside.look(tree.root)


def test_a_directory_that_no_exploration_made_is_left_alone(tree: ExploreTree):
    (tree.root.parent / "studio.explore").mkdir()
    with pytest.raises(AtelierError, match="is where the exploration works, but no exploration made it"):
        prepared(tree)
