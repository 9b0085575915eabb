"""The clone in which nights run, `../<name>.nightly`: created once, reset before each night.

Only a promotion's push changes the user's repository. The clone is reset to the commit of the user's HEAD, with the
files that nights write, from their branch, over it; what an earlier night left is dropped.
"""

from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.paths import PARAMS
from atelier.settings.load import load_params
from atelier.settings.schema import Nightly, Params
from flows.clones import sibling
from flows.clones.sibling import RESULTS
from flows.repo import storage
from flows.repo.git import git, git_bytes, holds, identity

BASE = "refs/atelier/base"  # the user's HEAD when it was fetched
CHAMPIONS = ":(glob)models/champion*"  # written by nights alone; so are the results, unless the user has newer ones


@dataclass(frozen=True, slots=True)
class Clone:
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


def prepare(user: Path, params: Nightly) -> Clone:
    """Create the clone if needed and reset it. No other process may work in it.

    Raises AtelierError if the night could not promote a model: git knows no name and e-mail, there is no commit, the
    branch is checked out, or the remote is out of reach.
    """
    user = user.resolve()
    name_and_mail = _check(user, params.branch)
    root = sibling.ensure_clone(user, "nightly", "night")
    try:
        # HEAD, all branches and all tags of the user's repository; those that it does not have are deleted
        refs = (f"+HEAD:{BASE}", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        git(root, "fetch", "-q", "--prune", "--update-shallow", "--no-recurse-submodules", "origin", *refs)
        for key, value in zip(("user.name", "user.email"), name_and_mail, strict=True):
            git(root, "config", key, value)
        edits = git(user, "status", "--porcelain", "--no-renames", "-z").split("\0")
        uncommitted = tuple(edit[3:] for edit in edits if edit)
        clone = Clone(root, user, params.branch, git(root, "rev-parse", BASE), uncommitted)
        _check_out(clone)
    except AtelierError as error:
        raise AtelierError(f"{error}; if that happens again, remove {root}: the next night makes it anew") from None
    sibling.share(user, root, load_params(root / PARAMS))
    storage.remote(root)
    return clone


def committed_params(user: Path) -> Params:
    """Return the params of the last commit of the work tree at `user`, which a night uses instead of later edits.

    Raises AtelierError if there is no commit, or if they are invalid.
    """
    sibling.check_repository(user, "a night", "works on")
    _check_committed(user, PARAMS.as_posix())
    head = git(user, "rev-parse", "--short", "HEAD")
    return load_params(Path(f"params.yaml (of commit {head})"), git_bytes(user, "show", "HEAD:params.yaml"))


def _check(user: Path, branch: str) -> tuple[str, str]:
    """Check all that a night needs of git; return the user's name and e-mail."""
    sibling.check_repository(user, "a night", "works on")
    for name in sibling.NEEDED:
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


def _check_out(clone: Clone) -> None:
    """Check out the user's commit, and over it the files that nights write."""
    root = clone.root
    sibling.check_out_clean(root, clone.base)
    if (tip := clone.tip) is None:
        return
    git(root, "rm", "-qrf", "--ignore-unmatch", "--", CHAMPIONS)
    theirs = [CHAMPIONS] if holds(root, "cat-file", "-e", f"{tip}:models/champion.json") else []
    # if the branch has the user's commit; else the user's are newer, and the run cache has the rest
    if holds(root, "merge-base", "--is-ancestor", clone.base, tip):
        theirs += [name for name in RESULTS if holds(root, "cat-file", "-e", f"{tip}:{name}")]
    if theirs:
        git(root, "checkout", "-q", tip, "--", *theirs)
