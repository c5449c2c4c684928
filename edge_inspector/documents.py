"""
Reading the three TOML documents: frozen models, unknown keys refused with file, line and nearest key.

Nothing here knows what a document means; `settings`, `recipe` and `manifest` do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError
from tomlkit.exceptions import ParseError, TOMLKitError

from edge_inspector.errors import DocumentError

Name = r"^[A-Za-z0-9_.-]{1,64}$"


class Document(BaseModel):
    """A part of a document: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


Model = TypeVar("Model", bound=BaseModel)


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
    """`values` as a `model`; the first fault becomes a `DocumentError` with its line."""
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
    faults = [_sentence(model, fault) for fault in error.errors()]
    location = [part for part in error.errors()[0]["loc"] if isinstance(part, (str, int))]
    return DocumentError(str(path), line_of(text, location), "; ".join(dict.fromkeys(faults)))


def _sentence(model: type[BaseModel], fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_keys(model)), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{place}'{hint}"
    given = fault.get("input")
    shown = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return f"'{place}': {fault['msg']}{shown}" if place else str(fault["msg"])


def _keys(model: type[BaseModel]) -> set[str]:
    """Every key that the document or any of its tables knows."""
    schema = model.model_json_schema()
    tables = [schema, *schema.get("$defs", {}).values()]
    return {key for table in tables for key in table.get("properties", {})}


_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-\"'.]+)\s*=")


def line_of(text: str, location: Sequence[str | int]) -> int | None:
    """The line of a key; of the nearest enclosing table where the key is absent."""
    wanted = [part for part in location if not (isinstance(part, str) and "[" in part)]
    best: tuple[int, int] | None = None
    table: list[str | int] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        here: list[str | int] | None = None
        if header := _HEADER.match(line):
            table = _table(header, counts)
            here = table
        elif key := _KEY.match(line):
            here = [*table, *_split(key[1])]
        if here is None:
            continue
        depth = _shared(here, wanted)
        if depth == len(here) and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _table(header: re.Match[str], counts: dict[str, int]) -> list[str | int]:
    parts = _split(header[2])
    if header[1] == "[[":
        name = ".".join(parts)
        counts[name] = counts.get(name, -1) + 1
        return [*parts, counts[name]]
    head = parts[0]
    return [head, counts[head], *parts[1:]] if head in counts and len(parts) > 1 else [*parts]


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _shared(here: Sequence[str | int], wanted: Sequence[str | int]) -> int:
    """How many leading parts agree, skipping tags that a union puts into the location."""
    matched, position = 0, 0
    for part in wanted:
        if position < len(here) and str(here[position]) == str(part):
            matched += 1
            position += 1
    return matched
