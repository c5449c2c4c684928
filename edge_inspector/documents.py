"""
Reading the three TOML documents: frozen models, unknown keys refused with file, line and nearest key.

Nothing here knows what a document means; `settings`, `recipe` and `manifest` do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tomlkit.container import Container
from tomlkit.exceptions import ParseError, TOMLKitError
from tomlkit.items import AbstractTable, Item, Null

from edge_inspector.errors import DocumentError

Name = r"^[A-Za-z0-9_.-]{1,64}$"
NameStr = Annotated[str, Field(pattern=Name)]
TYPE_TAG = "type="
"""Tags of a union chosen by a callable start so, and hence never equal a key."""


class Document(BaseModel):
    """A part of a document: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def type_of(given: Any) -> str:
    """The tag of a source or sink: its type, one tag for all plug-ins."""
    kind = given.get("type", "") if isinstance(given, dict) else getattr(given, "type", "")
    return TYPE_TAG + ("package.module:Attribute" if ":" in str(kind) else str(kind))


Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The document as plain dictionaries, and its text; raises `DocumentError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentError(str(path), None, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(str(path), None, f"cannot be read as UTF-8 text: {error}") from error
    return parse_toml(text, path), text


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The text of `path` as plain dictionaries; raises `DocumentError`."""
    try:
        return tomlkit.parse(text).unwrap()
    except ParseError as error:
        raise DocumentError(str(path), error.line, f"is not TOML: {error}") from error
    except TOMLKitError as error:
        raise DocumentError(str(path), None, f"is not TOML: {error}") from error


def validate(model: type[Model], values: dict[str, Any], path: Path, text: str) -> Model:
    """`values` as a `model`; the faults become a `DocumentError` with the line of the first."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise document_error(model, error, path, text) from None


def load(model: type[Model], path: Path) -> Model:
    """Read and check one document."""
    values, text = read_toml(path)
    return validate(model, values, path, text)


def document_error(
    model: type[BaseModel], error: ValidationError, path: Path, text: str
) -> DocumentError:
    """All faults of a document in one message, placed at the line of the first."""
    values = parse_toml(text, path)
    faults = [sentence(model, fault, values) for fault in error.errors()]
    line = line_of(text, keys_of(error.errors()[0], values))
    return DocumentError(str(path), line, "; ".join(dict.fromkeys(faults)))


def keys_of(fault: Any, values: Any) -> list[str | int]:
    """Where a fault is, as keys of the document: without the tags that unions put in between."""
    keys: list[str | int] = []
    at = values
    for number, part in enumerate(fault["loc"], start=1):
        within = part in at if isinstance(at, Mapping) else isinstance(part, int)
        absent = number == len(fault["loc"]) and fault["type"] in {"missing", "extra_forbidden"}
        if within or absent:
            keys.append(part)
            at = _value(at, part)
    return keys


def sentence(model: type[BaseModel], fault: Any, values: Mapping[str, Any]) -> str:
    """What is wrong at one place, for the user."""
    keys = keys_of(fault, values)
    place = ".".join(str(part) for part in keys)
    given = fault.get("input")
    if fault["type"] == "extra_forbidden":
        fields = table_at(model, keys[:-1], values).model_fields
        return f"unknown key '{place}'{nearest(str(keys[-1]), fields)}"
    if fault["type"] == "missing":
        return f"key '{place}' is missing"
    if fault["type"] == "union_tag_not_found":
        return f"'{place}' needs the key {fault['ctx']['discriminator']}"
    if fault["type"] == "union_tag_invalid":
        tag = fault["ctx"]["tag"].removeprefix(TYPE_TAG)
        known = re.findall(rf"'(?:{TYPE_TAG})?([^']*)'", fault["ctx"]["expected_tags"])
        return f"'{place}': unknown type '{tag}'{nearest(tag, known)} (known: {', '.join(known)})"
    shown = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    message = fault["msg"].removeprefix("Value error, ")
    return f"'{place}': {message}{shown}" if place else message


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that looks most like `word`, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def table_at(model: type[BaseModel], keys: Location, values: Any) -> type[BaseModel]:
    """The model of the table that `keys` lead to."""
    at: Any = values
    candidates = [model]
    for key in keys:
        at = _value(at, key)
        fields = [m.model_fields[key] for m in candidates if key in m.model_fields]
        candidates = [t for f in fields for t in tables(f.annotation)] or candidates
        candidates = [t for t in candidates if _fits(t, at)] or candidates
    return candidates[0]


def tables(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables(part)


def _fits(table: type[BaseModel], at: Any) -> bool:
    """True unless a choice that the table requires says that another of a union is meant."""
    choices = [
        (name, get_args(field.annotation))
        for name, field in table.model_fields.items()
        if get_origin(field.annotation) is Literal and (field.is_required() or name == "type")
    ]
    return not isinstance(at, Mapping) or all(at.get(name) in known for name, known in choices)


def _value(at: Any, key: str | int) -> Any:
    if isinstance(at, Mapping):
        return at.get(key)
    return at[key] if isinstance(at, Sequence) and isinstance(key, int) and key < len(at) else None


_MARK = "\0"


def line_of(text: str, location: Location) -> int | None:
    """The line of a key; of the nearest enclosing table or list where the key is absent."""
    document = tomlkit.parse(text)
    found: list[list[Any]] = [[document]]
    for part in location:
        found.append([child for item in found[-1] for child in _children(item, part)])
    for items in reversed(found[1:]):
        inside = [child for item in items for child in _children(item, None)]
        lines = (_line(document, item) for item in [*items, *inside])
        if line := next((line for line in lines if line is not None), None):
            return line
    return None


def _children(item: Any, key: str | int | None) -> list[Any]:
    """The entries of a table or list under `key`, or all of them; a table may be written in parts."""
    if isinstance(item, AbstractTable):
        item = item.value
    if isinstance(item, Container):
        body = [(k.key, v) for k, v in item.body if k is not None and not isinstance(v, Null)]
        return [value for name, value in body if key is None or name == str(key)]
    if isinstance(item, list):
        return [value for n, value in enumerate(item) if key is None or n == key]
    return []


def _line(document: Container, item: Any) -> int | None:
    """The line an item is written on, found by marking it; None for what has no line of its own."""
    if not isinstance(item, Item):
        return None
    indent = item.trivia.indent
    item.trivia.indent = indent + _MARK
    before, mark, _ = document.as_string().partition(_MARK)
    item.trivia.indent = indent
    return before.count("\n") + 1 if mark else None
