"""The clone in which trials run, `../<name>.explore`, and the adoption of a trial's experiment by the user.

`dvc exp run --temp` would need less code, but for each trial it stashes and restores the user's edits as they are at
that moment, copies all data, and starts without the downloads. Here the user's work tree is read once, with its edits,
and only refs of experiments are written to the user's repository.
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
from flows.repo import storage
from flows.repo.git import git, git_bytes, holds

BASE = "refs/atelier/explored"  # in both repositories: the work tree with which an exploration began
KIND = "explore"
# of commits that stay on this machine
COMMITTER = ("-c", "user.name=Atelier", "-c", "user.email=atelier@localhost")


@dataclass(frozen=True, slots=True)
class TrialsClone:
    """The clone at `root` of the work tree at `user`; its experiments belong to the commit `head`.

    `base` is a commit of the user's work tree with its uncommitted edits; `identity` is a hash of its content.
    """

    root: Path
    user: Path
    head: str
    base: str
    identity: str

    def clean(self) -> None:
        """Reset the files to those with which the exploration began, except data/, dvc.lock and metrics.json."""
        root = self.root
        known = {name: (root / name).read_bytes() for name in RESULTS if (root / name).is_file()}
        sibling.check_out_clean(root, self.head)
        git(root, "read-tree", "-u", "--reset", self.base)
        git(root, "reset", "-q", self.head)  # edits are uncommitted again: an experiment is the difference from HEAD
        if added := _names(root, "diff", "--name-only", "-z", "--diff-filter=A", self.head, self.base):
            git(root, "add", "--", *added)
        for name, content in known.items():
            write_bytes(root / name, content)

    def export(self, experiment: str) -> None:
        """Copy the ref of an experiment to the user's repository."""
        ref = self.ref(experiment)
        git(self.user, "fetch", "-q", "--no-tags", "--no-write-fetch-head", str(self.root), f"+{ref}:{ref}")

    def is_exported(self, experiment: str) -> bool:
        """Whether the user's repository has the experiment, and the user has not removed it since."""
        return holds(self.user, "rev-parse", "-q", "--verify", self.ref(experiment))

    def ref(self, experiment: str) -> str:
        """Return the git ref under which DVC stores an experiment."""
        return f"refs/exps/{self.head[:2]}/{self.head[2:]}/{experiment}"


