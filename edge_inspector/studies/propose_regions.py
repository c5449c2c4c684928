"""
Which regions a product wants: parts that repeat, cell by cell, and all of it, whole or in tiles.

Whatever else is proposed, some region covers every place of the product, so that a defect outside
the parts is seen as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_inspector.recipe import Grid, Region
from edge_inspector.records import Box, Pixels
from edge_inspector.studies.alike import group_alike
from edge_inspector.studies.pattern import Block, find_blocks

WHOLE_PX = 400
"""A product up to this long is one region: a crop of 256 px then shows it at 0.6 or better."""
TILE_PX = 320
MOST_TILES = 16
"""Larger products are cut into tiles; more of them cost more time than their detail is worth."""
MOST_PARTS = 96
MIN_PART_PX = 24
"""Smaller parts are not worth a crop of their own; the region they lie in shows them."""
LONGEST = 5.0
"""A part longer than this many times its width is cut no finer: a crop is nearly square."""
MOST_KINDS = 3
"""Kinds of tiles that get an engine each; teaching one takes minutes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Regions, and why these."""

    regions: tuple[Region, ...]
    why: tuple[str, ...]


def choose_regions(
    frames: Sequence[Pixels], area: Box, camera: str, prefix: str = "", *, shared: bool = True
) -> Layout:
    """
    Regions within `area` of aligned grey frames; names and engines begin with `prefix`.

    Where the frames show nothing `shared`, no place differs from another: one engine does.
    """
    if not shared:
        return _rest(frames, area, camera, prefix, shared)
    typical = np.median(np.stack(frames), axis=0).astype(np.uint8)
    x, y, width, height = area
    blocks = [
        Block((x + b.box[0], y + b.box[1], *b.box[2:]), b.rows, b.columns)
        for b in find_blocks(np.ascontiguousarray(typical[y : y + height, x : x + width]))
    ]
    parts, why = _parts(frames, blocks, camera, prefix)
    rest = _rest(frames, area, camera, prefix, shared)
    return Layout((*parts, *rest.regions), (*why, *rest.why))


def _parts(
    frames: Sequence[Pixels], blocks: Sequence[Block], camera: str, prefix: str
) -> tuple[list[Region], list[str]]:
    """Blocks of parts large enough to be judged one by one; those alike share an engine."""
    if not blocks:
        return [], ["no part repeats at a pitch"]
    count = sum(block.rows * block.columns for block in blocks)
    sizes = [(b.box[2] / b.columns, b.box[3] / b.rows) for b in blocks]
    found = f"{count} parts repeat, {sizes[0][0]:.1f} x {sizes[0][1]:.1f} px each"
    if min(min(size) for size in sizes) < MIN_PART_PX:
        return [], [f"{found}: below {MIN_PART_PX} px, too small for crops of their own"]
    if count > MOST_PARTS:
        return [], [f"{found}: more than {MOST_PARTS}, too many for crops of their own"]
    if max(max(size) / min(size) for size in sizes) > LONGEST:
        return [], [f"{found}: too long and narrow for crops of their own"]
    first = [_first_cell(block) for block in blocks]
    groups = group_alike(frames, first)
    regions = [
        Region(
            name=prefix + (f"cells-{number}" if len(blocks) > 1 else "cells"),
            rect=block.box,
            camera=camera,
            grid=Grid(rows=block.rows, columns=block.columns),
            engine=prefix + (f"cell-{group + 1}" if max(groups) else "cell"),
        )
        for number, (block, group) in enumerate(zip(blocks, groups, strict=True), start=1)
    ]
    return regions, [f"{found}, in {len(blocks)} block{'s' * (len(blocks) > 1)}: a cell for each"]


def _first_cell(block: Block) -> Box:
    x, y, width, height = block.box
    return (x, y, width // block.columns, height // block.rows)


def _rest(frames: Sequence[Pixels], area: Box, camera: str, prefix: str, shared: bool) -> Layout:
    """All of the product, as one region or as tiles."""
    x, y, width, height = area
    if max(width, height) <= WHOLE_PX:
        region = Region(name=prefix + "whole", rect=area, camera=camera, engine=prefix + "whole")
        return Layout((region,), (f"{width} x {height} px go into one crop",))
    rows, columns = _tiles(width, height)
    tiles = [
        (x + width * c // columns, y + height * r // rows, width // columns, height // rows)
        for r in range(rows)
        for c in range(columns)
    ]
    groups = group_alike(frames, tiles) if shared else [0] * len(tiles)
    cut = f"{width} x {height} px are cut into {rows} x {columns} tiles"
    if max(groups) == 0 or max(groups) >= MOST_KINDS:
        alike = "of one kind" if max(groups) == 0 else "all different, which one engine learns"
        tile = Region(
            name=prefix + "tiles",
            rect=area,
            camera=camera,
            grid=Grid(rows=rows, columns=columns),
            engine=prefix + "tile",
        )
        return Layout((tile,), (f"{cut} {alike}",))
    names = [f"tile-r{r + 1}c{c + 1}" for r in range(rows) for c in range(columns)]
    regions = tuple(
        Region(name=prefix + name, rect=tile, camera=camera, engine=f"{prefix}tile-{group + 1}")
        for name, tile, group in zip(names, tiles, groups, strict=True)
    )
    return Layout(regions, (f"{cut} of {max(groups) + 1} kinds",))


def _tiles(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tiles that are nearly square, and not too many."""
    side = max(TILE_PX, math.sqrt(width * height / MOST_TILES))
    rows, columns = max(round(height / side), 1), max(round(width / side), 1)
    while rows * columns > MOST_TILES:
        rows, columns = (
            (rows - 1, columns) if height / rows < width / columns else (rows, columns - 1)
        )
    return rows, columns
