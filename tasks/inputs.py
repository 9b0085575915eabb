"""The inputs of a stage as dvc.yaml lists them, read when the stage begins and compared when it ends.

DVC hashes a stage's dependencies after its command has ended. A file that was edited in between would be recorded in
dvc.lock as the input of the result, and the run cache would give that result to every clone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pathspec import GitIgnoreSpec

from atelier.errors import AtelierError
from atelier.paths import DVC_YAML, PARAMS
from atelier.settings.load import read_yaml
from tasks import STARTED_NS

CODE_ROOT = Path(__file__).resolve().parents[1]  # of the modules that this process runs
DVCIGNORE = Path(".dvcignore")
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")
MAX_NAMED = 5  # changed files that a message names
ABSENT = "absent"

Key = tuple[str, str]  # a parameter file, and a dotted key in it; "" is the whole file


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
