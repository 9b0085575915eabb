"""Read params.yaml into `Params`. Every mistake is reported with its line, what the key holds and what it may hold."""

import difflib
import functools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from atelier.errors import AtelierError, join_with_or
from atelier.settings.schema import Folder, Params

GIT_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
STUDIO_FOLDERS = ("data", ".atelier", ".dvc", ".git")  # written by the stages, DVC and git

Keys = Sequence[int | str]


def load_params(path: Path, content: bytes | None = None) -> Params:
    """Read params.yaml, or `content` that `path` names. Raises AtelierError with a line for each wrong key."""
    try:
        document = read_yaml(path, content)
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: restore it with `git checkout {path}`") from None
    if not isinstance(document, Mapping):
        raise AtelierError(f"{path} holds no sections: restore it with `git checkout {path}`")
    return validated(document, path)


def validated(document: Any, path: Path | None = None) -> Params:
    """Validate a document. Raises AtelierError with a sentence for each mistake.

    With `path`, the document is one that `read_yaml` returned, and each sentence begins with the path and the line.
    """
    try:
        return Params.model_validate(to_plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(_describe_errors(error, document, path))) from None


def image_folder(section: Folder) -> Path:
    """Return the folder that scrape.folder.path names, relative to the current directory, the root of the studio.

    Raises AtelierError where the key is empty, or names the studio itself or a folder that its stages write to.
    """
    key = f"scrape.folder.path holds {section.path!r}"
    if not section.path or not section.path.strip():
        raise AtelierError(f"{key}: name the folder that your pictures are in")
    folder = _expand_home(section.path, key)
    try:
        target, studio = folder.resolve(), Path.cwd().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL
        raise AtelierError(f"{key}, which leads nowhere ({error})") from None
    if target == studio:
        raise AtelierError(
            f"{key}, which is the studio itself with all that it made: name the folder that your pictures are in"
        )
    for written in STUDIO_FOLDERS:
        if target.is_relative_to(studio / written):
            raise AtelierError(
                f"{key}, which is inside {written}/, where the studio keeps what it makes: "
                "move your pictures into a folder of their own and name that"
            )
    return folder


def csv_file(section: Folder) -> Path | None:
    """Return the CSV that scrape.folder.catalog names, or None where the key is null or empty."""
    if not section.catalog:
        return None
    return _expand_home(section.catalog, f"scrape.folder.catalog holds {section.catalog!r}")


def read_yaml(path: Path, content: bytes | None = None) -> Any:
    """Parse a YAML file, or `content` in its place, with ruamel.yaml's round-trip loader, which keeps line numbers.

    Raises AtelierError naming the file and, where possible, the line. FileNotFoundError is not caught.
    """
    try:
        text = (path.read_bytes() if content is None else content).decode()
    except UnicodeDecodeError as error:
        raise AtelierError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    if conflict := GIT_CONFLICT.search(text):
        raise AtelierError(
            f"{path}:{_line_at(text, conflict.start())}: git left a conflict here ({conflict[0].strip()}): keep one of "
            "the two versions, and remove the lines with <<<<<<<, ======= and >>>>>>>"
        )
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise AtelierError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise AtelierError(
            f"{path}:{_line_at(text, text.find(chr(code)))}: not valid YAML: remove the control character {code:#04x}"
        ) from None
    except RecursionError:
        raise AtelierError(f"{path}: not valid YAML: its brackets nest too deeply") from None
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:  # for example an impossible date
        raise AtelierError(f"{path}: not valid YAML: {error}") from None


