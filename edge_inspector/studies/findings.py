"""What `check` reports on: a station's two documents, and what is found about them, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge_inspector.recipe import Recipe
from edge_inspector.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Literal["OK", "WARN", "FAIL"]
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Station:
    """The two documents that are checked against each other and against the box."""

    settings: Settings
    recipe: Recipe


Check = Callable[[Station], Iterator[Finding]]
