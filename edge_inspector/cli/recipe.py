"""`recipe`: proposes alignment and regions from frames, writes the page to edit them, shows them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.documents import parse_toml, validate
from edge_inspector.errors import DataError, Misuse
from edge_inspector.page.recipe_page import recipe_page, saved_recipe
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.records import Outcome, Pixels
from edge_inspector.studies.dataset import SUFFIXES, is_good, read_image, read_items
from edge_inspector.studies.propose import propose_cameras
from edge_inspector.studies.recipe_text import replace_text, write_recipe
from edge_inspector.studies.recorded import TABLE, read_recorded
from edge_inspector.studies.show_recipe import reference_frame, show_recipe

PAGES = (".html", ".htm")
MOST_READ = 32
"""Frames read of each camera, evenly chosen; the proposal looks at fewer."""
DEFAULT_CAMERA = "main"


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Arguments of `recipe`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="a draft from recorded frames of good units")
    new.add_argument("folder", type=Path, help="a recorded folder, a folder of images, or a CSV")
    new.add_argument("--product", required=True)
    new.add_argument("--out", type=Path, default=Path("recipe.toml"), help="default: recipe.toml")
    new.add_argument("--html", type=Path, help="also write the page to drag and name the regions")
    edit = actions.add_parser("edit", help="the page for a recipe that is there")
    edit.add_argument("recipe", type=Path)
    edit.add_argument("frames", type=Path, nargs="+", help="a good frame; one of each camera")
    edit.add_argument("--html", type=Path, default=Path("recipe.html"), help="default: recipe.html")
    take = actions.add_parser("take", help="the recipe out of a page saved with 'Save page'")
    take.add_argument("page", type=Path)
    take.add_argument("--out", type=Path, help="default: recipe.toml beside the page")
    show = actions.add_parser("show", help="the regions over any frame, in the pose found there")
    show.add_argument("recipe", type=Path)
    show.add_argument("frame", type=Path)
    show.add_argument("--camera", help="camera of the frame; default: the recipe's only one")
    show.add_argument("--out", type=Path, help="PNG to write; default: FRAME-regions.png")


def run_recipe(args: argparse.Namespace) -> int:
    """0 when all is well, 1 when a region leaves the frame."""
    return _ACTIONS[args.action](args)


def _new(args: argparse.Namespace) -> int:
    if args.out.exists():
        raise Misuse(f"{args.out} exists; give another --out, or 'recipe edit' it")
    if not args.out.resolve().parent.is_dir():
        raise Misuse(f"{args.out.resolve().parent}: there is no such folder for --out")
    proposal = propose_cameras(_frames(args.folder), args.product, args.out.resolve().parent)
    write_recipe(proposal.recipe, args.out)
    for camera, sentences in proposal.why.items():
        for sentence in sentences:
            print(f"camera '{camera}': {sentence}")
    cells = ", ".join(f"{region.name} ({region.engine})" for region in proposal.recipe.regions)
    print(f"{args.out}: regions {cells}")
    if args.html is not None:
        pictures = {
            camera: reference_frame(proposal.recipe, frame, camera)
            for camera, frame in proposal.shown.items()
        }
        _write_page(proposal.recipe, args.out, pictures, args.html, proposal.why)
    return 0


def _edit(args: argparse.Namespace) -> int:
    recipe = _load(args.recipe)
    if len(args.frames) != len(recipe.cameras):
        raise Misuse(
            f"{len(args.frames)} frames for the cameras {', '.join(recipe.cameras)}; give one of each, "
            "in this order"
        )
    pictures = {
        camera: reference_frame(recipe, read_image(path), camera)
        for camera, path in zip(recipe.cameras, args.frames, strict=True)
    }
    newer = recipe.model_copy(update={"version": recipe.version + 1})
    _write_page(newer, args.recipe, pictures, args.html)
    return 0


def _write_page(
    recipe: Recipe,
    beside: Path,
    pictures: Mapping[str, Pixels],
    out: Path,
    why: Mapping[str, Sequence[str]] | None = None,
) -> None:
    replace_text(out, recipe_page(recipe, beside.resolve().parent, pictures, why))
    print(f"{out}: open it in a browser, then save the TOML over {beside}")


def _take(args: argparse.Namespace) -> int:
    out = args.out or args.page.with_name("recipe.toml")
    if out.exists():
        raise Misuse(f"{out} exists; give another --out")
    text = saved_recipe(args.page)
    validate(Recipe, parse_toml(text, args.page), args.page, text)
    replace_text(out, text)
    recipe = load_recipe(out)
    print(f"{out}: {recipe.product}, version {recipe.version}, {len(recipe.regions)} regions")
    return 0


def _show(args: argparse.Namespace) -> int:
    recipe = _load(args.recipe)
    if args.camera is None and len(recipe.cameras) > 1:
        raise Misuse(f"the recipe has the cameras {', '.join(recipe.cameras)}; give --camera")
    out = args.out or args.frame.with_name(f"{args.frame.stem}-regions.png")
    shown = show_recipe(recipe, read_image(args.frame), args.camera or recipe.cameras[0])
    if not cv2.imwrite(str(out), shown.picture):
        raise DataError(f"{out}: cannot be written; give a name that ends in .png")
    print(shown.words)
    for problem in shown.outside:
        print(problem)
    print(f"{out}: {len(recipe.regions)} regions drawn")
    return int(bool(shown.outside))


def _load(path: Path) -> Recipe:
    if path.suffix.lower() in PAGES:
        raise Misuse(
            f"{path} is a page, not a recipe; save the TOML from it in a browser, or take it out of a "
            "page saved with 'Save page': edge-inspector recipe take"
        )
    return load_recipe(path)


def _frames(given: Path) -> dict[str, list[NDArray[Any]]]:
    """Frames of good units by camera, some of those that are there; raises `DataError`."""
    paths = _paths(given)
    if not paths:
        raise DataError(f"{given}: no image of a good unit found")
    frames = {}
    for camera, all_of_it in paths.items():
        count = min(len(all_of_it), MOST_READ)
        chosen = np.linspace(0, len(all_of_it) - 1, count).round().astype(int).tolist()
        frames[camera] = [read_image(all_of_it[number]) for number in chosen]
    return frames


def _paths(given: Path) -> dict[str, list[Path]]:
    if (given / TABLE).is_file():
        recorded = read_recorded(given)
        good = [f for f in recorded if f.incumbent is None or f.incumbent.outcome is Outcome.PASS]
        named = [(frame.camera, frame.path) for frame in good]
    elif given.is_dir() and (
        flat := sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES)
    ):
        named = [("", path) for path in flat]
    else:
        named = [(item.camera, item.path) for item in read_items(given) if is_good(item.label)]
    paths: dict[str, list[Path]] = {}
    for camera, path in named:
        paths.setdefault(camera or DEFAULT_CAMERA, []).append(path)
    return paths


_ACTIONS = {"new": _new, "edit": _edit, "take": _take, "show": _show}
