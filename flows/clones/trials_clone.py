"""The tree in which trials run: a clone beside the user's, `../<name>.explore`, which shares its DVC cache.

`dvc exp run --temp` would do with less code, but stashes and restores the user's own edits for each trial, takes what
they are at that moment, copies all data anew, and begins without the bytes that have arrived. Here the user's tree is
read once, edits and all, and nothing but the refs of experiments ever comes back.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.paths import MODELS, PARAMS
from atelier.settings.load import load_params
from flows.clones import sibling
from flows.clones.sibling import NEEDED, RESULTS
from flows.repo import experiments, storage
from flows.repo.git import git, git_bytes, holds

BASE = "refs/atelier/explored"  # in the user's repository and in the clone: what an exploration began with
KIND = "explore"
NOBODY = ("-c", "user.name=Atelier", "-c", "user.email=atelier@localhost")  # experiments are of this machine


@dataclass(frozen=True, slots=True)
class Beside:
    """The clone at `root` of the tree at `user`, whose experiments belong to the commit `head`.

    `base` is a commit of the user's tree as it is, uncommitted edits included; `identity` names that content.
    """

    root: Path
    user: Path
    head: str
    base: str
    identity: str

    def clean(self) -> None:
        """Have the user's files as they were when the exploration began; data stay, and what DVC knows of them."""
        known = {name: (self.root / name).read_bytes() for name in RESULTS if (self.root / name).is_file()}
        sibling.clear(self.root, self.head)
        git(self.root, "read-tree", "-u", "--reset", self.base)
        git(
            self.root, "reset", "-q", self.head
        )  # edits are edits again: an experiment is what differs from HEAD
        added = git(self.root, "diff", "--name-only", "-z", "--diff-filter=A", self.head, self.base).split(
            "\0"
        )
        if names := [name for name in added if name]:
            git(self.root, "add", "--", *names)
        for name, content in known.items():
            write_bytes(self.root / name, content)

    def give(self, experiment: str) -> None:
        """Let the user's repository have an experiment."""
        ref = self.ref(experiment)
        git(self.user, "fetch", "-q", "--no-tags", "--no-write-fetch-head", str(self.root), f"+{ref}:{ref}")

    def has_been_given(self, experiment: str) -> bool:
        """Whether the user's repository has it, and still wants it."""
        return holds(self.user, "rev-parse", "-q", "--verify", self.ref(experiment))

    def ref(self, experiment: str) -> str:
        """Where DVC keeps an experiment."""
        return f"refs/exps/{self.head[:2]}/{self.head[2:]}/{experiment}"


