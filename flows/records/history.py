"""What the repository has ever named: every dvc.lock of every commit and of the work tree, and every champion.

Reads git and nothing else, whatever branch, tag or experiment a commit belongs to; a remote's commits are a stranger's
words, so what is read is bounded and checked. Runs and judges nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.provenance.facts import printable
from flows.repo.git import git, git_bytes, holds
from flows.repo.stages import LOCK_FILE

CHAMPION_FILE = Path("models/champion.json")
MAX_BYTES = 1 << 20  # ours are about ten KiB
MAX_LINE, MAX_BRACKETS = 4000, 1000  # bound how deep it nests: libyaml's own stack ends some ten times deeper
MAX_STARS = 10  # aliases: so few cannot make it grow more than some forty times
LAST_S = 253_402_300_799  # the end of the year 9999, where Python's dates end
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
SHA256 = re.compile(r"[0-9a-f]{64}")
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit and what points at it. `trusted`: HEAD, a local branch or a tag reaches it, so that its code may run."""

    id: str
    age: int  # how many are newer
    date_s: int  # the committer's, since 1970
    subject: str
    tags: tuple[str, ...]
    experiments: tuple[str, ...]
    trusted: bool

    def __str__(self) -> str:
        """`3fa2bc91d0 of 2026-11-20 (a subject)`"""
        return f"{self.id[:10]} of {datetime.fromtimestamp(self.date_s, UTC):%Y-%m-%d} ({self.subject})"


@dataclass(frozen=True, slots=True)
class Locked:
    """What a dvc.lock holds of a stage: md5s by path, and its params by file and key."""

    cmd: str
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Held:
    """A dvc.lock, by git's name for such a file, which is empty outside of git, and who holds it, newest first."""

    id: str
    commits: tuple[Commit, ...]
    in_work_tree: bool


@dataclass(frozen=True, slots=True)
class Lock(Held):
    """And what it says of each stage."""

    stages: Mapping[str, Locked]

    def md5_of(self, path: str) -> str | None:
        """Of the file or folder at `path` as some stage made it, else as some stage found it."""
        stages = self.stages.values()
        made = (stage.outs.get(path) for stage in stages)
        found = (stage.deps.get(path) for stage in stages)
        return next((md5 for md5 in (*made, *found) if md5), None)

    def makes(self, md5: str) -> bool:
        """Whether it is an out of a stage."""
        return any(md5 in stage.outs.values() for stage in self.stages.values())


@dataclass(frozen=True, slots=True)
class Reign:
    """A champion.json: a model that nights kept as the best, and the commits that call it so, newest first."""

    version: str
    generator_sha256: str
    night: str
    commits: tuple[Commit, ...]


def locks(root: Path = Path(), naming: str = "") -> list[Lock]:
    """Every distinct dvc.lock, the work tree's own first, then newest first; of those that hold the text `naming`."""
    return list(read(root, held(root), naming))


def held(root: Path = Path()) -> list[Held]:
    """The same unread."""
    found = versions(root, LOCK_FILE.as_posix())
    own = _own(root)
    mine = [Held(own[0], tuple(found.get(own[0], ())), True)] if own else []
    return mine + [Held(id, tuple(by), False) for id, by in found.items() if not own or id != own[0]]


def read(root: Path, wanted: Iterable[Held], naming: str = "") -> Iterator[Lock]:
    """What they say, where they hold the text `naming`; one that is no dvc.lock is passed over."""
    by_id = {each.id: each for each in wanted}
    own = _own(root)
    texts = dict(contents(root, [id for id, each in by_id.items() if each.commits]))
    for id, each in by_id.items():
        text = texts.get(id, own[1] if own and own[0] == id else b"")
        if naming.encode() in text and (stages := read_lock(text)) is not None:
            yield Lock(id, each.commits, each.in_work_tree, stages)


def reigns(root: Path = Path()) -> list[Reign]:
    """Every champion that there has been, newest first; what names none is passed over."""
    by = versions(root, CHAMPION_FILE.as_posix())
    found = []
    for id, text in contents(root, by):
        try:
            told = json.loads(text)
            version, sha256, night = (str(told[key]) for key in ("version", "generator_sha256", "night"))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if SHA256.fullmatch(sha256):
            found.append(Reign(printable(version), sha256, printable(night), tuple(by[id])))
    return found


