"""A second tree beside the user's, `../<name>.<kind>`: a clone that a flow makes once and works in from then on.

Folders of the user's tree that no commit holds are lent to the clone by symbolic links. To keep them unharmed, every
link is removed before anything is checked out in the clone, no link is placed where DVC writes, and DVC is asked to
write nowhere that a link leads to.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from atelier.errors import AtelierError
from atelier.model_store import named_path
from atelier.paths import DATA, DVC_YAML, LOCK_FILE, METRICS, MODELS, PARAMS, STATE
from atelier.settings.schema import Params
from flows.repo import locks, storage
from flows.repo.git import git, holds

NEEDED = (DVC_YAML.as_posix(), PARAMS.as_posix(), ".dvc/config")
RESULTS = (LOCK_FILE.as_posix(), METRICS.as_posix())  # what running stages writes, not what a person edits
WRITTEN = (
    ".dvc",
    ".dvc/config.local",
    ".dvc/tmp",
    STATE,
    DATA,
    MODELS,
    *RESULTS,
)  # besides DVC's outputs
CHAMPION = f"{MODELS}/champion-"


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
    """The path of the clone, which is made where there is none.

    The locks of a git that was killed in it and all symbolic links are removed. No other process may be at work there.
    Raises AtelierError where something else has its place.
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
    remove_links(root)
    git(root, "remote", "set-url", "origin", str(user))
    return root


def remove_links(root: Path) -> None:
    """Remove every symbolic link below `root` but those in `.git`, and each folder that has become empty by that."""
    for folder, folders, files in os.walk(root, topdown=True):  # follows no link
        if Path(folder) == root and ".git" in folders:
            folders.remove(".git")
        links = [path for name in (*folders, *files) if (path := Path(folder, name)).is_symlink()]
        for link in links:
            link.unlink()
        place = Path(folder)
        while links and place != root and not any(place.iterdir()):
            place.rmdir()
            place = place.parent


def clear(root: Path, commit: str) -> None:
    """Check out `commit`, and remove all other files but data/ and .atelier/.

    DVC compares the hashes of what lies in data/, so that only what differs is copied.
    """
    git(root, "checkout", "-q", "--force", "--detach", commit)
    git(root, "clean", "-qfd", "-e", f"/{DATA}/", "-e", f"/{STATE}/")
    for name in WRITTEN:
        storage.check_place(root, root / name)


def share(user: Path, root: Path, params: Params, models: Iterable[Path] = ()) -> list[Path]:
    """Give the clone DVC's cache and remotes, the files that DVC tracks, and links to what no commit holds.

    Linked are the files and folders that params.yaml names, and `models`. Returns the links, relative to `root`.
    Raises AtelierError where a tracked file cannot be had, or where a link would lead DVC into the user's tree.
    """
    storage.share(user, root)
    locks.release(root)
    wanted = [path for name in (*_named(params), *models) if (path := _inside(name)) is not None]
    lendable = [path for path in dict.fromkeys(wanted) if (user / path).exists()]
    names = git(root, "ls-files", "-z", "--", "*.dvc").split("\0")
    files = [Path(name) for name in names if name and (root / name).is_file()]  # an edit may have removed one
    outs = {*storage.outs(root), *(storage.outs(root, *files) if files else ())}
    for out in sorted(outs):
        storage.check_place(root, out)
    # champions are large: only those that are wanted and that the user's tree has, for a night brings its own
    tracked = [
        file for file in files if not str(file).startswith(CHAMPION) or file.with_suffix("") in lendable
    ]
    if tracked:
        storage.bring(root, tracked, lambda _: None)
    return [path for path in lendable if _lend(user, root, path, outs)]


def _lend(user: Path, root: Path, path: Path, outs: set[Path]) -> bool:
    """Link `path` of the clone to the user's, unless the clone has it already; whether a link was made."""
    ours = root / path
    for out in sorted(outs):
        if ours == out or out in ours.parents:
            return False  # DVC has brought it, or a stage makes it
        if ours in out.parents and not ours.exists():
            raise AtelierError(
                f"{path} is in no commit, and DVC writes {out.relative_to(root)} inside it, so it cannot be lent to "
                f"{root}: move one of the two, or track {path} with git or DVC"
            )
    if storage.link_above(root, ours.parent) is not None:
        return False  # a folder above it is lent
    if ours.exists():
        if git(root, "ls-files", "--", path.as_posix()) or any(ours in out.parents for out in outs):
            return False
        if ours.is_dir():  # what an earlier commit or night left in its place
            shutil.rmtree(ours)
        else:
            ours.unlink()
    ours.parent.mkdir(parents=True, exist_ok=True)
    ours.symlink_to(user / path)
    return True


def _inside(path: Path) -> Path | None:
    """`path` without `..`, relative to the studio; None where it is absolute or outside: the same for both trees."""
    inside = Path(os.path.normpath(path))
    return None if inside.is_absolute() or inside.parts[:1] in ((), ("..",)) else inside


def _make(user: Path, root: Path, mark: str) -> None:
    """A new clone, with copies of what has arrived in the user's tree, so that nothing is asked for twice."""
    temporary = root.with_name(f".{root.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)  # what a kill left
    # without the user's templates, which may hold hooks
    plain = ("--no-checkout", "--template=", "--origin=origin")
    git(user.parent, "clone", "-q", *plain, str(user), str(temporary))
    for key, value in ((mark, "true"), ("core.hooksPath", "/dev/null"), ("gc.autoDetach", "false")):
        git(temporary, "config", key, value)
    kept = (user / STATE / name for name in ("augment", "images", "scrape"))
    for source in sorted(path for folder in kept for path in folder.glob("*")):
        _seed(source, temporary / STATE / source.parent.name / source.name)
    temporary.rename(root)


def _seed(source: Path, target: Path) -> None:
    """A copy, never a link: both trees write to these files, and go their own ways from here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".sqlite":  # a copy through SQLite is whole even while somebody writes
        try:
            with closing(sqlite3.connect(source)) as theirs, closing(sqlite3.connect(target)) as ours:
                theirs.backup(ours)
        except (
            sqlite3.DatabaseError
        ):  # damaged: the stage that owns it sets it aside, and here it is made anew
            target.unlink(missing_ok=True)
    elif source.is_file() and not source.name.endswith((".sqlite-wal", ".sqlite-shm", ".tmp", ".damaged")):
        shutil.copyfile(source, target)


def _named(params: Params) -> Iterator[Path]:
    """The paths of files and folders in params.yaml."""
    folder, network = params.scrape.folder, params.upscale.external
    names = (
        folder.path,
        folder.catalog,
        named_path(params.train.init_from),
        params.evaluate.inception_weights,
        network.path,
    )
    yield from (Path(name) for name in names if name)
