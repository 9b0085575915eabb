"""The tree in which trials run: a clone beside the user's, `../<name>.explore`, which shares its DVC cache.

`dvc exp run --temp` would do with less code, but stashes and restores the user's own edits for each trial, takes what
they are at that moment, copies all data anew, and begins without the bytes that have arrived. Here the user's tree is
read once, edits and all, and nothing but the refs of experiments ever comes back.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.params import load_params
from flows import annex
from flows.annex import NEEDED, RESULTS
from flows.git import git, holds

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
        annex.clear(self.root, self.head)
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
            (self.root / name).write_bytes(content)

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


def prepare(beside: Beside, name: str) -> None:
    """Make the clone of exploration `name`, or clean it; nobody else may be at work in it."""
    user, root = beside.user, beside.root
    annex.made(user, KIND, "exploration")
    for key, value in (("user.name", "Atelier"), ("user.email", "atelier@localhost")):
        git(root, "config", key, value)
    # the user's repository keeps what it began with, for `apply` to know whose edits are whose
    git(user, "update-ref", f"{BASE}/{name}", beside.base)
    git(root, "fetch", "-q", "--no-tags", "--update-shallow", "origin", f"+{BASE}/{name}:{BASE}/{name}")
    for name_ in RESULTS:
        (root / name_).unlink(missing_ok=True)
        if (user / name_).is_file():
            shutil.copyfile(user / name_, root / name_)
    for ref in git(root, "for-each-ref", "--format=%(refname)", "refs/exps/").splitlines():
        git(root, "update-ref", "-d", ref)  # what was worth it has been given
    beside.clean()
    models = [Path("models") / path.name for path in (user / "models").glob("*") if path.is_dir()]
    links = annex.share(user, root, load_params(root / "params.yaml"), models)
    exclude = root / ".git/info/exclude"  # they are no part of an experiment
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("".join(f"/{path.as_posix()}\n" for path in links))


def lost_by(user: Path, experiment: str, name: str) -> list[str]:
    """The files whose uncommitted edits are in no experiment, nor were there when exploration `name` began.

    Raises AtelierError where there is no such experiment.
    """
    head = git(user, "rev-parse", "HEAD")
    exps = f"refs/exps/{head[:2]}/{head[2:]}"
    if not holds(user, "rev-parse", "-q", "--verify", f"{exps}/{experiment}"):
        raise AtelierError(
            f"there is no experiment {experiment} of the commit {head[:10]}: `dvc exp show` lists what there is"
        )
    edited = _edited(user)
    if edited is None:
        return []
    names = git(user, "diff", "--name-only", "-z", "HEAD", edited).split("\0")
    known = git(user, "for-each-ref", "--format=%(refname)", f"{exps}/", f"{BASE}/{name}").splitlines()
    return [
        path
        for path in names
        if path
        and path not in RESULTS
        and _blob(user, edited, path) not in {_blob(user, ref, path) for ref in known}
    ]


def _edited(user: Path) -> str | None:
    """A commit of the tree with its edits, which stay where they are; None where there are none."""
    if not git(user, "status", "--porcelain", "--untracked-files=no"):
        return None
    return git(user, *NOBODY, "stash", "create") or None


def _blob(user: Path, commit: str, path: str) -> str:
    """The content of a file, by its name; empty where the commit has none."""
    return git(user, "ls-tree", "--full-tree", "--object-only", commit, "--", path)


def _check(user: Path) -> None:
    annex.check(user, "an experiment", "belongs to")
    lacking = git(user, "ls-files", "-z", "--others", "--exclude-standard", "--", "atelier", "tasks", *NEEDED)
    if names := [name for name in lacking.split("\0") if name]:
        raise AtelierError(
            f"git knows nothing of {', '.join(names)}, so trials would lack it: `git add {' '.join(names)}`"
        )
