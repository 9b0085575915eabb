"""What every stage does around its work: read params, handle signals, print errors for people, record its outcome.

The stage's inputs, as dvc.yaml lists them, are read when it begins and compared when it ends. DVC hashes a stage's
dependencies after its command has ended: a file that was edited in between would be recorded in dvc.lock as the input
of the result, and the run cache would give that result to every clone.
"""

import errno
import functools
import hashlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from pathspec import GitIgnoreSpec

from atelier.errors import AtelierError, TransientError, describe_error, exit_on_signal, ignore_output_errors
from atelier.files import write_bytes, write_json
from atelier.paths import DVC_YAML, EXECUTED, FAILED, LOCK_FILE, LOCK_FILE_COPY, PARAMS, PROGRESS, STATE
from atelier.progress import Progress
from atelier.settings.load import load_params, read_yaml
from atelier.settings.schema import Params
from tasks import STARTED_NS, record_failure

FINISHED = "finished"  # an empty file that marks the resumable states of a training that succeeded
CODE_ROOT = Path(__file__).resolve().parents[1]  # of the modules that this process runs
DVCIGNORE = Path(".dvcignore")
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")
MAX_NAMED = 5  # changed files that a message names
ABSENT = "absent"

Key = tuple[str, str]  # a parameter file, and a dotted key in it; "" is the whole file


class Stage:
    """A running stage: its name, all params, its code, and the folder of its resumable state.

    The functions in `after_success` are called once the stage has succeeded and its inputs have not changed.
    """

    def __init__(self, name: str, params: Params, inputs: "Inputs | None" = None) -> None:
        self.name, self.params, self._inputs = name, params, inputs
        self.after_success: list[Callable[[], object]] = []

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The SHA-256 of each file of code that dvc.yaml lists for this stage, by path."""
        return (self._inputs and self._inputs.code) or Inputs.read(self.name, CODE_ROOT).code

    @property
    def state(self) -> Path:
        """The folder `.atelier/<stage>/`, created on demand, which DVC never deletes."""
        return _writable(STATE / self.name)

    def state_of(self, key: str) -> Path:
        """Return `.atelier/<stage>/<key>/`, which may not exist. Raises AtelierError where it cannot be written to."""
        path = self.state / key
        return _writable(path) if path.exists() else path

    def refuse_changed(self) -> None:
        """Raise AtelierError if an input has changed since the stage began."""
        if self._inputs:
            self._inputs.refuse_changed()

    def progress(self, total: float, unit: str, start: float = 0, silent: bool = False) -> Progress:
        """Return a progress bar that also writes `.atelier/progress/<stage>.json`, unless it is `silent`."""
        return Progress(self.name, total, unit, None if silent else PROGRESS, start)


def main(name: str, work: Callable[[Stage], str]) -> None:
    """Run one stage and exit the process.

    `work` runs the stage and returns a one-line summary. The exit status is 0 on success, 1 after an error, 75
    (EX_TEMPFAIL) after an error that may pass by itself, 130 after Ctrl-C and 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, exit_on_signal)
    ignore_output_errors(line_buffering=True)
    began_s = time.monotonic()
    try:
        inputs = Inputs.read(name)  # before params.yaml is read: an edit between the two is found at the end
        inputs.refuse_edited_at_start()
        stage = Stage(name, load_params(PARAMS), inputs)
        if left_out := inputs.left_out(stage.params.model_dump()):  # DVC does not notice when their defaults change
            print(f"{name}: {PARAMS} leaves {', '.join(left_out)} to the default; write it there if it is to stay")
        for folder in (PROGRESS, EXECUTED):  # fails now rather than after hours of work
            _writable(folder)
        if "DVC_STAGE" in os.environ and LOCK_FILE.is_file():
            # flows.repo.locks restores it: a DVC process that is killed while it writes it in place leaves half of it
            write_bytes(LOCK_FILE_COPY, LOCK_FILE.read_bytes())
        summary = work(stage)
        stage.refuse_changed()
        times = {"seconds": round(time.monotonic() - began_s, 2), "ended": time.time()}  # for the page of stage `page`
        # a stage that DVC restores from its cache writes none
        write_json(EXECUTED / f"{name}.json", {"run": os.environ.get("ATELIER_RUN", ""), "summary": summary, **times})
        for act in stage.after_success:
            act()
        (FAILED / f"{name}.json").unlink(missing_ok=True)
    except (AtelierError, OSError) as error:
        if (sentence := describe_error(error)) is None:
            raise
        _fail(name, sentence, os.EX_TEMPFAIL if isinstance(error, TransientError) else 1)
    except KeyboardInterrupt:
        _fail(name, "stopped; `dvc repro` goes on from here", 130)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)")


