"""Values of several origins laid over each other key by key: file, environment, arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from edge_inspector.documents import nearest, tables


def overlaid(below: Mapping[str, Any], *above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; every other value above replaces the one below."""
    merged = dict(below)
    for layer in above:
        for key, value in layer.items():
            table = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = overlaid(merged[key], value) if table else value
    return merged


def has(layer: Any, keys: Sequence[str]) -> bool:
    """Whether a layer gives the value at `keys`, or the whole list or value around it."""
    for key in keys:
        if not isinstance(layer, Mapping):
            return True
        if key not in layer:
            return False
        layer = layer[key]
    return True


def leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The key paths of all values that are no table themselves."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


def unknown_variable(model: type[BaseModel], prefix: str, names: Iterable[str]) -> str | None:
    """
    What is wrong with the first prefixed variable that no key of `model` answers to.

    pydantic-settings ignores such a variable, even with `extra="forbid"`.
    """
    for name in names:
        if name.upper().startswith(prefix):
            given = name[len(prefix) :].lower().split("__")
            if (known := _missed(model, given)) is not None:
                hint = re.sub(r"'(\w+)'", lambda key: prefix + key[1].upper(), known)
                return f"unknown environment variable {name}{hint}"
    return None


def _missed(model: type[BaseModel], given: list[str]) -> str | None:
    """None when `given` leads to a key, else a hint at the nearest one, which may be empty."""
    table: type[BaseModel] | None = model
    for depth, key in enumerate(given):
        fields = table.model_fields if table else {}
        if key not in fields:
            known = ["__".join([*given[:depth], name]) for name in fields]
            return nearest("__".join(given[: depth + 1]), known)
        inside = list(tables(fields[key].annotation))
        table = inside[0] if len(inside) == 1 else None
    return None