def to_plain(node: Any) -> Any:
    """Convert ruamel.yaml's round-trip types to dict, list, bool, int, float and str, as strict validation needs."""
    if isinstance(node, Mapping):
        return {str(key): to_plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [to_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _describe_errors(error: ValidationError, document: Any, path: Path | None) -> Iterator[str]:
    """Yield a sentence for each mistake, see `validated`."""
    seen = set()
    for problem in error.errors():
        keys = _keys_in_document(document, problem["loc"])
        if keys in seen:  # a union reports each of its branches
            continue
        seen.add(keys)
        name = ".".join(str(key) for key in keys)
        if problem["type"] == "value_error":  # raised by a validator of ours, whose message begins with the key
            sentence = str(problem["ctx"]["error"])
            keys = tuple(sentence.split(" ", 1)[0].rstrip(":").split("."))
        elif problem["type"] == "extra_forbidden":
            known = list(fields_at(keys[:-1]))
            close = difflib.get_close_matches(str(keys[-1]), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            sentence = f"{name} is an unknown key; {hint}"
        else:
            value = to_plain(functools.reduce(operator.getitem, keys, document))
            sentence = f"{name} holds {value!r}; it may hold {allowed_values(keys)}"
        yield f"{path}:{_line_of(document, keys)}: {sentence}" if path else sentence


def allowed_values(keys: Sequence[int | str]) -> str:
    """Describe what the key at a path like ("train", "kimg") may hold; list indices in the path are skipped."""
    names = [key for key in keys if isinstance(key, str)]
    field = fields_at(names[:-1])[names[-1]]
    return field.description or _describe(field.annotation, field.metadata)


def fields_at(keys: Sequence[int | str]) -> dict[str, FieldInfo]:
    """Return the fields of the section at a path in params.yaml."""
    model: type[BaseModel] = Params
    for key in keys:
        annotation = model.model_fields[str(key)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields


def _keys_in_document(document: Any, location: Keys) -> tuple[int | str, ...]:
    """Return the part of pydantic's location that exists in the document; pydantic appends names of union branches."""
    keys: list[int | str] = []
    node: Any = document
    for key in location:
        if isinstance(node, Mapping) and (found := [own for own in node if str(own) == key] or not keys):
            key = found[0] if isinstance(found, list) else key  # null, true and 3 are keys as well
            node = node.get(key)
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            break
        keys.append(key)
    return tuple(keys)


def _line_of(document: Any, keys: Keys) -> int:
    """Return the line, from 1, of the last of these keys that the document has."""
    line = 0
    with suppress(KeyError, TypeError, IndexError, AttributeError):  # a key merged in by << keeps the section's line
        for key in keys:
            line = getattr(document.lc, "item" if isinstance(document, list) else "key")(key)[0]
            document = document[key]
    return line + 1


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, max(position, 0)) + 1


def _expand_home(path: str, key: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # an unknown user, or one without a home directory
        raise AtelierError(
            f"{key}: no home directory is known for {Path(path).parts[0]}: write the whole path"
        ) from None


def _describe(annotation: Any, metadata: Sequence[Any]) -> str:
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a section with the keys {', '.join(annotation.model_fields)}"
    if hasattr(annotation, "__metadata__"):
        return _describe(arguments[0], [*annotation.__metadata__, *metadata])
    if get_origin(annotation) is Literal:
        return join_with_or(arguments)
    if get_origin(annotation) is list:
        sizes = [item.min_length for item in metadata if isinstance(item, MinLen)]
        many = f"a list of {sizes[0]}" if sizes else "a list"
        return f"{many}, each {_describe(arguments[0], [])}"
    if arguments:  # a union: null and words first, then the number or text
        words = [word for each in arguments if get_origin(each) is Literal for word in get_args(each)]
        others = [each for each in arguments if get_origin(each) is not Literal and each is not type(None)]
        null = ["null"] if type(None) in arguments else []
        return join_with_or([*null, *words, *(_describe(each, metadata) for each in others)])
    if annotation is bool:
        return "true or false"
    if annotation is str:
        return "a text"
    return ("a whole number" if annotation is int else "a number") + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    bounds = [part for entry in metadata for part in getattr(entry, "metadata", [entry])]
    words = [
        f"{words} {getattr(bound, name):.12g}"
        for bound in bounds
        for name, words in BOUNDS.items()
        if hasattr(bound, name)
    ]
    return " " + " and ".join(words) if words else ""
