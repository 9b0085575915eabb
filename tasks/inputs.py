"""What dvc.yaml says that a stage depends on, read when the stage begins and compared when it ends.

DVC hashes a stage's dependencies after its command has ended. Whatever was edited in between would be recorded in
dvc.lock as what made the result, and the run cache would give that result to every clone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pathspec import GitIgnoreSpec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atelier.errors import AtelierError
from tasks import STARTED_NS

CODE_ROOT = Path(__file__).resolve().parents[1]  # of the modules that this process runs
PARAMS, DVC_YAML, IGNORED = Path("params.yaml"), Path("dvc.yaml"), Path(".dvcignore")
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")
NAMED = 5  # changed files that a message names
ABSENT = "absent"

Key = tuple[str, str]  # a parameter file, and a dotted key in it; "" is the whole file


@dataclass(frozen=True)
class Inputs:
    """A stage's dependencies at one moment.

    `params` has the values of its parameters, `files` a digest of each file of code and, of each other file, what DVC
    itself goes by: inode, size and time of the last change. Paths are relative to the studio's root.
    """

    stage: str
    deps: tuple[str, ...]
    params: Mapping[Key, Any]
    files: Mapping[str, str]

    @classmethod
    def read(cls, stage: str, root: Path = Path()) -> Self:
        """The inputs of `stage` as they are now; without a dvc.yaml or its stage, the section of that name.

        Raises AtelierError where dvc.yaml or a parameter file is not YAML.
        """
        declared = _declared(stage, root)
        keys, deps = (
            [*_keys(declared.get("params", [stage]), root)],
            [*_paths(declared.get("deps", []), root)],
        )
        return cls(stage, tuple(deps), _values(keys, root), _files(deps, root))

    @property
    def code(self) -> dict[str, str]:
        """The digests of the files of code alone, by path."""
        return {path: state for path, state in self.files.items() if path.endswith(".py")}

    def left_out(self, defaults: Mapping[str, Any]) -> list[str]:
        """The dotted keys that the stage depends on and params.yaml does not have; `defaults` has all."""
        return [
            name
            for (file, key), value in self.params.items()
            if file == str(PARAMS)
            for name in _lacking(key, _at(defaults, key), value)
        ]

    def edited_since_start(self) -> list[str]:
        """The code that was edited while this process imported it."""
        if Path.cwd().resolve() != CODE_ROOT:
            return []  # the files are not those that this process runs
        return [path for path in self.code if _changed_ns(Path(path)) >= STARTED_NS]

    def changed(self) -> list[str]:
        """What differs now, in words; empty where nothing does.

        Raises AtelierError where a parameter file cannot be read any more.
        """
        values, files = _values([*self.params], Path()), _files(self.deps, Path())
        paths = sorted(self.files.keys() | files.keys())
        return [
            *(_named(key) for key in self.params if values[key] != self.params[key]),
            *(path for path in paths if self.files.get(path) != files.get(path)),
        ]


def refuse_changed(inputs: Inputs) -> None:
    """Raise AtelierError where what a stage depends on is not what it was at the stage's start."""
    if changed := inputs.changed():
        raise AtelierError(
            f"{listing(changed)} edited while the stage ran, so its result is not what the files say now: "
            "run again (with the old content back, it goes on from where it was)"
        )


def refuse_edited_at_start(inputs: Inputs) -> None:
    """Raise AtelierError where this process may have imported another version of the code than there is now."""
    if edited := inputs.edited_since_start():
        raise AtelierError(f"{listing(edited)} edited while the stage was starting: run again")


def listing(names: Sequence[str]) -> str:
    """`a was`, or `a, b and 3 more were`."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} {'was' if len(names) == 1 else 'were'}"


def _declared(stage: str, root: Path) -> Mapping[str, Any]:
    """dvc.yaml's entry for the stage."""
    document = _load(root / DVC_YAML)
    stages = document.get("stages") if isinstance(document, Mapping) else None
    declared = stages.get(stage) if isinstance(stages, Mapping) else None
    return declared if isinstance(declared, Mapping) else {}


def _keys(params: Sequence[Any], root: Path) -> Iterator[Key]:
    """A dvc.yaml's `params`: keys of params.yaml, and of other files as {file: [keys]}, where no keys are all."""
    for entry in params:
        if isinstance(entry, Mapping):
            for file, keys in entry.items():
                yield from ((str(file), _filled(str(key), root)) for key in keys or [""])
        else:
            yield str(PARAMS), _filled(str(entry), root)


def _paths(deps: Sequence[Any], root: Path) -> Iterator[str]:
    """A dvc.yaml's `deps`: paths, or paths with settings of their own as {path: settings}."""
    for entry in deps:
        for path in entry if isinstance(entry, Mapping) else [entry]:
            yield _filled(str(path), root)


def _filled(text: str, root: Path) -> str:
    """`train.${train.arch}` as `train.sketch`."""
    return TEMPLATE.sub(lambda match: str(_at(_load(root / PARAMS), match[1])), text)


def _values(keys: Sequence[Key], root: Path) -> dict[Key, Any]:
    documents = {file: _load(root / file) for file, _ in keys}
    return {(file, key): _at(documents[file], key) for file, key in keys}


def _at(document: Any, key: str) -> Any:
    for part in key.split(".") if key else []:
        if not isinstance(document, Mapping) or part not in document:
            return ABSENT
        document = document[part]
    return document


def _load(path: Path) -> Any:
    """A YAML file's content; of any other kind of file, its digest; None where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if path.suffix not in (".yaml", ".yml"):
        return hashlib.sha256(content).hexdigest()
    try:
        return YAML(typ="safe").load(content.decode())
    except (YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise AtelierError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None


def _files(deps: Sequence[str], root: Path) -> dict[str, str]:
    """The files of these paths, those of directories by their own names, without what DVC is told to ignore."""
    ignored = GitIgnoreSpec.from_lines(_lines(root / IGNORED))
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
    return [
        name for part in wanted for name in _lacking(f"{key}.{part}", wanted[part], found.get(part, ABSENT))
    ]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _state(path: Path) -> str:
    try:
        if path.suffix == ".py":
            return hashlib.sha256(path.read_bytes()).hexdigest()
        found = path.stat()
    except OSError:
        return ABSENT
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _changed_ns(path: Path) -> int:
    """When the file was last written, renamed or replaced; unlike mtime, nothing can set this back."""
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return STARTED_NS


def _named(key: Key) -> str:
    file, name = key
    return f"{file}: " + (name if "." in name else f"the section {name}" if name else "it")
