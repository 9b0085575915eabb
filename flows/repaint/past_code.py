"""Earlier code of this repository that may have painted a picture: found in git, laid out as a folder, trusted or not.

Only what HEAD, a local branch or a tag reaches is ever laid out: a remote's branch is a stranger's code. Runs nothing.
"""

import io
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from atelier.files import replacing_directory
from atelier.provenance.contract import MODULE
from flows.records import history
from flows.records.history import Commit
from flows.repo.git import git, git_bytes, holds

CODE = "atelier"
DOOR = f"{MODULE.replace('.', '/')}.py"
LAID_OUT = Path(".atelier/reproduce/code")
MOST = 16  # versions that are tried, the newest


@dataclass(frozen=True, slots=True)
class Code:
    """The newest commit that has it, and git's name for its `atelier/`."""

    commit: Commit
    tree: str

    def __str__(self) -> str:
        return f"the code of commit {self.commit}"


@dataclass(frozen=True, slots=True)
class Earlier:
    """The codes to try, newest first; those that only a stranger's commits have; how many know no repainting."""

    codes: tuple[Code, ...]
    strangers: tuple[Commit, ...]
    silent: int
    more: int


def earlier(root: Path, model_md5: str, stages: Collection[str]) -> Earlier:
    """The versions of the code that `stages` depend on, other than the present, at commits that name the model.

    Where nothing but other code differs, two commits have one version.
    """
    named = list(_named(root, model_md5, stages))
    looked = dict(zip(named, _look(root, named), strict=True))
    newest: dict[tuple[str, ...], Code] = {}
    strangers: dict[tuple[str, ...], Commit] = {}
    silent: set[tuple[str, ...]] = set()
    for (commit, _), (key, tree, has_door) in looked.items():
        if not tree:
            continue
        if not has_door:
            silent.add(key)
        elif commit.trusted:
            newest.setdefault(key, Code(commit, tree))
        else:
            strangers.setdefault(key, commit)
    present = _present(root, {paths for _, paths in named})
    codes = sorted((code for key, code in newest.items() if key not in present), key=_age)
    unknown = [commit for key, commit in strangers.items() if key not in newest and key not in present]
    return Earlier(
        tuple(codes[:MOST]), tuple(unknown), len(silent - newest.keys() - present), len(codes[MOST:])
    )


def lay_out(root: Path, code: Code) -> Path:
    """A folder that holds the code's `atelier/`."""
    if not code.commit.trusted:
        raise ValueError(f"{code.commit.id} is a stranger's")
    folder = root / LAID_OUT / code.tree
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            archive = git_bytes(root, "archive", "--format=tar", f"--prefix={CODE}/", code.tree)
            with replacing_directory(folder) as empty, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                _extract(tar, empty)
    return folder


def _extract(tar: tarfile.TarFile, to: Path) -> None:
    """Only files, no links, and none above `to`; not `extractall(filter=)`, which Python 3.11.0 to 3.11.3 lack."""
    for member in tar:
        path = PurePosixPath(member.name)
        content = tar.extractfile(member) if member.isreg() else None
        if content and not path.is_absolute() and ".." not in path.parts:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(content.read())


def _named(root: Path, model_md5: str, stages: Collection[str]) -> Iterator[tuple[Commit, tuple[str, ...]]]:
    """Commits whose dvc.lock names the model, newest first, each with the code that its stages depend on."""
    seen: set[str] = set()
    found = []
    for lock in history.locks(root, naming=model_md5):
        deps = {path for stage in stages if stage in lock.stages for path in lock.stages[stage].deps}
        paths = tuple(sorted(path for path in deps if path.startswith(f"{CODE}/") and "\n" not in path))
        for commit in lock.commits:
            if paths and commit.id not in seen:
                seen.add(commit.id)
                found.append((commit, paths))
    yield from sorted(found, key=lambda pair: pair[0].age)


def _look(
    root: Path, wanted: Collection[tuple[Commit, tuple[str, ...]]]
) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """For each: the version of its code, git's name for its `atelier/`, whether that can be asked to paint."""
    if not wanted:
        return
    prefix = git(root, "rev-parse", "--show-prefix")
    asked = [f"{commit.id}:{prefix}{path}" for commit, paths in wanted for path in (CODE, DOOR, *paths)]
    answers = iter(_names(root, asked))
    for _, paths in wanted:
        tree, door = next(answers), next(answers)
        yield tuple(f"{path} {next(answers)}" for path in paths), tree, bool(door)


def _present(root: Path, wanted: Collection[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The versions that are HEAD's, unless it is edited."""
    if not holds(root, "diff", "--quiet", "HEAD", "--", CODE):
        return set()
    prefix = git(root, "rev-parse", "--show-prefix")
    found = set()
    for paths in wanted:
        names = _names(root, [f"HEAD:{prefix}{path}" for path in paths])
        found.add(tuple(f"{path} {name}" for path, name in zip(paths, names, strict=True)))
    return found


def _names(root: Path, asked: Collection[str]) -> list[str]:
    """git's names for these; empty for what is not there."""
    given = "".join(f"{each}\n" for each in asked)
    answers = git(root, "cat-file", "--batch-check=%(objectname) %(objecttype)", given=given).split("\n")
    return [answer.split(" ")[0] if answer.endswith((" blob", " tree")) else "" for answer in answers]


def _age(code: Code) -> tuple[int, str]:
    return code.commit.age, code.tree
