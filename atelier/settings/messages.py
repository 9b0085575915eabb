"""What is wrong with a settings file, in words: where, what it holds, what it may hold. Knows no particular setting."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from atelier.errors import AtelierError

CONFLICT = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)  # what git leaves for a person to decide


def read_yaml(path: Path, content: bytes | None = None) -> Any:
    """The file's document, as ruamel.yaml's round-trip loader reads it, which is safe and keeps lines.

    `content`, if given, is read in place of the file.

    Raises AtelierError naming the file and, where it can be told, the line; FileNotFoundError passes.
    """
    try:
        text = (path.read_bytes() if content is None else content).decode()
    except UnicodeDecodeError as error:
        raise AtelierError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    if conflict := CONFLICT.search(text):
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
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:  # of dates and numbers, say
        raise AtelierError(f"{path}: not valid YAML: {error}") from None


def describe_errors(
    path: Path, document: Any, error: ValidationError, model: type[BaseModel]
) -> Iterator[str]:
    """A sentence for each thing that `model` finds wrong in `document`, which ruamel.yaml's round-trip loader read."""
    seen = set()
    for problem in error.errors():
        keys = _keys(document, problem["loc"])
        if keys in seen:  # a union reports each of its branches
            continue
        seen.add(keys)
        name = ".".join(str(key) for key in keys)
        if problem["type"] == "value_error":
            message = str(problem["ctx"]["error"])
            named = tuple(message.split(" ", 1)[0].rstrip(":").split("."))
            yield f"{path}:{_line(document, named)}: {message}"
        elif problem["type"] == "extra_forbidden":
            known = list(_fields(model, keys[:-1]))
            close = difflib.get_close_matches(str(keys[-1]), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            yield f"{path}:{_line(document, keys)}: {name} is an unknown key; {hint}"
        else:
            allowed = allowed_values(model, keys)
            yield f"{path}:{_line(document, keys)}: {name} holds {_value(document, keys)!r}; it may hold {allowed}"


def allowed_values(model: type[BaseModel], keys: Sequence[int | str]) -> str:
    """What the key at this path (("train", "kimg"), say) may hold, in words."""
    names = [key for key in keys if isinstance(key, str)]
    field = _fields(model, names[:-1])[names[-1]]
    return field.description or _described(field.annotation, field.metadata)


def join_with_or(values: Sequence[Any]) -> str:
    """a, b or c."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def counted(count: int, one: str) -> str:
    """Return a count with its noun: "1 work", "1,374 works"."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def to_plain(node: Any) -> Any:
    """Ruamel's round-trip types as plain ones, which strict validation asks for."""
    if isinstance(node, Mapping):
        return {str(key): to_plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [to_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, max(position, 0)) + 1


def _keys(document: Any, location: Sequence[int | str]) -> tuple[int | str, ...]:
    """The part of pydantic's location that is in the document (it appends the names of union branches)."""
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


def _value(document: Any, keys: Sequence[int | str]) -> Any:
    for key in keys:
        document = document[key]
    return to_plain(document)


def _line(document: Any, keys: Sequence[int | str]) -> int:
    line = 0
    for key in keys:
        try:
            if isinstance(document, Mapping) and key in document:
                line = document.lc.key(key)[0]  # type: ignore[attr-defined]  # ruamel's own
            elif isinstance(document, list) and isinstance(key, int):
                line = document.lc.item(key)[0]  # type: ignore[attr-defined]
            else:
                break
        except (KeyError, TypeError):  # it comes from elsewhere, by a merge (<<): then the section's line
            break
        document = document[key]
    return line + 1


def _fields(model: type[BaseModel], keys: Sequence[int | str]) -> dict[str, FieldInfo]:
    for key in keys:
        annotation = model.model_fields[str(key)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields


def _described(annotation: Any, metadata: Sequence[Any]) -> str:
    """What a field may hold, in words, from its type and bounds."""
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a section with the keys {', '.join(annotation.model_fields)}"
    if hasattr(annotation, "__metadata__"):
        return _described(arguments[0], [*annotation.__metadata__, *metadata])
    if getattr(annotation, "__origin__", None) is Literal:
        return join_with_or(arguments)
    if getattr(annotation, "__origin__", None) is list:
        sizes = [item.min_length for item in metadata if isinstance(item, MinLen)]
        many = f"a list of {sizes[0]}" if sizes else "a list"
        return f"{many}, each {_described(arguments[0], [])}"
    if type(None) in arguments:
        return f"null or {_described(next(a for a in arguments if a is not type(None)), metadata)}"
    if annotation is bool:
        return "true or false"
    if annotation is str:
        return "a text"
    return ("a whole number" if annotation is int else "a number") + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    words = []
    for item in (part for entry in metadata for part in getattr(entry, "metadata", [entry])):
        match item:
            case Ge():
                words.append(f"at least {item.ge:.12g}")
            case Gt():
                words.append(f"above {item.gt:.12g}")
            case Le():
                words.append(f"at most {item.le:.12g}")
            case Lt():
                words.append(f"below {item.lt:.12g}")
    return " " + " and ".join(words) if words else ""
