"""Git clones beside the user's work tree, `../<name>.<kind>`, which flows create once and reuse.

Folders of the user's work tree that are in no commit appear in a clone as symbolic links. So that nothing is written
through them, all links are removed before anything is checked out in the clone, none is created where DVC writes, and
DVC is never started to write below one.

The nights' clone, `../<name>.nightly`, is reset before each night to the commit of the user's HEAD, with the files that
nights write, from their branch, over it. Only a promotion's push changes the user's repository.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.model_store import named_path
from atelier.paths import DATA, DVC_YAML, LOCK_FILE, METRICS, MODELS, PARAMS, STATE
from atelier.progress import ignore_progress
from atelier.settings.load import load_params
from atelier.settings.schema import Nightly, Params
from flows.repo import locks, storage
from flows.repo.git import git, git_bytes, holds, identity

NEEDED = (DVC_YAML.as_posix(), PARAMS.as_posix(), ".dvc/config")
RESULTS = (LOCK_FILE.as_posix(), METRICS.as_posix())  # written by running stages, not edited by people
WRITTEN = (".dvc", ".dvc/config.local", ".dvc/tmp", STATE, DATA, MODELS, *RESULTS)  # besides DVC's outputs
CHAMPION_PREFIX = f"{MODELS}/champion-"
BASE = "refs/atelier/base"  # the user's HEAD when it was fetched
CHAMPIONS = ":(glob)models/champion*"  # written by nights alone; so are the results, unless the user has newer ones


def check_repository(user: Path, what: str, needs: str) -> None:
    """Raise AtelierError unless `user` is the root of a git repository with a commit.

    `what` and `needs` are words of the message: "a night" "works on" a commit.
    """
    git(user, "--version")  # raises AtelierError if git is not installed
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


def ensure_clone(user: Path, kind: str, maker: str) -> Path:
    """Return the path of the clone, which is created if it does not exist.

    Locks that a killed git left there are removed, and all symbolic links. No other process may work in the clone.
    Raises AtelierError if something that is not this clone has its path.
    """
    root = user.with_name(f"{user.name}.{kind}")
    mark = f"atelier.{kind}"
    if not root.exists():
        _create(user, root, mark)
    elif not (root / ".git").is_dir() or not holds(root, "config", "--local", "--get", mark):
        raise AtelierError(
            f"{root} is the place of the {maker}'s clone, but is something else: move it away, or rename the studio"
        )
    for lock in (root / ".git").rglob("*.lock"):
        lock.unlink()
    remove_links(root)
    git(root, "remote", "set-url", "origin", str(user))
    return root


def remove_links(root: Path) -> None:
    """Remove every symbolic link below `root` except in `.git`, and the folders that are empty afterwards."""
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


def check_out_clean(root: Path, commit: str) -> None:
    """Check out `commit`, and remove all other files except data/ and .atelier/.

    DVC compares the hashes of the files in data/, and copies only those that differ.
    """
    git(root, "checkout", "-q", "--force", "--detach", commit)
    git(root, "clean", "-qfd", "-e", f"/{DATA}/", "-e", f"/{STATE}/")
    for name in WRITTEN:
        storage.check_place(root, root / name)


def share(user: Path, root: Path, params: Params, models: Iterable[Path] = ()) -> list[Path]:
    """Set up DVC's cache and remotes in the clone, check out the files that DVC tracks, and link what is in no commit.

    Files and folders that params.yaml names are linked, and `models`. Returns the links, relative to `root`.
    Raises AtelierError if a tracked file is in neither cache nor remote, or if DVC would write through a link.
    """
    storage.share(user, root)
    locks.release(root)
    folder, weights = params.scrape.folder, params.evaluate.inception_weights
    named: list[str | Path | None] = [folder.path, folder.catalog, named_path(params.train.init_from), weights]
    named += [params.upscale.external.path, *models]
    wanted = [path for name in named if name and (path := _inside(Path(name))) is not None]
    linkable = [path for path in dict.fromkeys(wanted) if (user / path).exists()]
    names = git(root, "ls-files", "-z", "--", "*.dvc").split("\0")
    files = [Path(name) for name in names if name and (root / name).is_file()]  # an edit may have removed one
    outs = {*storage.outs(root), *(storage.outs(root, *files) if files else ())}
    for out in sorted(outs):
        storage.check_place(root, out)
    # champions are large: only those that are wanted and in the user's tree; a night checks out its own
    tracked = [file for file in files if not str(file).startswith(CHAMPION_PREFIX) or file.with_suffix("") in linkable]
    if tracked:
        storage.bring(root, tracked, ignore_progress)
    return [path for path in linkable if _link(user, root, path, outs)]


@dataclass(frozen=True, slots=True)
class NightClone:
    """The reset clone at `root` of the work tree at `user`, at its commit `base`; promotions go to `branch`.

    `uncommitted` names the files of the user's work tree with edits that are not in the clone.
    """

    root: Path
    user: Path
    branch: str
    base: str
    uncommitted: tuple[str, ...]

    @property
    def tip(self) -> str | None:
        """The last commit of the branch in the user's repository; None before the first promotion."""
        ref = f"refs/remotes/origin/{self.branch}"
        return git(self.root, "rev-parse", ref) if holds(self.root, "rev-parse", "-q", "--verify", ref) else None


