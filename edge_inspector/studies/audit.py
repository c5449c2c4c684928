"""
What was changed in a recipe that left its scale as it was: rows of JSON in the store's folder.

A row links the recipe before with the one after it, so that verdicts of both count as judged on
one scale: threshold, observing and golden samples may differ, regions, engines and scales do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomlkit

from edge_inspector import clock
from edge_inspector.documents import parse_toml, validate
from edge_inspector.errors import StoreFault
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.studies.recipe_text import replace_text
from edge_inspector.wiring import evidence

NAME = "audit.jsonl"
What = Literal["tighten", "promote", "golden"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One change: by whom, when, of which recipe, and the figures that it rested on."""

    what: What
    by: str
    utc: str
    product: str
    from_version: int
    to_version: int
    from_evidence: str
    to_evidence: str
    figures: dict[str, Any]


def append(folder: Path, row: Row) -> None:
    """Add a row, on disk when this returns; raises `StoreFault`."""
    path = folder / NAME
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreFault(f"{path}: {error.strerror}; free space or give rights, again") from error


def rows(folder: Path) -> list[Row]:
    """All rows, the oldest first; raises `StoreFault` for one that cannot be read."""
    path = folder / NAME
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(msgspec.json.decode(line, type=Row))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreFault(f"{path}:{number}: {error}; mend or remove this line") from error
    return found


def family(now: str, known: Sequence[Row]) -> frozenset[str]:
    """Evidence digests that verdicts comparable with those of `now` carry."""
    found = {now}
    for row in reversed(known):
        if row.to_evidence in found:
            found.add(row.from_evidence)
    return frozenset(found)


def revise(
    path: Path,
    folder: Path,
    what: What,
    by: str,
    change: Callable[[tomlkit.TOMLDocument], None],
    figures: dict[str, Any],
) -> Recipe:
    """
    Change the recipe at `path`, its version one up, comments kept, with a row in `folder`.

    The row comes first: a change without it would part the verdicts before from those after it.
    """
    before = load_recipe(path)
    text = path.read_text(encoding="utf-8")
    document = tomlkit.parse(text)
    change(document)
    document["version"] = before.version + 1
    written = tomlkit.dumps(document)
    validate(Recipe, parse_toml(written, path), path, written)
    row = Row(
        what=what,
        by=by,
        utc=clock.utc_text(clock.utc_ns()),
        product=before.product,
        from_version=before.version,
        to_version=before.version + 1,
        from_evidence=evidence(path, before),
        to_evidence=evidence(path, before, written.encode()),
        figures=figures,
    )
    append(folder, row)
    replace_text(path, written)
    return load_recipe(path)
