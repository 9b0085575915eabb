"""Jobs for a painting process: the code that it runs, the pictures to paint, starting it, and reading its answers.

A painting process runs `python -m atelier.provenance.repaint`, with the present code or with an earlier version of
`atelier/` from git that may have painted the picture. Only code that HEAD, a local branch or a tag reaches is
extracted: commits of a remote's branch may be anybody's. A picture's provenance is passed to the process unchanged;
only the paths of the networks' files are added, found by digest.
"""

import contextlib
import io
import os
import shutil
import sys
import tarfile
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout
from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import replacing_directory, write_bytes
from atelier.paths import REPRODUCE
from atelier.provenance.facts import FORMAT, MURAL_LOCK, REPAINT_MODULE, Answer, Job, Jobs, ModelFacts, Provenance
from flows.records import history
from flows.records.history import Commit, NetworkKey, Networks
from flows.repaint.picture import OutputFolder
from flows.repo.git import git, git_bytes, holds
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child, Log

MURALS = REPRODUCE / "murals"  # partly painted murals, removed when a command ends
EXTRACTED = REPRODUCE / "code"
CODE = "atelier"
ENTRY_POINT = f"{REPAINT_MODULE.replace('.', '/')}.py"  # what paints pictures again; the earliest commits lack it
MAX_TRIED = 16  # versions, the newest
KEPT_LINES = 20  # last lines of a painting process's output, searched for the reason of a failure
NO_REASON = "the painting process gave no reason"

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
class Workspace:
    """What all jobs of a command share. `scratch` is a folder for painted arrays until they are compared."""

    root: Path
    scratch: Path
    networks: Networks
    output: OutputFolder
    device: str
    log: Log

    def job(self, name: str, provenance: Provenance, code: Code | None) -> Job:
        """The job that paints a picture. Raises AtelierError if one of its networks was not found."""
        upscaler = upscaler_key(provenance)
        return Job(
            name=name,
            # only the keys that are set: earlier code rejects keys that later formats added
            provenance=provenance.model_dump(mode="json", exclude_unset=True),
            generator=self.networks.path(generator_key(provenance.model)),
            upscaler=self.networks.path(upscaler) if upscaler else None,
            to=self.array_path(name, code),
            kept=self.root / MURALS,
        )

    def array_path(self, name: str, code: Code | None) -> Path:
        """The .npy file into which a job's picture is painted."""
        return self.scratch / f"{name}-{code.tree[:12] if code else 'present'}.npy"


class PaintingProcess(Child):
    """A process that works on jobs, with this code; None is the present code. Leaving the `with` block ends it."""

    def __init__(self, workspace: Workspace, jobs: Sequence[Job], code: Code | None) -> None:
        path = workspace.scratch / "jobs.json"
        write_bytes(path, Jobs(device=workspace.device, jobs=list(jobs)).model_dump_json().encode())
        environment = work_tree.environment()
        folder = extract(workspace.root, code) if code else None
        if folder is not None:  # first on the path, before any installed atelier
            paths = (str(folder), environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        super().__init__([sys.executable, "-m", REPAINT_MODULE, str(path)], environment, folder)

    def answers(self, log: Log) -> Iterator[Answer]:
        """Yield each job's answer when it is done; log other lines. Raises AtelierError if the process fails."""
        last: deque[str] = deque(maxlen=KEPT_LINES)
        for line in self.lines(TICK_S):
            if not line:
                continue
            try:
                answer = Answer.model_validate_json(line)
            except ValidationError:
                last.append(line)
                log(line)
            else:
                yield answer
        if status := self.wait():
            raise AtelierError(_reason(status, last))


def remove_murals(root: Path) -> None:
    """Remove partly painted murals, except those on which another process is working."""
    for folder in (root / MURALS).glob("*/"):
        with contextlib.suppress(Timeout), FileLock(folder / MURAL_LOCK, timeout=0):
            shutil.rmtree(folder)


def painted_now(provenance: Provenance, answer: Answer) -> Provenance:
    """The provenance of a picture that was painted now, after the recipe in `provenance`."""
    return provenance.model_copy(update={"software": answer.software, "pixels": None, "format": FORMAT})


def network_keys(provenance: Provenance) -> set[NetworkKey]:
    """The networks that are needed to paint a picture."""
    upscaler = upscaler_key(provenance)
    return {generator_key(provenance.model), *([upscaler] if upscaler else [])}


def generator_key(model: ModelFacts) -> NetworkKey:
    """The generator's file, by its digests."""
    return NetworkKey("generator", model.sha256, model.md5)


def upscaler_key(provenance: Provenance) -> NetworkKey | None:
    """The file of the network that enlarged a print; None if no network did."""
    facts = provenance.print.upscale if provenance.print else None
    if facts is None or facts.upscaler_sha256 is None:
        return None
    kind = "external network" if facts.method == "external" else "upscaler"
    return NetworkKey(kind, facts.upscaler_sha256, facts.upscaler_md5)


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


def _reason(status: int, lines: Sequence[str]) -> str:
    if status < 0:
        memory = "; if you did not send it, the machine ran out of memory" if status == -9 else ""
        return f"the painting process was killed by signal {-status}{memory}"
    last = next((line for line in reversed(lines) if line.strip()), f"it ended with exit code {status}")
    if any(line.startswith("Traceback") for line in lines):
        return f"a mistake in the painting code: {last}"
    return last


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
