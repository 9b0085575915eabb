"""The night's own clone beside the user's tree, `../<name>.nightly`: made once, and made clean before each night.

The user's repository is the truth, and nothing but a promotion's push ever changes it: the clone has the commit that
the user's HEAD names, with the robot's files of the branch over it, and whatever an earlier night left is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.paths import PARAMS
from atelier.settings import edit as editing
from atelier.settings.load import load_params
from atelier.settings.schema import Nightly, Params
from flows.clones import sibling
from flows.clones.sibling import RESULTS
from flows.repo import storage
from flows.repo.git import git, git_bytes, holds, identity

BASE = "refs/atelier/base"  # the user's HEAD as it was fetched
CHAMPIONS = ":(glob)models/champion*"  # of the robot's alone, like the results where the user has no newer


@dataclass(frozen=True, slots=True)
class Clone:
    """A clean clone at `root` of the tree at `user`, at the commit `base`; promotions go to `branch`.

    `uncommitted` names the files of the user's tree whose edits are no part of it.
    """

    root: Path
    user: Path
    branch: str
    base: str
    uncommitted: tuple[str, ...]

    @property
    def tip(self) -> str | None:
        """The branch's last commit in the user's repository; None before the first promotion."""
        ref = f"refs/remotes/origin/{self.branch}"
        return (
            git(self.root, "rev-parse", ref) if holds(self.root, "rev-parse", "-q", "--verify", ref) else None
        )

    def is_in(self, tip: str) -> bool:
        """Whether the user's commit is part of the branch already."""
        return holds(self.root, "merge-base", "--is-ancestor", self.base, tip)


def prepare(user: Path, params: Nightly) -> Clone:
    """The clone, made where there is none, and clean. Nobody else may be at work in it.

    Raises AtelierError for all that would make the night vain: no identity, no commit, the branch checked out, the
    remote out of reach.
    """
    user = user.resolve()
    name_and_mail = _check(user, params.branch)
    root = sibling.made(user, "nightly", "night")
    try:
        _fetch(root)
        for key, value in zip(("user.name", "user.email"), name_and_mail, strict=True):
            git(root, "config", key, value)
        clone = Clone(root, user, params.branch, git(root, "rev-parse", BASE), _uncommitted(user))
        _lay_out(clone)
    except AtelierError as error:
        raise AtelierError(
            f"{error}; where that stays so, remove {root}: the next night makes it anew"
        ) from None
    sibling.share(user, root, load_params(root / PARAMS))
    storage.remote(root)
    return clone


def committed_params(user: Path) -> Params:
    """The settings of the last commit of the tree at `user`, on which a night works, whatever was edited since.

    Raises AtelierError where there is none, or where they are wrong.
    """
    sibling.check(user, "a night", "works on")
    _check_committed(user, PARAMS.as_posix())
    head = git(user, "rev-parse", "--short", "HEAD")
    return load_params(Path(f"params.yaml (of commit {head})"), git_bytes(user, "show", "HEAD:params.yaml"))


def set_params(clone: Clone, changes: Mapping[str, object]) -> list[editing.Change]:
    """Give keys of the clone's params.yaml, dotted, these values; what that changed."""
    return editing.edit_params(clone.root / PARAMS, changes)


def _check(user: Path, branch: str) -> tuple[str, str]:
    """Name and e-mail of whoever commits here, after all else that git needs for a night."""
    sibling.check(user, "a night", "works on")
    for name in sibling.NEEDED:
        _check_committed(user, name)
    if holds(user, "cat-file", "-e", "HEAD:.gitmodules"):
        raise AtelierError(
            f"{user} has git submodules, which the night's clone would lack: it does not work with any"
        )
    _check_branch(user, branch)
    return identity(user)


def _check_committed(user: Path, name: str) -> None:
    if not holds(user, "cat-file", "-e", f"HEAD:{name}"):
        raise AtelierError(
            f"{name} is in no commit of {user}: `git add {name} && git commit` before the night"
        )


def _check_branch(user: Path, branch: str) -> None:
    if not holds(user, "check-ref-format", "--branch", branch):
        raise AtelierError(
            f"nightly.branch holds {branch!r}, which git takes for no branch's name: nightly, say"
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
    names = git(user, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").splitlines()
    for name in names:
        if name.startswith(f"{branch}/") or branch.startswith(f"{name}/"):
            raise AtelierError(
                f"there is a branch {name}, beside which git can make none named {branch}: set nightly.branch"
            )


def _fetch(root: Path) -> None:
    """All branches and tags as the user's repository has them now, and its HEAD; what is not there goes."""
    refs = (f"+HEAD:{BASE}", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    git(root, "fetch", "-q", "--prune", "--update-shallow", "--no-recurse-submodules", "origin", *refs)


def _lay_out(clone: Clone) -> None:
    """The user's commit as work tree, and the robot's files over it."""
    root = clone.root
    sibling.clear(root, clone.base)
    if (tip := clone.tip) is None:
        return
    git(root, "rm", "-qrf", "--ignore-unmatch", "--", CHAMPIONS)
    theirs = [CHAMPIONS] if holds(root, "cat-file", "-e", f"{tip}:models/champion.json") else []
    if clone.is_in(tip):  # else the user's, and what they do not know the run cache does
        theirs += [name for name in RESULTS if holds(root, "cat-file", "-e", f"{tip}:{name}")]
    if theirs:
        git(root, "checkout", "-q", tip, "--", *theirs)


def _uncommitted(user: Path) -> tuple[str, ...]:
    entries = iter(git(user, "status", "--porcelain", "-z").split("\0"))
    names = []
    for entry in entries:
        if entry:
            names.append(entry[3:])
            if "R" in entry[:2] or "C" in entry[:2]:
                next(entries)  # its old name
    return tuple(names)