def snapshot(user: Path) -> TrialsClone:
    """Read the work tree at `user` as it is now; the clone is not created yet.

    Raises AtelierError if there is no commit, or if trials would lack a file that git does not track.
    """
    user = user.resolve()
    sibling.check_repository(user, "an experiment", "belongs to")
    if lacking := _names(user, "ls-files", "-z", "--others", "--exclude-standard", "--", "atelier", "tasks", *NEEDED):
        raise AtelierError(
            f"git does not track {', '.join(lacking)}, so trials would lack it: `git add {' '.join(lacking)}`"
        )
    head = git(user, "rev-parse", "HEAD")
    edited = _edited(user) or head
    tree = git(user, "rev-parse", f"{edited}^{{tree}}")
    listed = git(user, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0")
    inputs = [line for line in listed if line.partition("\t")[2] not in RESULTS]
    identity = hashlib.sha256("\0".join([head, *inputs]).encode()).hexdigest()
    message = "The work tree with which an exploration began"
    base = git(user, *COMMITTER, "commit-tree", tree, "-p", head, "-m", message)
    return TrialsClone(user.with_name(f"{user.name}.{KIND}"), user, head, base, identity)


def prepare(clone: TrialsClone, name: str, explorations: Collection[str]) -> None:
    """Create the clone for exploration `name`, or reset it. No other process may work in it.

    Refs of explorations that are neither `name` nor among `explorations`, and have no experiments, are deleted.
    """
    user, root = clone.user, clone.root
    sibling.ensure_clone(user, KIND, "exploration")
    for key, value in (("user.name", "Atelier"), ("user.email", "atelier@localhost")):
        git(root, "config", key, value)
    # also in the user's repository: `apply` has to distinguish the user's later edits
    git(user, "update-ref", f"{BASE}/{name}", clone.base)
    git(root, "fetch", "-q", "--no-tags", "--update-shallow", "origin", f"+{BASE}/{name}:{BASE}/{name}")
    _delete_refs(user, root, name, explorations)
    for name_ in RESULTS:
        (root / name_).unlink(missing_ok=True)
        if (user / name_).is_file():
            shutil.copyfile(user / name_, root / name_)
    for ref in _refs(root, "refs/exps/"):
        git(root, "update-ref", "-d", ref)  # completed trials were exported
    clone.clean()
    models = [MODELS / path.name for path in (user / MODELS).glob("*") if path.is_dir()]
    links = sibling.share(user, root, load_params(root / PARAMS), models)
    exclude = root / ".git/info/exclude"  # links are not part of an experiment
    exclude.parent.mkdir(exist_ok=True)
    literal = (re.sub(r"[\\*?\[\]#! ]", r"\\\g<0>", path.as_posix()) for path in links)
    exclude.write_text("".join(f"/{path}\n" for path in literal))


def _delete_refs(user: Path, root: Path, name: str, explorations: Collection[str]) -> None:
    """Delete the refs of explorations that were removed with all their experiments; in the clone all but `name`'s."""
    needed = {name, *explorations, *(ref.split("/")[-1].rpartition("-")[0] for ref in _refs(user, "refs/exps/"))}
    for tree, kept in ((user, needed), (root, {name})):
        for ref in _refs(tree, f"{BASE}/"):
            if ref.removeprefix(f"{BASE}/") not in kept:
                git(tree, "update-ref", "-d", ref)


@dataclass(frozen=True, slots=True)
class Adoption:
    """The changes that turn the work tree at `user` into an experiment.

    `taken` are files that get the experiment's content; `merged` maps files that the experiment and later commits of
    the user have changed to their merged content; `kept` are files that only later commits have changed. `lost` are
    files whose present content would be lost.
    """

    user: Path
    commit: str
    taken: tuple[str, ...]
    merged: Mapping[str, bytes]
    kept: tuple[str, ...]
    lost: tuple[str, ...]

    def write(self) -> None:
        """Change the files of the work tree and check out the stages' outputs. `lost` must be empty."""
        assert not self.lost
        if self.taken:
            names = ("--", *self.taken)
            git(self.user, "--literal-pathspecs", "restore", "--worktree", f"--source={self.commit}", *names)
        for name, content in self.merged.items():
            write_bytes(self.user / name, content)
        storage.check_out_stages(self.user)


def adoption(user: Path, experiment: str, name: str) -> Adoption:
    """Return what adopting an experiment of the exploration `name` would change; nothing is changed yet.

    Raises AtelierError if there is no such experiment, or if a later commit conflicts with it.
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
    return Adoption(user, ref, tuple(taken), merged, tuple(kept), tuple(sorted({*lost, *storage.unsaved(user)})))


def _experiment(user: Path, experiment: str, name: str) -> tuple[str, str]:
    """Return the ref of an experiment, and the commit to which it belongs."""
    starts = {}
    for ref in _refs(user, "refs/exps/"):
        first, rest, *last = ref.split("/")[2:]
        if last == [experiment] and len(first + rest) == 40:
            starts[first + rest] = ref
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
    """Return the files with which the exploration began; if their ref was deleted, those of its commit."""
    ref = f"{BASE}/{name}"
    known = holds(user, "rev-parse", "-q", "--verify", ref) and git(user, "rev-parse", f"{ref}^") == start
    return _blobs(user, ref if known else start)


def _blobs(user: Path, commit: str) -> dict[str, str]:
    """Return the mode, type and blob id of each file of a commit, by path."""
    lines = git(user, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    return {path: kind for kind, _, path in (line.partition("\t") for line in lines if line)}


def _edits(user: Path) -> dict[str, str]:
    """Return the same of each tracked file that differs from HEAD; an empty text for a deleted one."""
    if (edited := _edited(user)) is None:
        return {}
    blobs, names = _blobs(user, edited), _names(user, "diff", "--name-only", "-z", "--no-renames", "HEAD", edited)
    return {name: blobs.get(name, "") for name in names}


def _edits_lost(user: Path, experiment: str, edited: Mapping[str, str], base: Mapping[str, str]) -> set[str]:
    """Return the edited files whose content is in no experiment and was not there when the exploration began."""
    lost = {path for path, blob in edited.items() if path not in RESULTS and blob != base.get(path, "")}
    for ref in _refs(user, "refs/exps/") if lost else ():
        if ref.count("/") == 4:  # refs/exps/12/3456…/name
            known = _blobs(user, ref)
            lost = {path for path in lost if edited[path] != known.get(path, "")}
    return lost


def _in_the_way(user: Path, path: str, wanted: str) -> bool:
    """Whether an untracked file or folder with other content has the path of an experiment's file."""
    place = user / path
    if storage.link_above(user, place.parent) is not None or not all(
        folder.is_dir() for folder in place.parents if os.path.lexists(folder)
    ):
        return True
    if place.is_file() and not place.is_symlink():
        return git(user, "hash-object", "--", path) != wanted.split()[2]
    return os.path.lexists(place)


def _outs_lost(user: Path, experiment: str) -> set[str]:
    """Return existing paths that are outputs of DVC in the experiment only."""
    ours = set(storage.outs(user))
    theirs = [out for out in storage.outs_of(user, experiment) if out not in ours and os.path.lexists(out)]
    return {out.relative_to(user).as_posix() for out in theirs}


def _merged(user: Path, path: str, base: str | None, ours: str | None, theirs: str | None, experiment: str) -> bytes:
    """Merge two changes of a file. Raises AtelierError if they change the same lines."""
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


def _edited(user: Path) -> str | None:
    """Return a new commit of the work tree with its edits, which stay uncommitted; None if there are none."""
    if not git(user, "status", "--porcelain", "--untracked-files=no"):
        return None
    return git(user, *COMMITTER, "stash", "create") or None


def _names(root: Path, *words: str) -> list[str]:
    """The names that a git command lists with -z."""
    return [name for name in git(root, *words).split("\0") if name]


def _refs(root: Path, prefix: str) -> list[str]:
    return git(root, "for-each-ref", "--format=%(refname)", prefix).splitlines()