def prepare_night_clone(user: Path, params: Nightly) -> NightClone:
    """Create the clone if needed and reset it. No other process may work in it.

    Raises AtelierError if the night could not promote a model: git has no name and e-mail set, there is no commit, the
    branch is checked out, or the remote is out of reach.
    """
    user = user.resolve()
    name_and_mail = _check_for_night(user, params.branch)
    root = ensure_clone(user, "nightly", "night")
    try:
        # HEAD, all branches and all tags of the user's repository; those that it does not have are deleted
        refs = (f"+HEAD:{BASE}", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        git(root, "fetch", "-q", "--prune", "--update-shallow", "--no-recurse-submodules", "origin", *refs)
        for key, value in zip(("user.name", "user.email"), name_and_mail, strict=True):
            git(root, "config", key, value)
        edits = git(user, "status", "--porcelain", "--no-renames", "-z").split("\0")
        uncommitted = tuple(edit[3:] for edit in edits if edit)
        clone = NightClone(root, user, params.branch, git(root, "rev-parse", BASE), uncommitted)
        _check_out_for_night(clone)
    except AtelierError as error:
        raise AtelierError(f"{error}; if that happens again, remove {root}: the next night makes it anew") from None
    share(user, root, load_params(root / PARAMS))
    storage.remote(root)
    return clone


def committed_params(user: Path) -> Params:
    """Return the params of the last commit of the work tree at `user`, which a night uses instead of later edits.

    Raises AtelierError if there is no commit, or if they are invalid.
    """
    check_repository(user, "a night", "works on")
    _check_committed(user, PARAMS.as_posix())
    head = git(user, "rev-parse", "--short", "HEAD")
    return load_params(Path(f"params.yaml (of commit {head})"), git_bytes(user, "show", "HEAD:params.yaml"))


def _check_for_night(user: Path, branch: str) -> tuple[str, str]:
    """Check all that a night needs of git; return the user's name and e-mail."""
    check_repository(user, "a night", "works on")
    for name in NEEDED:
        _check_committed(user, name)
    if holds(user, "cat-file", "-e", "HEAD:.gitmodules"):
        raise AtelierError(f"{user} has git submodules, which the night's clone would lack: it does not work with any")
    if not holds(user, "check-ref-format", "--branch", branch):
        raise AtelierError(
            f"nightly.branch holds {branch!r}, which is no valid name of a branch: use for example nightly"
        )
    place = ""
    for line in git(user, "worktree", "list", "--porcelain").splitlines():
        key, _, value = line.partition(" ")
        if key == "worktree":
            place = value
        elif line == f"branch refs/heads/{branch}":
            raise AtelierError(
                f"the branch {branch} is checked out in {place}, and a night could not commit to it: "
                f"`git switch` to another there, or set nightly.branch"
            )
    for name in git(user, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").splitlines():
        if name.startswith(f"{branch}/") or branch.startswith(f"{name}/"):
            raise AtelierError(
                f"git cannot create a branch {branch} beside the branch {name}: set nightly.branch to another name"
            )
    return identity(user)


def _check_committed(user: Path, name: str) -> None:
    if not holds(user, "cat-file", "-e", f"HEAD:{name}"):
        raise AtelierError(f"{name} is in no commit of {user}: `git add {name} && git commit` before the night")


def _check_out_for_night(clone: NightClone) -> None:
    """Check out the user's commit, and over it the files that nights write."""
    root = clone.root
    check_out_clean(root, clone.base)
    if (tip := clone.tip) is None:
        return
    git(root, "rm", "-qrf", "--ignore-unmatch", "--", CHAMPIONS)
    theirs = [CHAMPIONS] if holds(root, "cat-file", "-e", f"{tip}:models/champion.json") else []
    # if the branch has the user's commit; else the user's are newer, and the run cache has the rest
    if holds(root, "merge-base", "--is-ancestor", clone.base, tip):
        theirs += [name for name in RESULTS if holds(root, "cat-file", "-e", f"{tip}:{name}")]
    if theirs:
        git(root, "checkout", "-q", tip, "--", *theirs)


def _link(user: Path, root: Path, path: Path, outs: set[Path]) -> bool:
    """Link `path` of the clone to the user's unless the clone has it; return whether a link was created."""
    ours = root / path
    for out in sorted(outs):
        if ours == out or out in ours.parents:
            return False  # DVC has checked it out, or a stage writes it
        if ours in out.parents and not ours.exists():
            raise AtelierError(
                f"{path} is in no commit, and DVC writes {out.relative_to(root)} inside it, so it cannot be linked "
                f"into {root}: move one of the two, or track {path} with git or DVC"
            )
    if storage.link_above(root, ours.parent) is not None:
        return False  # a folder above it is a link
    if ours.exists():
        if git(root, "ls-files", "--", path.as_posix()) or any(ours in out.parents for out in outs):
            return False
        if ours.is_dir():  # left by an earlier commit or night
            shutil.rmtree(ours)
        else:
            ours.unlink()
    ours.parent.mkdir(parents=True, exist_ok=True)
    ours.symlink_to(user / path)
    return True


def _inside(path: Path) -> Path | None:
    """Return `path` without `..`; None if it is absolute or outside the studio, and so the same for both trees."""
    inside = Path(os.path.normpath(path))
    return None if inside.is_absolute() or inside.parts[:1] in ((), ("..",)) else inside


def _create(user: Path, root: Path, mark: str) -> None:
    """Create the clone, with copies of the user's downloads, so that nothing is downloaded twice."""
    temporary = root.with_name(f".{root.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    # without the user's templates, which may contain hooks
    plain = ("--no-checkout", "--template=", "--origin=origin")
    git(user.parent, "clone", "-q", *plain, str(user), str(temporary))
    for key, value in ((mark, "true"), ("core.hooksPath", "/dev/null"), ("gc.autoDetach", "false")):
        git(temporary, "config", key, value)
    kept = (user / STATE / name for name in ("augment", "images", "scrape"))
    for source in sorted(path for folder in kept for path in folder.glob("*")):
        target = temporary / STATE / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".sqlite":  # a copy through SQLite is complete even while another process writes
            try:
                with closing(sqlite3.connect(source)) as theirs, closing(sqlite3.connect(target)) as ours:
                    theirs.backup(ours)
            except sqlite3.DatabaseError:  # damaged: the stage creates it again
                target.unlink(missing_ok=True)
        elif source.is_file() and not source.name.endswith((".sqlite-wal", ".sqlite-shm", ".tmp", ".damaged")):
            shutil.copyfile(source, target)
    temporary.rename(root)
