"""A second tree beside the user's, `../<name>.<kind>`: a clone that a flow makes once and works in from then on.

Knows git, and what params.yaml may name in the user's tree; not what the flow does there.
"""

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from atelier.errors import AtelierError
from atelier.params import Params
from flows import dvc, store
from flows.git import git, holds

NEEDED = ("dvc.yaml", "params.yaml", ".dvc/config")
RESULTS = ("dvc.lock", "metrics.json")  # what running stages writes, not what a person edits


def check(user: Path, what: str, needs: str) -> None:
    """That `user` is the root of a repository with a commit, which `what` ("a night") `needs` ("works on").

    Raises AtelierError where it is not.
    """
    git(user, "--version")  # without git, that is the sentence
    if not (user / ".git").exists() and not holds(user, "rev-parse", "--git-dir"):
        raise AtelierError(
            f"{user} is no git repository, and {what} {needs} a commit: "
            "`git init && git add . && git commit -m 'My studio'`"
        )
    if prefix := git(user, "rev-parse", "--show-prefix"):
        raise AtelierError(
            f"{user} is the folder {prefix.rstrip('/')} of a git repository: {what} needs the studio at its root"
        )
    if not holds(user, "rev-parse", "-q", "--verify", "HEAD^{commit}"):
        raise AtelierError(
            f"{user} has no commit yet, and {what} {needs} one: `git add . && git commit -m 'My studio'`"
        )


def made(user: Path, kind: str, maker: str) -> Path:
    """The tree, made where there is none, and without the locks of a git that was killed in it.

    Nobody else may be at work there. Raises AtelierError where something else has its place.
    """
    root = user.with_name(f"{user.name}.{kind}")
    mark = f"atelier.{kind}"
    if not root.exists():
        _make(user, root, mark)
    elif not (root / ".git").is_dir() or not holds(root, "config", "--local", "--get", mark):
        raise AtelierError(
            f"{root} is where the {maker} works, but no {maker} made it: move it away, or rename the studio"
        )
    for lock in (root / ".git").rglob("*.lock"):
        lock.unlink()
    git(root, "remote", "set-url", "origin", str(user))
    return root


def clear(root: Path, commit: str) -> None:
    """The files of `commit` and no others but data: DVC looks at their hashes, and to copy them takes time."""
    git(root, "checkout", "-q", "--force", "--detach", commit)
    git(root, "clean", "-qfd", "-e", "/data/", "-e", "/.atelier/")


def share(user: Path, root: Path, params: Params, models: Iterable[Path] = ()) -> list[Path]:
    """Have DVC's cache and remotes in common, what DVC tracks, and links to what no commit holds: paintings, models.

    The links, below `root`; all but `models` are what params.yaml names. Raises AtelierError where what the commit
    says is tracked cannot be had.
    """
    store.share(user, root)
    store.release(root)
    if tracked := _tracked(root):
        store.bring(root, tracked, lambda _: None, remote=dvc.remote(root) is not None)
    links = []
    for path in (*_named(params), *models):
        if path.is_absolute() or ".." in path.parts:
            continue  # the same for both trees
        ours, theirs = root / path, user / path
        if theirs.exists() and (ours.is_symlink() or not ours.exists()):
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.unlink(missing_ok=True)  # a link to what has moved
            ours.symlink_to(theirs)
            links.append(path)
    return links


def _make(user: Path, root: Path, mark: str) -> None:
    """A new clone, with copies of what has arrived in the user's tree, so that nothing is asked for twice."""
    temporary = root.with_name(f".{root.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)  # what a kill left
    # without the user's templates, which may hold hooks
    plain = ("--no-checkout", "--template=", "--origin=origin")
    git(user.parent, "clone", "-q", *plain, str(user), str(temporary))
    for key, value in ((mark, "true"), ("core.hooksPath", "/dev/null"), ("gc.autoDetach", "false")):
        git(temporary, "config", key, value)
    kept = (user / ".atelier" / name for name in ("augment", "images", "scrape"))
    for source in sorted(path for folder in kept for path in folder.glob("*")):
        _seed(source, temporary / ".atelier" / source.parent.name / source.name)
    temporary.rename(root)


def _seed(source: Path, target: Path) -> None:
    """A copy, never a link: both trees write to these files, and go their own ways from here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".sqlite":  # a copy through SQLite is whole even while somebody writes
        with closing(sqlite3.connect(source)) as theirs, closing(sqlite3.connect(target)) as ours:
            theirs.backup(ours)
    elif source.is_file() and not source.name.endswith((".sqlite-wal", ".sqlite-shm", ".tmp")):
        shutil.copyfile(source, target)


def _tracked(root: Path) -> list[Path]:
    """The .dvc files of the commit, but for champions: those are asked for one by one."""
    names = git(root, "ls-files", "-z", "--", "*.dvc", ":(exclude)models/champion-*").split("\0")
    return [Path(name) for name in names if name]


def _named(params: Params) -> Iterator[Path]:
    folder = params.scrape.folder
    names = (folder.path, folder.catalog, params.train.init_from, params.evaluate.inception_weights)
    yield from (Path(name) for name in names if name)
