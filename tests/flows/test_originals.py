"""Nights, explorations and `explore apply` never lose a file of the user, whatever the user does with their folders."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo

from atelier.errors import AtelierError
from atelier.settings import edit
from atelier.settings.schema import Nightly
from flows.clones import sibling, trials_clone
from flows.repo.git import git_bytes
from tests.flows.explore_toys import ExploreTree

FOLDERS = ("mine", "mine/paintings", "paintings")
SKIPPED = {".git", ".dvc", ".atelier"}
STEPS = 7


class Person:
    """A user who works at random, mostly in one folder, with nights and explorations beside them."""

    def __init__(self, tree: ExploreTree, seed: int) -> None:
        self.tree, self.root = tree, tree.root
        self.random = random.Random(seed)
        self.habit = self.random.choice(FOLDERS)
        self.experiments: list[str] = []
        (self.root / ".gitignore").write_text("/data/\n.atelier/\n/mine/*\n/paintings\n!*.dvc\n")
        (tree.root.parent / "elsewhere.jpg").write_text("not in the studio")
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.paint()
        self.lend()

    def folder(self) -> str:
        return self.habit if self.random.random() < 0.7 else self.random.choice(FOLDERS)

    def paint(self) -> None:
        """Create or overwrite a picture in one of the folders."""
        folder = self.root / self.folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.random.randrange(4)}.jpg"
        path.unlink(missing_ok=True)
        path.write_text(f"picture {self.random.random()}")

    def link(self) -> None:
        """Add a symbolic link to a picture outside the folder."""
        path = self.root / self.folder() / "link.jpg"
        if path.parent.is_dir() and not os.path.lexists(path):
            path.symlink_to(self.root.parent / "elsewhere.jpg")

    def lend(self) -> None:
        """Write a folder's name into params.yaml."""
        edit.edit_params(self.root / "params.yaml", {"scrape.folder.path": self.folder()})
        self.perhaps_commit()

    def track(self) -> None:
        """`dvc add` a folder, with a random DVC link type."""
        kind = self.random.choice(("copy", "hardlink", "symlink"))
        with Repo(str(self.root)) as repo, repo.config.edit("local") as config:
            config["cache"]["type"] = [kind]
        with Repo(str(self.root)) as repo:
            repo.add([str(self.root / self.folder())])
        self.perhaps_commit()

    def untrack(self) -> None:
        """`dvc remove` a folder; its files stay."""
        with Repo(str(self.root)) as repo:
            repo.remove(str(self.root / f"{self.folder()}.dvc"))
        self.perhaps_commit()

    def perhaps_commit(self) -> None:
        """Commit all changes, with a probability of three quarters."""
        if self.random.random() < 0.75:
            self.tree.git("add", "-A")
            self.tree.git("commit", "-qm", "mine", "--allow-empty")

    def night(self) -> None:
        """Do what a night does before its stages."""
        sibling.prepare_night_clone(self.root, Nightly())

    def explore(self) -> None:
        """Do what an exploration does, with one completed trial."""
        ours = trials_clone.snapshot(self.root)
        trials_clone.prepare(ours, "sea", ["sea"])
        ours.clean()
        edit.edit_params(ours.root / "params.yaml", {"train.lr": self.random.random() / 1000})
        theirs = ExploreTree(ours.root, self.tree.environment)
        theirs.git("commit", "-qam", "a trial")
        experiment = f"sea-{len(self.experiments) + 1}"
        theirs.git("update-ref", ours.ref(experiment), "HEAD")
        theirs.git("checkout", "-q", "--detach", ours.head)
        ours.export(experiment)
        self.experiments.append(experiment)

    def apply(self) -> None:
        """Adopt a trial, unless that would lose a file."""
        if self.experiments:
            plan = trials_clone.adoption(self.root, self.random.choice(self.experiments), "sea")
            if not plan.lost:
                plan.write()


def files(root: Path) -> dict[str, str]:
    """The contents of the files of a tree by path; the studio's are below `studio/`."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in (*names, *links)):
            if path.is_symlink() and ".dvc/cache" not in str(path.readlink()):
                content = f"link to {path.readlink()}"
            else:
                content = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            found[str(path.relative_to(root))] = content
    return found


def originals(person: Person) -> dict[str, str]:
    """The files of the user, in the studio and beside it."""
    parent = person.root.parent
    return files(person.root) | {f"../{name}": (parent / name).read_text() for name in ["elsewhere.jpg"]}


def saved(person: Person) -> Iterator[str]:
    """The MD5 of each file content in DVC's cache or in git."""
    for path in (person.root / ".dvc/cache/files/md5").glob("??/*"):
        yield path.parent.name + path.name
    names = person.tree.git("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    for line in names.splitlines():
        kind, name = line.split()
        if kind == "blob":
            yield hashlib.md5(git_bytes(person.root, "cat-file", "blob", name), usedforsecurity=False).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 7])
def test_no_file_of_the_user_changes_or_disappears(exploring: ExploreTree, monkeypatch: pytest.MonkeyPatch, seed: int):
    """Waits for a dozen steps of real git and DVC."""
    for name, value in exploring.environment.items():
        monkeypatch.setenv(name, value)
    person = Person(exploring, seed)
    works = [person.link, person.lend, person.track, person.track, person.untrack]
    robots = [person.night, person.explore, person.apply]
    done = []
    for _ in range(STEPS):
        for work in person.random.choices(works, k=person.random.randrange(3)):
            done.append(work.__name__)
            try:
                work()
            except (
                AtelierError,
                DvcException,
            ):  # DVC tracks no folder inside another that it tracks, for example
                done[-1] += " (refused)"
        person.paint()  # always something that is not saved yet
        before = originals(person)
        robot = person.random.choices(robots, (3, 3, 2))[0]
        done.append(robot.__name__)
        try:
            robot()
        except AtelierError as error:
            done[-1] += f" (refused: {error})"
        after = originals(person)
        changed = {path for path in before if after.get(path) != before[path]}
        if robot == person.apply:
            known = set(saved(person))
            changed = {path for path in changed if before[path] not in known}
        assert not changed, "\n".join(done)
        assert robot == person.apply or before == after, "\n".join(done)
