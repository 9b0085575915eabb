"""Find earlier versions of `atelier/` in git that may have painted a picture, and extract one into a folder.

Only code that HEAD, a local branch or a tag reaches is extracted: commits of a remote's branch may be anybody's.
"""

import io
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from atelier.files import replacing_directory
from atelier.paths import REPRODUCE
from atelier.provenance.facts import REPAINT_MODULE
from flows.records import history
from flows.records.history import Commit
from flows.repo.git import git, git_bytes, holds

CODE = "atelier"
ENTRY_POINT = f"{REPAINT_MODULE.replace('.', '/')}.py"  # what paints pictures again; the earliest commits lack it
EXTRACTED = REPRODUCE / "code"
MAX_TRIED = 16  # versions, the newest

Paths = tuple[str, ...]
FileIds = tuple[str, ...]  # `path id` of each file that a version of the code consists of


@dataclass(frozen=True, slots=True)
class Code:
    """A version of `atelier/`: the newest commit that has it, and the id of its git tree."""

    commit: Commit
    tree: str

    def __str__(self) -> str:
        return f"the code of commit {self.commit}"


@dataclass(frozen=True, slots=True)
class Versions:
    """`codes` are to be tried, newest first; `untrusted` commits have code that only a remote's branch reaches.

    `unable` versions cannot paint pictures again, and `more` are beyond MAX_TRIED.
    """

    codes: tuple[Code, ...]
    untrusted: tuple[Commit, ...]
    unable: int
    more: int


def find_versions(root: Path, model_md5: str, stages: Collection[str]) -> Versions:
    """Find the versions of the code, other than the present one, at commits whose dvc.lock names the model.

    Two commits have the same version if the files that `stages` depend on are the same.
    """
    commits = _commits_naming(root, model_md5, stages)
    newest: dict[FileIds, Code] = {}
    untrusted: dict[FileIds, Commit] = {}
    unable: set[FileIds] = set()
    found = _look_up(root, [(commit.id, paths) for commit, paths in commits])
    for (commit, _), (version, tree, has_entry_point) in zip(commits, found, strict=True):
        if not tree:
            continue
        if not has_entry_point:
            unable.add(version)
        elif commit.trusted:
            newest.setdefault(version, Code(commit, tree))
        else:
            untrusted.setdefault(version, commit)
    present: set[FileIds] = set()
    if commits and holds(root, "diff", "--quiet", "HEAD", "--", CODE):  # the code was not edited since HEAD
        present = {version for version, _, _ in _look_up(root, {("HEAD", paths) for _, paths in commits})}
    codes = [code for version, code in newest.items() if version not in present]
    codes.sort(key=lambda code: (code.commit.age, code.tree))
    return Versions(
        tuple(codes[:MAX_TRIED]),
        tuple(commit for version, commit in untrusted.items() if version not in newest and version not in present),
        len(unable - newest.keys() - present),
        len(codes[MAX_TRIED:]),
    )


def extract(root: Path, code: Code) -> Path:
    """Extract the code into a folder, unless an earlier call did, and return the folder that contains `atelier/`."""
    if not code.commit.trusted:
        raise ValueError(f"{code.commit.id} is not reached by HEAD, a local branch or a tag")
    folder = root / EXTRACTED / code.tree
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            archive = git_bytes(root, "archive", "--format=tar", f"--prefix={CODE}/", code.tree)
            with replacing_directory(folder) as empty, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                _extract(tar, empty)
    return folder


def _extract(tar: tarfile.TarFile, to: Path) -> None:
    """Extract regular files only, none outside `to`; Python 3.11.0 to 3.11.3 lack the `filter` that does this."""
    for member in tar:
        path = PurePosixPath(member.name)
        content = tar.extractfile(member) if member.isreg() else None
        if content and not path.is_absolute() and ".." not in path.parts:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(content.read())


def _commits_naming(root: Path, model_md5: str, stages: Collection[str]) -> list[tuple[Commit, Paths]]:
    """Commits whose dvc.lock names the model, newest first, each with the code files that its stages depend on."""
    found: dict[str, tuple[Commit, Paths]] = {}
    for lock in history.locks(root, containing=model_md5):
        deps = {path for stage in stages if stage in lock.stages for path in lock.stages[stage].deps}
        paths = tuple(sorted(path for path in deps if path.startswith(f"{CODE}/") and "\n" not in path))
        for commit in lock.commits if paths else ():
            found.setdefault(commit.id, (commit, paths))
    return sorted(found.values(), key=lambda pair: pair[0].age)


def _look_up(root: Path, commits: Collection[tuple[str, Paths]]) -> Iterator[tuple[FileIds, str, bool]]:
    """For each commit: the version of its code, the id of its `atelier/`, and whether that can paint pictures again."""
    if not commits:
        return
    prefix = git(root, "rev-parse", "--show-prefix")
    names = "".join(f"{id}:{prefix}{path}\n" for id, paths in commits for path in (CODE, ENTRY_POINT, *paths))
    answers = git(root, "cat-file", "--batch-check=%(objectname) %(objecttype)", given=names).split("\n")
    # an empty text for an object that does not exist
    ids = iter([answer.split(" ")[0] if answer.endswith((" blob", " tree")) else "" for answer in answers])
    for _, paths in commits:
        tree, entry_point = next(ids), next(ids)
        yield tuple(f"{path} {next(ids)}" for path in paths), tree, bool(entry_point)