def look(user: Path) -> Beside:
    """The tree at `user` as it is now, and where its trials would run; nothing is made yet.

    Raises AtelierError where experiments have no commit to belong to, or the trials would lack a file.
    """
    user = user.resolve()
    _check(user)
    head = git(user, "rev-parse", "HEAD")
    edited = _edited(user) or head
    tree = git(user, "rev-parse", f"{edited}^{{tree}}")
    listed = git(user, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0")
    asked = [line for line in listed if line.partition("\t")[2] not in RESULTS]
    identity = hashlib.sha256("\0".join([head, *asked]).encode()).hexdigest()
    base = git(user, *NOBODY, "commit-tree", tree, "-p", head, "-m", "What an exploration began with")
    return Beside(user.with_name(f"{user.name}.{KIND}"), user, head, base, identity)


def prepare(beside: Beside, name: str, explorations: Collection[str]) -> None:
    """Make the clone of exploration `name`, or clean it; nobody else may be at work in it.

    Refs of explorations that are neither `name` nor among `explorations`, and have no experiments, are deleted.
    """
    user, root = beside.user, beside.root
    sibling.made(user, KIND, "exploration")
    for key, value in (("user.name", "Atelier"), ("user.email", "atelier@localhost")):
        git(root, "config", key, value)
    # the user's repository keeps what it began with, for `apply` to know whose edits are whose
    git(user, "update-ref", f"{BASE}/{name}", beside.base)
    git(root, "fetch", "-q", "--no-tags", "--update-shallow", "origin", f"+{BASE}/{name}:{BASE}/{name}")
    _forget_removed(user, root, name, explorations)
    for name_ in RESULTS:
        (root / name_).unlink(missing_ok=True)
        if (user / name_).is_file():
            shutil.copyfile(user / name_, root / name_)
    for ref in git(root, "for-each-ref", "--format=%(refname)", "refs/exps/").splitlines():
        git(root, "update-ref", "-d", ref)  # what was worth it has been given
    beside.clean()
    models = [MODELS / path.name for path in (user / MODELS).glob("*") if path.is_dir()]
    links = sibling.share(user, root, load_params(root / PARAMS), models)
    exclude = root / ".git/info/exclude"  # they are no part of an experiment
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("".join(f"/{_literal(path)}\n" for path in links))


def _forget_removed(user: Path, root: Path, name: str, explorations: Collection[str]) -> None:
    """Drop the refs of explorations that were removed with all their experiments, and in the clone all but `name`."""
    experiments_ = git(user, "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/").splitlines()
    needed = {name, *(experiment.rpartition("-")[0] for experiment in experiments_)}
    for ref in git(user, "for-each-ref", "--format=%(refname)", f"{BASE}/").splitlines():
        other = ref.removeprefix(f"{BASE}/")
        if other not in needed and other not in explorations:
            git(user, "update-ref", "-d", ref)
    for ref in git(root, "for-each-ref", "--format=%(refname)", f"{BASE}/").splitlines():
        if ref != f"{BASE}/{name}":
            git(root, "update-ref", "-d", ref)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What it takes to turn the tree at `user` into an experiment.

    `taken` are the files that become the experiment's. `merged` are those that both the experiment and a commit of
    the user's since have changed, with the content that has both changes. `kept` are those that only the commits have
    changed: they stay. `lost` are the files whose content would be lost.
    """

    user: Path
    commit: str
    taken: tuple[str, ...]
    merged: Mapping[str, bytes]
    kept: tuple[str, ...]
    lost: tuple[str, ...]

    def write(self) -> None:
        """Change the files of the tree, and check out the stages' outputs. Nothing may be lost by that."""
        assert not self.lost
        if self.taken:
            names = ("--", *self.taken)
            git(self.user, "--literal-pathspecs", "restore", "--worktree", f"--source={self.commit}", *names)
        for name, content in self.merged.items():
            write_bytes(self.user / name, content)
        experiments.check_out(self.user)


def adoption(user: Path, experiment: str, name: str) -> Adoption:
    """What adopting an experiment of the exploration `name` changes; nothing is changed yet.

    Raises AtelierError where there is no such experiment, or where it and a commit since do not go together.
    """
    ref, start = _experiment(user, experiment, name)
    base = _base(user, name, start)
    now, then, theirs = _blobs(user, "HEAD"), _blobs(user, start), _blobs(user, ref)
    edited = _edits(user)
    taken, merged, kept = [], {}, []
    for path in sorted({*now, *then, *theirs, *edited}):
        was, wanted, is_now = then.get(path), theirs.get(path), now.get(path)
        if (edited.get(path, is_now) or None) == wanted:
            continue
        if is_now == was or (wanted != was and (path in RESULTS or is_now == base.get(path))):
            taken.append(path)
        elif wanted in (was, is_now):
            kept.append(path)
        else:
            merged[path] = _merged(user, path, base.get(path), is_now, wanted, experiment)
    lost = _edits_lost(user, experiment, edited, base)
    untracked = {path for path in taken if path not in now and path not in edited and path not in RESULTS}
    lost |= {path for path in untracked if _in_the_way(user, path, theirs[path])}
    if any(path.endswith((".dvc", "dvc.yaml")) for path in taken):
        lost |= _outs_lost(user, ref)
    return Adoption(
        user, ref, tuple(taken), merged, tuple(kept), tuple(sorted({*lost, *storage.unsaved(user)}))
    )


def lost_by(user: Path, experiment: str, name: str) -> list[str]:
    """The files that adopting an experiment of the exploration `name` would lose.

    These are uncommitted edits that are in no experiment and were not there when the exploration began, and files of
    DVC's folders that were not added. Raises AtelierError where there is no such experiment.
    """
    return list(adoption(user, experiment, name).lost)


def _experiment(user: Path, experiment: str, name: str) -> tuple[str, str]:
    """The ref of an experiment, and the commit it belongs to: HEAD, or one before it."""
    refs = git(user, "for-each-ref", "--format=%(refname)", "refs/exps/").splitlines()
    starts = {
        first + rest: ref
        for ref in refs
        for first, rest, *last in [ref.split("/")[2:]]
        if last == [experiment] and len(first + rest) == 40
    }
    head = git(user, "rev-parse", "HEAD")
    began = f"{BASE}/{name}^"
    preferred = [git(user, "rev-parse", began)] if holds(user, "rev-parse", "-q", "--verify", began) else []
    for start in (*preferred, head, *starts):
        if start in starts:
            return starts[start], start
    raise AtelierError(
        f"there is no experiment {experiment} of the commit {head[:10]}: "
        "`dvc exp show` lists what there is, with --all-commits that of other commits as well"
    )


def _base(user: Path, name: str, start: str) -> dict[str, str]:
    """The files with which the exploration began; those of its commit where that is not known any more."""
    ref = f"{BASE}/{name}"
    known = holds(user, "rev-parse", "-q", "--verify", ref) and git(user, "rev-parse", f"{ref}^") == start
    return _blobs(user, ref if known else start)


def _blobs(user: Path, commit: str) -> dict[str, str]:
    """Mode and content, by its name, of each file of a commit."""
    lines = git(user, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    return {path: kind for kind, _, path in (line.partition("\t") for line in lines if line)}


def _edits(user: Path) -> dict[str, str]:
    """The same of each file that git tracks and that differs from HEAD; empty for one that was removed."""
    edited = _edited(user)
    if edited is None:
        return {}
    names = git(user, "diff", "--name-only", "-z", "--no-renames", "HEAD", edited).split("\0")
    blobs = _blobs(user, edited)
    return {name: blobs.get(name, "") for name in names if name}


def _edits_lost(user: Path, experiment: str, edited: Mapping[str, str], base: Mapping[str, str]) -> set[str]:
    """The edits that neither an experiment has nor the tree had when the exploration began."""
    lost = {path for path, blob in edited.items() if path not in RESULTS and blob != base.get(path, "")}
    if lost:
        refs = git(user, "for-each-ref", "--format=%(refname)", "refs/exps/").splitlines()
        for ref in refs:
            if ref.count("/") == 4:  # refs/exps/12/3456…/name
                known = _blobs(user, ref)
                lost = {path for path in lost if edited[path] != known.get(path, "")}
    return lost


def _in_the_way(user: Path, path: str, wanted: str) -> bool:
    """Whether something that git does not track, and that is not the same, stands where an experiment has a file."""
    place = user / path
    if storage.link_above(user, place.parent) is not None or not all(
        folder.is_dir() for folder in place.parents if os.path.lexists(folder)
    ):
        return True
    if place.is_file() and not place.is_symlink():
        return git(user, "hash-object", "--", path) != wanted.split()[2]
    return os.path.lexists(place)


def _outs_lost(user: Path, experiment: str) -> set[str]:
    """What stands where the experiment has DVC's files, and DVC does not track at present."""
    ours = set(storage.outs(user))
    theirs = [out for out in storage.outs_of(user, experiment) if out not in ours and os.path.lexists(out)]
    return {out.relative_to(user).as_posix() for out in theirs}


def _merged(
    user: Path, path: str, base: str | None, ours: str | None, theirs: str | None, experiment: str
) -> bytes:
    """A file with both changes. Raises AtelierError where they are changes of the same lines."""
    if base and ours and theirs:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("ours", "base", "theirs")]
            for file, blob in zip(files, (ours, base, theirs), strict=True):
                file.write_bytes(git_bytes(user, "cat-file", "blob", blob.split()[2]))
            with contextlib.suppress(AtelierError):
                return git_bytes(user, "merge-file", "-p", "-q", *map(str, files))
    raise AtelierError(
        f"{path}: a commit since the exploration began and the experiment {experiment} both change the same lines. "
        f"`git switch --detach` to the commit with which it began, and apply it there"
    )


def _literal(path: Path) -> str:
    """A line of .gitignore that matches `path` and nothing else."""
    return re.sub(r"[\\*?\[\]#! ]", r"\\\g<0>", path.as_posix())


def _edited(user: Path) -> str | None:
    """A commit of the tree with its edits, which stay where they are; None where there are none."""
    if not git(user, "status", "--porcelain", "--untracked-files=no"):
        return None
    return git(user, *NOBODY, "stash", "create") or None


def _check(user: Path) -> None:
    sibling.check(user, "an experiment", "belongs to")
    lacking = git(user, "ls-files", "-z", "--others", "--exclude-standard", "--", "atelier", "tasks", *NEEDED)
    if names := [name for name in lacking.split("\0") if name]:
        raise AtelierError(
            f"git knows nothing of {', '.join(names)}, so trials would lack it: `git add {' '.join(names)}`"
        )
