"""What git's history records: every dvc.lock and every champion file, and networks' files found by their digests.

All refs are read: branches, tags, DVC's experiments and remotes' branches. A remote's commits may contain anything, and
a picture's provenance may have been edited, so what is read is limited in size and checked, and a network is found by
its digests alone, never by a path. Ids are git's names (hashes) of commits and files.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, JsonValue, TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.paths import CHAMPION_FILE, GENERATOR, LOCK_FILE, MODELS, PARAMS, UPSCALER
from atelier.settings.load import load_params
from atelier.text import printable
from flows.repo import storage
from flows.repo.git import git, git_bytes, holds

MAX_FILE_BYTES = 1 << 20  # a dvc.lock of this project has about ten KiB
MAX_LINE_CHARS, MAX_BRACKETS = 4000, 1000  # limit the nesting; libyaml overflows at about ten times as much
MAX_ALIASES = 10  # so few cannot make a file grow more than about forty times
LAST_DATE_S = 253_402_300_799  # the end of the year 9999, the last that Python's datetime can express
SHA256 = re.compile(r"[0-9a-f]{64}")
NETWORK_SUFFIXES = (".safetensors", ".pth")
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, with its tags and DVC experiments. `trusted`: HEAD, a local branch or a tag reaches it."""

    id: str
    age: int  # the number of newer commits
    date_s: int  # the committer's date, in seconds since 1970
    subject: str
    tags: tuple[str, ...]
    experiments: tuple[str, ...]
    trusted: bool

    def __str__(self) -> str:
        """`3fa2bc91d0 of 2026-11-20 (a subject)`"""
        return f"{self.id[:10]} of {datetime.fromtimestamp(self.date_s, UTC):%Y-%m-%d} ({self.subject})"


def _digests(entries: Any) -> dict[Any, str]:
    """MD5 digests by path. They become parts of file names, so anything but an MD5 is left out."""
    pairs = ((entry["path"], entry.get("md5")) for entry in entries or ())
    return {path: md5 for path, md5 in pairs if isinstance(md5, str) and storage.MD5.fullmatch(md5)}


class StageEntry(BaseModel, frozen=True):
    """A stage's entry in a dvc.lock: MD5 digests by path, and params by file and key."""

    cmd: str = ""
    deps: Annotated[dict[str, str], BeforeValidator(_digests)] = {}
    outs: Annotated[dict[str, str], BeforeValidator(_digests)] = {}
    params: Annotated[dict[str, dict[str, JsonValue]], BeforeValidator(lambda params: params or {})] = {}


STAGES = TypeAdapter(dict[str, StageEntry])


@dataclass(frozen=True, slots=True)
class LockVersion:
    """A version of dvc.lock: its id (empty outside of git) and the commits that contain it, newest first."""

    id: str
    commits: tuple[Commit, ...]
    in_work_tree: bool

    @property
    def trusted(self) -> bool:
        return self.in_work_tree or any(commit.trusted for commit in self.commits)


@dataclass(frozen=True, slots=True)
class Lock(LockVersion):
    """A version of dvc.lock with its content."""

    stages: Mapping[str, StageEntry]

    def md5_of(self, path: str) -> str | None:
        """The MD5 of the file or folder at `path`: as an output of a stage, otherwise as a dependency of one."""
        stages = self.stages.values()
        outs = (stage.outs.get(path) for stage in stages)
        deps = (stage.deps.get(path) for stage in stages)
        return next((md5 for md5 in (*outs, *deps) if md5), None)

    def has_output(self, md5: str) -> bool:
        """Whether a stage has an output with this MD5."""
        return any(md5 in stage.outs.values() for stage in self.stages.values())


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that champion.json named as the best, and the commits in which it does so, newest first."""

    version: str
    generator_sha256: str
    commits: tuple[Commit, ...]


def locks(root: Path = Path(), containing: str = "") -> list[Lock]:
    """Every version of dvc.lock with the text `containing` in it: the work tree's own first, then newest first."""
    return list(read_locks(root, lock_versions(root), containing))


