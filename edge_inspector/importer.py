"""Turns `package.module:Attribute` into the attribute, importing only what was asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from edge_inspector.errors import BackendMissing, Misuse


def load(target: str) -> Any:
    """Import `package.module:Attribute`; raises `BackendMissing` when a package is absent."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise Misuse(f"'{target}' is not of the form package.module:Attribute")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise BackendMissing(
            f"'{target}' needs the package '{error.name}', which is not installed"
        ) from error
    if not hasattr(module, attribute):
        raise Misuse(f"module '{module_name}' has no attribute '{attribute}'")
    return getattr(module, attribute)


def choose(table: Mapping[str, str], name: str, what: str) -> Any:
    """Load what `name` stands for in `table`, or a dotted plugin of the user's own."""
    if name in table:
        return load(table[name])
    if ":" in name:
        return load(name)
    raise Misuse(
        f"unknown {what} '{name}'; known: {', '.join(sorted(table))}, or package.module:Attribute"
    )
