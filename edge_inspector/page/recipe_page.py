"""The page on which a recipe's regions are dragged, named and saved: one file, no network."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2

from edge_inspector.errors import Breakage, Misuse
from edge_inspector.recipe import PAGE_VERSION, Recipe
from edge_inspector.records import Pixels
from edge_inspector.studies.recipe_text import recipe_text, recipe_values

LEFT_TO_THE_PAGE = ("engines", "regions", "calibration")
"""Keys that the page writes, and the threshold, which holds for the old regions alone."""
_STATE = re.compile(r'<script type="application/json" id="state">(.*?)</script>', re.DOTALL)


def recipe_page(
    recipe: Recipe,
    folder: Path,
    pictures: Mapping[str, Pixels],
    why: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """
    The page for a recipe that is to lie in `folder`, as HTML.

    `pictures` are by camera what the recipe's reference shows, uint8; `why` explains a proposal.
    """
    values = recipe_values(recipe, folder)
    saved = recipe.model_copy(update={"page": PAGE_VERSION})
    state = {
        "page": PAGE_VERSION,
        "product": recipe.product,
        "version": recipe.version,
        "head": recipe_text(saved, folder, without=LEFT_TO_THE_PAGE),
        "engines": values.get("engines", {}),
        "rules": sorted(recipe.rules),
        "regions": [{"camera": "main", **region} for region in values["regions"]],
        "cameras": {name: _camera(name, picture) for name, picture in pictures.items()},
        "why": [sentence for sentences in (why or {}).values() for sentence in sentences],
    }
    parts = {
        "TITLE": escape(f"{recipe.product}, recipe version {recipe.version}"),
        "STYLE": _asset("recipe.css"),
        "SCRIPT": _asset("recipe_document.js") + _asset("recipe.js"),
        "STATE": json.dumps(state).replace("<", "\\u003c"),
    }
    # In one pass, so that nothing within a part is taken for a mark.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _asset("recipe.html"))


def saved_recipe(path: Path) -> str:
    """
    The TOML in a page that was saved; raises `Misuse` for one of another version or another file.

    What it says is not checked here.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Misuse(f"{path}: cannot be read as UTF-8 text: {error}") from error
    found = _STATE.search(text)
    try:
        state = json.loads(found[1]) if found else None
    except ValueError as error:
        raise Misuse(
            f"{path}: the recipe in it is damaged ({error}); save the page again"
        ) from error
    if not isinstance(state, dict) or "page" not in state:
        raise Misuse(f"{path}: is no page that 'edge-inspector recipe new' or 'edit' wrote")
    if state["page"] != PAGE_VERSION:
        raise Misuse(
            f"{path}: is a page of version {state['page']}, this version reads {PAGE_VERSION}; save "
            "the TOML from it in a browser, check it with 'recipe show', and write a new page with "
            "'recipe edit'"
        )
    toml = state.get("toml")
    if not isinstance(toml, str):
        raise Misuse(
            f"{path}: nothing was saved in this page; press 'Save page' in a browser first"
        )
    return toml


def _camera(name: str, picture: Pixels) -> dict[str, Any]:
    done, jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 92))
    if not done:
        raise Breakage(f"the frame of camera '{name}' cannot be encoded as JPEG")
    return {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "picture": "data:image/jpeg;base64," + b64encode(jpeg.tobytes()).decode(),
    }


def _asset(name: str) -> str:
    return files("edge_inspector.page").joinpath(name).read_text(encoding="utf-8")
