"""Words for messages: counts, choices, and the values that a key of params.yaml may hold."""

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 work", "1,374 works"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_with_or(values: Sequence[Any]) -> str:
    """Return the values as a choice: "a, b or c"."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def allowed_values(model: type[BaseModel], keys: Sequence[int | str]) -> str:
    """Describe what the key at a path like ("train", "kimg") may hold; list indices in the path are skipped."""
    names = [key for key in keys if isinstance(key, str)]
    field = fields_at(model, names[:-1])[names[-1]]
    return field.description or _describe(field.annotation, field.metadata)


def fields_at(model: type[BaseModel], keys: Sequence[int | str]) -> dict[str, FieldInfo]:
    """Return the fields of the section at a path of `model`."""
    for key in keys:
        annotation = model.model_fields[str(key)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields


def _describe(annotation: Any, metadata: Sequence[Any]) -> str:
    """Describe the values that a type and its bounds allow."""
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
