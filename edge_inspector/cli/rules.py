"""`rules`: what measures without a network: tools learned for any region, and rules tuned for one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Pixels
from edge_inspector.rules.parameters import RuleParameters, load_rules
from edge_inspector.rules.tune import overkill_of, to_toml, tune
from edge_inspector.studies.dataset import (
    SPLITS,
    Item,
    is_good,
    load_crop,
    read_image,
    read_items,
)
from edge_inspector.studies.learn_tools import learn_tools, region_crops, write_tools


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Arguments of `rules`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    show = kinds.add_parser("show", help="every parameter with its value and meaning")
    show.add_argument("rules", type=Path, help="rules TOML")
    tuning = kinds.add_parser("tune", help="geometry and limits from good images")
    tuning.add_argument("rules", type=Path, help="rules TOML to start from")
    tuning.add_argument("--data", type=Path, required=True, help="CSV or folder of images")
    tuning.add_argument("--out", type=Path, required=True, help="rules TOML to write")
    tuning.add_argument("--overkill", type=float, default=0.005)
    tuning.add_argument(
        "--ball-map", action="store_true", help="measure each ball's place off the regular grid"
    )
    learning = kinds.add_parser("learn", help="measuring tools of a region, from good frames")
    learning.add_argument("recipe", type=Path, help="recipe.toml")
    learning.add_argument("--region", required=True, help="its name in the recipe")
    learning.add_argument("--data", type=Path, required=True, help="CSV or folder of images")
    learning.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    learning.add_argument("--word", default="blob", help='what to call a blob, such as "ball"')
    learning.add_argument("--out", type=Path, required=True, help="tools TOML to write")


def run_rules(args: argparse.Namespace) -> int:
    """Show, learn, or tune; learning and tuning say what came of it."""
    if args.kind == "learn":
        return _learn(args)
    rules = load_rules(args.rules)
    if args.kind == "show":
        Console().print(_table(rules))
        return 0
    if not 0 < args.overkill < 1:
        raise Misuse(f"--overkill {args.overkill:g}; it lies between 0 and 1")
    items = [item for item in read_items(args.data) if is_good(item.label)]
    side = rules.body.crop_side_px
    geometry = list(_images(items, "train", side))
    limits = list(_images(items, "val", side))
    tuned = tune(rules, geometry, limits, args.overkill, args.ball_map)
    made_by = (
        f"Made by `edge-inspector rules tune{' --ball-map' if args.ball_map else ''}` from {len(geometry)} good training and "
        f"{len(limits)} good\nvalidation images, for an overkill of {args.overkill:g}."
    )
    args.out.write_text(to_toml(tuned, made_by), encoding="utf-8")
    print(f"{args.out}: rejects {100 * overkill_of(tuned, limits):.2f} % of the validation images")
    return 0


def _learn(args: argparse.Namespace) -> int:
    """Tools of a region; exit status 1 where good frames give no tool that repeats."""
    recipe = load_recipe(args.recipe)
    items = [i for i in read_items(args.data) if is_good(i.label) and i.split == args.split]
    camera = next((one.camera for one in recipe.regions if one.name == args.region), "")
    frames = (read_image(item.path) for item in items if item.camera in ("", camera))
    crops, unfit = region_crops(recipe, args.region, frames)
    tools = learn_tools(crops, args.word)
    for name, why in tools.left_out.items():
        print(f"left out {name}: {why}")
    if unfit:
        print(f"{unfit} frames gave no crop")
    if not tools.used:
        print("nothing repeats on these crops; let an engine judge the region alone")
        return 1
    write_tools(tools, args.out)
    print(f"{args.out}: {', '.join(tools.used)}, learned from {tools.crops} crops")
    return 0


def _images(items: list[Item], split: str, side: int) -> Iterator[Pixels]:
    chosen = [item for item in items if item.split == split]
    if not chosen:
        raise DataError(f"no good image in split '{split}'; tuning needs train and val")
    shape = Input(height=side, width=side, channels=1)
    console = Console(stderr=True)
    for item in track(chosen, f"reading {split}", console=console, disable=not console.is_terminal):
        yield np.asarray(load_crop(item.path, shape)[:, :, 0], np.uint8)


def _table(rules: RuleParameters) -> Table:
    table = Table("parameter", "value", "meaning")
    for name in RuleParameters.model_fields:
        part = getattr(rules, name)
        for key, value in part.model_dump().items():
            table.add_row(
                f"{name}.{key}", str(value), type(part).model_fields[key].description or ""
            )
    return table