def lock_versions(root: Path = Path()) -> list[LockVersion]:
    """Every version of dvc.lock without its content, in the order of `locks`."""
    found = file_versions(root, LOCK_FILE.as_posix())
    own = _own_lock(root)
    own_version = [LockVersion(own[0], tuple(found.get(own[0], ())), True)] if own else []
    others = [LockVersion(id, tuple(by), False) for id, by in found.items() if not own or id != own[0]]
    return own_version + others


def read_locks(root: Path, versions: Iterable[LockVersion], containing: str = "") -> Iterator[Lock]:
    """Read the versions of dvc.lock that have the text `containing` in them; an invalid dvc.lock is skipped."""
    by_id = {version.id: version for version in versions}
    own = _own_lock(root)
    texts = dict(read_files(root, [id for id, version in by_id.items() if version.commits]))
    for id, version in by_id.items():
        text = texts.get(id, own[1] if own and own[0] == id else b"")
        if containing.encode() in text and (stages := parse_lock(text)) is not None:
            yield Lock(id, version.commits, version.in_work_tree, stages)


def champions(root: Path = Path()) -> list[Champion]:
    """Every champion in the history, newest first; an invalid champion.json is skipped."""
    versions = file_versions(root, CHAMPION_FILE.as_posix())
    found = []
    for id, text in read_files(root, versions):
        try:
            content = json.loads(text)
            version, sha256 = str(content["version"]), str(content["generator_sha256"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if SHA256.fullmatch(sha256):
            found.append(Champion(printable(version), sha256, tuple(versions[id])))
    return found


def file_versions(root: Path, path: str) -> dict[str, list[Commit]]:
    """The versions that a file has had, by id, each with the commits that contain it, newest first.

    Empty outside of git. Versions larger than MAX_FILE_BYTES are left out.
    """
    if not holds(root, "rev-parse", "--git-dir"):
        return {}
    history = list(commits(root))
    prefix = git(root, "rev-parse", "--show-prefix")
    names = "".join(f"{commit.id}:{prefix}{path}\n" for commit in history)
    answers = git(root, "cat-file", "--batch-check", given=names).split("\n") if history else []
    found: dict[str, list[Commit]] = {}
    for commit, answer in zip(history, answers, strict=True):
        match answer.split(" "):
            case [id, "blob", size] if int(size) <= MAX_FILE_BYTES:
                found.setdefault(id, []).append(commit)
    return found


def read_files(root: Path, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the content of each file, in this order."""
    if not (names := "".join(f"{id}\n" for id in ids)):
        return
    output = git_bytes(root, "cat-file", "--batch", given=names)
    start = 0
    while start < len(output):
        end = output.index(b"\n", start)
        id, _, size = output[start:end].decode().split(" ")
        start = end + 1 + int(size) + 1
        yield id, output[end + 1 : start - 1]


def commits(root: Path) -> Iterator[Commit]:
    """Every commit that any ref reaches, newest first."""
    tags, experiments = _tags_and_experiments(root)
    head = ("HEAD",) if holds(root, "rev-parse", "-q", "--verify", "HEAD^{commit}") else ()
    trusted = set(git(root, "rev-list", *head, "--branches", "--tags").split("\n"))
    lines = git(root, "rev-list", "--all", "--date-order", "--format=%H %ct %s").split("\n")
    # each is preceded by a line `commit <hash>`, which git before 2.33 cannot leave out
    for age, line in enumerate(line for line in lines if line and not line.startswith("commit ")):
        id, date, subject = line.split(" ", 2)
        names = (tuple(tags.get(id, ())), tuple(experiments.get(id, ())))
        yield Commit(id, age, min(int(date), LAST_DATE_S), printable(subject), *names, id in trusted)


def parse_lock(text: bytes) -> dict[str, StageEntry] | None:
    """The stages of a dvc.lock; None if it is not valid, or might need too much memory to parse."""
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS or text.count(b"*") > MAX_ALIASES or b"<<" in text:
        return None
    if max(map(len, text.split(b"\n"))) > MAX_LINE_CHARS:
        return None
    try:
        return STAGES.validate_python(YAML(typ="safe").load(text)["stages"])
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class NetworkKey:
    """A network's file by its digests. `kind` is used in messages; `md5` is None for external networks."""

    kind: str
    sha256: str
    md5: str | None


class Networks:
    """Finds networks' files, and keeps their paths and the reasons why others were not found."""

    def __init__(self, root: Path, log: Callable[[str], None]) -> None:
        self._root, self._log = root, log
        self._paths: dict[NetworkKey, Path] = {}
        self._reasons: list[str] = []
        self._digests: dict[Path, tuple[str, str]] = {}

    def find(self, keys: Collection[NetworkKey]) -> None:
        """Look for the networks in the work tree, in the DVC cache, and for the rest in DVC's remotes, all at once."""
        candidates = self._candidates()
        for key in keys:
            if path := next((path for path in candidates if self._digest(path)[1] == key.sha256), None):
                self._paths[key] = path
        absent = [key for key in keys if key not in self._paths]
        md5s = sorted({key.md5 for key in absent if key.md5})
        fetched = storage.fetch_objects(md5s, self._keep_reason, self._root) if md5s else {}
        self._paths |= {key: fetched[key.md5] for key in absent if key.md5 in fetched}

    def path(self, key: NetworkKey) -> Path:
        """The path of a file. Raises AtelierError if it was not found, or has only one of the two digests."""
        path = self._paths.get(key)
        if path is None:
            raise AtelierError(self._why_missing(key))
        md5, sha256 = self._digest(path)
        if sha256 != key.sha256 or key.md5 not in (None, md5):
            raise AtelierError(
                f"its provenance names a {key.kind} of MD5 {key.md5} and SHA-256 {key.sha256[:12]}…, and the file with "
                f"one of them has {md5} and {sha256[:12]}…: the provenance was edited"
            )
        return path

    def _candidates(self) -> list[Path]:
        """Files of the work tree that may be networks."""
        kept = sorted(path for path in (self._root / MODELS).rglob("*") if path.suffix in NETWORK_SUFFIXES)
        named = [self._root / GENERATOR, self._root / UPSCALER, *kept]
        with suppress(AtelierError):  # params.yaml need not be valid to paint an old picture
            if external := load_params(self._root / PARAMS).upscale.external.path:
                named.append(self._root / external)
        return [path for path in named if path.is_file()]

    def _why_missing(self, key: NetworkKey) -> str:
        """A message that the file was not found, why, and how to get it."""
        missing = f"its {key.kind}, SHA-256 {key.sha256[:12]}…, was not found"
        reasons = f" ({'; '.join(dict.fromkeys(self._reasons))})" if self._reasons else ""
        if key.kind == "external network":
            return f"{missing}: put its file into {MODELS}/, under any name, or name it in upscale.external.path"
        naming = locks(self._root, containing=key.md5) if key.md5 else []
        committed = [lock for lock in naming if lock.commits]
        made = [lock for lock in committed if key.md5 and lock.has_output(key.md5)] or committed
        if not made:
            return f"{missing}{reasons}, and no commit here names it: ask whoever made the picture for it"
        commit = made[-1].commits[-1]
        stage = "train_upscaler" if key.kind == "upscaler" else "train"
        place = f"../{self._root.name}.again"
        return (
            f"{missing}{reasons}. Commit {commit} made it, and trains it again: "
            f"`git clone . {place} && git -C {place} checkout {commit.id[:12]}`, then `dvc --cd {place} repro {stage}`"
        )

    def _keep_reason(self, sentence: str) -> None:
        self._reasons.append(sentence)
        self._log(sentence)

    def _digest(self, path: Path) -> tuple[str, str]:
        """The file's MD5 and SHA-256, computed once."""
        if path not in self._digests:
            self._digests[path] = digest(path, "md5"), digest(path)
        return self._digests[path]


def _own_lock(root: Path) -> tuple[str, bytes] | None:
    """The id and the content of the work tree's dvc.lock; None if there is none."""
    path = root / LOCK_FILE
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        return None
    in_git = holds(root, "rev-parse", "--git-dir")
    id = git(root, "hash-object", "--no-filters", "--", LOCK_FILE.as_posix()) if in_git else ""
    return id, path.read_bytes()


def _tags_and_experiments(root: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The names of tags, and those of DVC's experiments, by the id of their commit."""
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