def versions(root: Path, path: str) -> dict[str, list[Commit]]:
    """The distinct contents that a file has had, by git's name for them, with the commits that hold each, newest first.

    Empty outside of git. Larger ones than we ever write are left out.
    """
    if not holds(root, "rev-parse", "--git-dir"):
        return {}
    history = list(commits(root))
    prefix = git(root, "rev-parse", "--show-prefix")
    asked = "".join(f"{commit.id}:{prefix}{path}\n" for commit in history)
    answers = git(root, "cat-file", "--batch-check", given=asked).split("\n") if history else []
    found: dict[str, list[Commit]] = {}
    for commit, answer in zip(history, answers, strict=True):
        match answer.split(" "):
            case [id, "blob", size] if int(size) <= MAX_BYTES:
                found.setdefault(id, []).append(commit)
    return found


def contents(root: Path, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Files by git's names for them, in this order."""
    if not (asked := "".join(f"{id}\n" for id in ids)):
        return
    said = git_bytes(root, "cat-file", "--batch", given=asked)
    start = 0
    while start < len(said):
        end = said.index(b"\n", start)
        id, _, size = said[start:end].decode().split(" ")
        start = end + 1 + int(size) + 1
        yield id, said[end + 1 : start - 1]


def commits(root: Path) -> Iterator[Commit]:
    """Every commit that any ref reaches, newest first."""
    tags, experiments = _names(root)
    head = ("HEAD",) if holds(root, "rev-parse", "-q", "--verify", "HEAD^{commit}") else ()
    trusted = set(git(root, "rev-list", *head, "--branches", "--tags").split("\n"))
    told = git(root, "rev-list", "--all", "--date-order", "--format=%H %ct %s").split("\n")
    # each is headed by a line `commit <hash>`, which git before 2.33 cannot leave out
    for age, line in enumerate(line for line in told if line and not line.startswith("commit ")):
        id, date, subject = line.split(" ", 2)
        own = (tuple(tags.get(id, ())), tuple(experiments.get(id, ())))
        yield Commit(id, age, min(int(date), LAST_S), printable(subject), *own, id in trusted)


def read_lock(text: bytes) -> dict[str, Locked] | None:
    """The stages of a dvc.lock; None where it is none, or a trap that would outgrow memory."""
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS or text.count(b"*") > MAX_STARS or b"<<" in text:
        return None
    if max(map(len, text.split(b"\n"))) > MAX_LINE:
        return None
    try:
        stages = YAML(typ="safe").load(text)["stages"]
        return {_text(name): _locked(stage) for name, stage in stages.items()}
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _locked(stage: Any) -> Locked:
    params = {
        _text(file): {_text(key): _value(value) for key, value in values.items()}
        for file, values in (stage.get("params") or {}).items()
    }
    return Locked(
        _text(stage.get("cmd", "")), _digests(stage.get("deps")), _digests(stage.get("outs")), params
    )


def _digests(entries: Any) -> dict[str, str]:
    """md5s by path: the only texts of a lock that become names of files, so nothing else passes."""
    pairs = ((_text(entry["path"]), entry.get("md5")) for entry in entries or ())
    return {path: md5 for path, md5 in pairs if isinstance(md5, str) and MD5.fullmatch(md5)}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _value(value: Any) -> Any:
    """A param as DVC writes it: a scalar, or lists and maps of them."""
    match value:
        case list():
            return [_value(item) for item in value]
        case dict():
            return {_text(key): _value(item) for key, item in value.items()}
        case None | bool() | int() | float() | str():
            return value
    raise TypeError


def _own(root: Path) -> tuple[str, bytes] | None:
    """The work tree's dvc.lock and its name."""
    path = root / LOCK_FILE
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    here = holds(root, "rev-parse", "--git-dir")
    id = git(root, "hash-object", "--no-filters", "--", LOCK_FILE.as_posix()) if here else ""
    return id, path.read_bytes()


def _names(root: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Tags and DVC's experiments by the commit that they point at."""
    tags: dict[str, list[str]] = {}
    experiments: dict[str, list[str]] = {}
    form = "--format=%(refname) %(objectname) %(*objectname)"
    for line in filter(None, git(root, "for-each-ref", form, "refs/tags", "refs/exps").split("\n")):
        name, id, peeled = line.split(" ")
        if name.startswith("refs/tags/"):
            tags.setdefault(peeled or id, []).append(printable(name.removeprefix("refs/tags/")))
        elif match := EXPERIMENT.fullmatch(name):
            experiments.setdefault(id, []).append(printable(match[1]))
    return tags, experiments