@dataclass(frozen=True)
class Inputs:
    """A stage's dependencies at one moment.

    `params` maps its parameters to their values; `files` maps each file of code to its digest, and any other file to
    its inode, size and modification time, which DVC compares as well. Paths are relative to the studio's root.
    """

    deps: tuple[str, ...]
    params: Mapping[Key, Any]
    files: Mapping[str, str]

    @classmethod
    def read(cls, stage: str, root: Path = Path()) -> Self:
        """Read the inputs of `stage`; if dvc.yaml does not have it, the section of that name in params.yaml."""
        declared = _at(_load(root / DVC_YAML), f"stages.{stage}")
        if not isinstance(declared, Mapping):
            declared = {}
        keys = [*_keys(declared.get("params", [stage]), root)]
        deps = [*_paths(declared.get("deps", []), root)]
        return cls(tuple(deps), _values(keys, root), _files(deps, root))

    @property
    def code(self) -> dict[str, str]:
        """The digest of each file of code, by path."""
        return {path: state for path, state in self.files.items() if path.endswith(".py")}

    def left_out(self, defaults: Mapping[str, Any]) -> list[str]:
        """Return the dotted keys of `defaults` that the stage depends on and params.yaml does not set."""
        return [
            name
            for (file, key), value in self.params.items()
            if file == str(PARAMS)
            for name in _lacking(key, _at(defaults, key), value)
        ]

    def refuse_edited_at_start(self) -> None:
        """Raise AtelierError if a file of code was edited while this process imported it."""
        if Path.cwd().resolve() != CODE_ROOT:
            return  # the files are not those that this process runs
        if edited := [path for path in self.code if _changed_ns(Path(path)) >= STARTED_NS]:
            raise AtelierError(f"{_listing(edited)} edited while the stage was starting: run again")

    def refuse_changed(self) -> None:
        """Raise AtelierError if a parameter or a file has changed since, or a parameter file is no YAML any more."""
        values, files = _values([*self.params], Path()), _files(self.deps, Path())
        paths = sorted(self.files.keys() | files.keys())
        changed = [
            *(_named(key) for key in self.params if values[key] != self.params[key]),
            *(path for path in paths if self.files.get(path) != files.get(path)),
        ]
        if changed:
            raise AtelierError(
                f"{_listing(changed)} edited while the stage ran, so its result is not what the files say now: "
                "run again (with the old content back, it goes on from where it was)"
            )


def _writable(folder: Path) -> Path:
    """Create the folder and write to it once; return it. Raises AtelierError where that is not permitted."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise AtelierError(
            f"{folder} cannot be written: {error.strerror}: `atelier doctor` says what belongs to another user"
        ) from None


def _fail(name: str, message: str, status: int) -> NoReturn:
    print(f"{name}: {message}", file=sys.stderr)
    record_failure(name, message)
    sys.exit(status)


def _keys(params: Sequence[Any], root: Path) -> Iterator[Key]:
    """Yield the keys of a list `params`: of params.yaml, or of another file as {file: [keys]}; no keys are all."""
    for entry in params:
        if isinstance(entry, Mapping):
            for file, keys in entry.items():
                yield from ((str(file), _filled(str(key), root)) for key in keys or [""])
        else:
            yield str(PARAMS), _filled(str(entry), root)


def _paths(deps: Sequence[Any], root: Path) -> Iterator[str]:
    """Yield the paths of a list `deps`, whose entries are paths or {path: settings}."""
    for entry in deps:
        for path in entry if isinstance(entry, Mapping) else [entry]:
            yield _filled(str(path), root)


def _filled(text: str, root: Path) -> str:
    """Replace templates by values of params.yaml: `train.${train.arch}` becomes `train.sketch`."""
    return TEMPLATE.sub(lambda match: str(_at(_load(root / PARAMS), match[1])), text)


def _values(keys: Sequence[Key], root: Path) -> dict[Key, Any]:
    documents = {file: _load(root / file) for file in {file for file, _ in keys}}
    return {(file, key): _at(documents[file], key) for file, key in keys}


def _at(document: Any, key: str) -> Any:
    for part in key.split(".") if key else []:
        if not isinstance(document, Mapping) or part not in document:
            return ABSENT
        document = document[part]
    return document


def _load(path: Path) -> Any:
    """Return the content of a YAML file, the digest of any other file, or None for a missing file."""
    try:
        is_yaml = path.suffix in (".yaml", ".yml")
        return read_yaml(path) if is_yaml else hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _files(deps: Sequence[str], root: Path) -> dict[str, str]:
    """Return the state of each file at or below these paths, except those that .dvcignore excludes."""
    rules = root / DVCIGNORE
    ignored = GitIgnoreSpec.from_lines(rules.read_text(encoding="utf-8").splitlines() if rules.is_file() else [])
    states = {}
    for dep in deps:
        place = root / dep
        found = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        for path in found:
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            if not ignored.match_file(name):
                states[name] = _state(path)
    return states


def _lacking(key: str, wanted: Any, found: Any) -> list[str]:
    if found == ABSENT:
        return [key]
    if not isinstance(wanted, Mapping) or not isinstance(found, Mapping):
        return []
    return [name for part in wanted for name in _lacking(f"{key}.{part}", wanted[part], found.get(part, ABSENT))]


def _state(path: Path) -> str:
    try:
        if path.suffix == ".py":
            return hashlib.sha256(path.read_bytes()).hexdigest()
        found = path.stat()
    except OSError:
        return ABSENT
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _changed_ns(path: Path) -> int:
    """Return when the file was last written, renamed or replaced; unlike mtime, no program can set this back."""
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return STARTED_NS


def _named(key: Key) -> str:
    file, name = key
    return f"{file}: " + (name if "." in name else f"the section {name}" if name else "it")


def _listing(names: Sequence[str]) -> str:
    """Return `a was`, or `a, b and 3 more were`."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more} {'was' if len(names) == 1 else 'were'}"
