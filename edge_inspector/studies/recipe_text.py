"""A recipe as TOML that people read: stable, commented, paths relative to its folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import tomlkit

from edge_inspector.documents import parse_toml, validate
from edge_inspector.recipe import Recipe

COMMENTS = {
    "engines": "Folders of trained engines; regions that look alike share one.",
    "alignment": "How the product is found in a frame; regions are in px of the reference.",
    "regions": "Where it is judged: rect = [left, top, width, height] in reference px.",
    "calibration": "Written by `calibrate`; the threshold and what it promises.",
    "quality": "Written by `calibrate`; a frame beyond these limits is a camera's fault.",
    "golden": "Units whose verdict is fixed, judged at start.",
}
PATH_TABLES = ("engines", "rules")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """
    Write the whole recipe, so that `load_recipe(path)` gives it back; an old file is replaced.

    Raises `DocumentError` where the recipe does not stand as a document.
    """
    text = recipe_text(recipe, path.resolve().parent)
    validate(Recipe, parse_toml(text, path), path, text)
    replace_text(path, text)


def recipe_text(recipe: Recipe, folder: Path, without: Collection[str] = ()) -> str:
    """The recipe as TOML that is to lie in `folder`, less some of its keys."""
    values = recipe_values(recipe, folder)
    values = {key: value for key, value in values.items() if key not in without}
    order = sorted(values, key=lambda key: isinstance(values[key], dict) or _tables(values[key]))
    return "".join(_section(key, values[key]) for key in order)


def recipe_values(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What a recipe that lies in `folder` says, in plain values, defaults left out."""
    values = recipe.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for table in PATH_TABLES:
        if table in values:
            values[table] = {name: _beside(at, folder) for name, at in values[table].items()}
    for table in (*values.get("alignment", {}).values(), *values.get("golden", ())):
        for key in {"image", "picture"} & set(table):
            table[key] = _beside(table[key], folder)
    if "shadow" in values:
        values["shadow"] = _beside(values["shadow"], folder)
    return values


def replace_text(path: Path, text: str) -> None:
    """Write the whole file or leave it as it was, also when the power fails."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    fd, temporary = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
    try:
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor has no path)
            file.write(text)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        Path(temporary).replace(path.resolve())
    finally:
        Path(temporary).unlink(missing_ok=True)


def _section(key: str, value: Any) -> str:
    """One key with its value, tables after a blank line and a word on what they are."""
    if _tables(value):
        tables = [_table(key, entry) for entry in value]
    elif isinstance(value, dict):
        tables = [tomlkit.dumps({key: value})]
    else:
        return tomlkit.dumps({key: value})
    comment = f"# {COMMENTS[key]}\n" if key in COMMENTS else ""
    return "\n" + comment + "\n".join(tables)


def _table(key: str, entry: dict[str, Any]) -> str:
    """One `[[key]]`; tables in it stand on one line each."""
    inline = {name: _inline(v) if isinstance(v, dict) else v for name, v in entry.items()}
    return f"[[{key}]]\n{tomlkit.dumps(inline)}"


def _inline(table: dict[str, Any]) -> Any:
    line = tomlkit.inline_table()
    line.update(table)
    return line


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _beside(at: str, folder: Path) -> str:
    """`at` as seen from `folder`; a path that is relative already stays as it is."""
    return Path(os.path.relpath(at, folder)).as_posix() if Path(at).is_absolute() else at
