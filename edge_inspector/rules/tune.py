"""
Tunes rules on good images: geometry by the mean of measured balls, limits by extreme values.

Never give it test images, nor defective ones: geometry is set on one set of good images, limits on
another, and nothing else is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tomlkit
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.records import Pixels
from edge_inspector.rules.balls import BallGauge, Balls
from edge_inspector.rules.bga import RuleScorer
from edge_inspector.rules.body import BodyGauge
from edge_inspector.rules.grid import Places, nodes
from edge_inspector.rules.parameters import BallMap, GridParameters, RuleParameters

Floats = NDArray[np.float64]
LEAST = 20
"""Good images of either kind, fewer say nothing of extremes."""
LIMITS = (
    "pitch_px",
    "small_share",
    "large_share",
    "elongation",
    "extra_fill",
    "bridge_contrast",
    "scratch_grey",
    "window_grey",
    "stain_grey",
)


def tune(
    start: RuleParameters,
    geometry: Sequence[Pixels],
    limits: Sequence[Pixels],
    overkill: float = 0.005,
    ball_map: bool = False,
) -> RuleParameters:
    """
    Rules whose limits fail about a share `overkill` of good units, all limits together.

    `start` gives what is not measured: counts, body, and places to within half a pitch. Images are
    uint8 (h, w), good ones only. With `ball_map` the place of every single ball is measured, for
    products whose balls do not lie on a regular grid. Raises `DataError` for too few of them.
    """
    if min(len(geometry), len(limits)) < LEAST:
        raise DataError(
            f"{len(geometry)} good images for the geometry and {len(limits)} for the limits; "
            f"tuning needs {LEAST} of each"
        )
    regular = start.model_copy(update={"ball_map": BallMap()})
    measured = _measure(regular, geometry)
    placed = _with(regular, "grid", _grid(start.grid, measured))
    if ball_map:
        placed = _with(placed, "ball_map", _map(placed, _measure(placed, geometry)))
    for _ in range(2):  # spots in the window are measured relative to the limits of lines
        found = _limits(unit_extremes(placed, limits), overkill)
        placed = _with(placed, "limits", found)
    return placed


def _limits(extremes: Mapping[str, Floats], overkill: float) -> dict[str, float]:
    """Limits that are equally rare, moved together to where the share of rejects is `overkill`."""
    share = overkill / len(LIMITS)
    equal = {name: extreme(extremes[name], share) for name in LIMITS}
    worst = np.max([extremes[name] / equal[name] for name in LIMITS], axis=0)
    together = float(np.quantile(worst, 1 - overkill, method="higher"))
    return {name: round(equal[name] * together * 1.0001, 4) for name in LIMITS}


def unit_extremes(rules: RuleParameters, images: Sequence[Pixels]) -> dict[str, Floats]:
    """By limit, the largest measured value of every image, in the limit's own unit."""
    balls_of, body_of = BallGauge(rules), BodyGauge(rules)
    rows = []
    for image in images:
        balls = balls_of.measure(image)
        body = body_of.measure(image, balls)
        lines = body.lines / body_of.per_line
        rows.append(
            {
                "pitch_px": balls.off_px.max(),
                "small_share": (1 - balls.fill).max(),
                "large_share": (balls.fill - 1).max(),
                "elongation": balls.elongation.max(),
                "extra_fill": body.material.max() * rules.limits.extra_fill,
                "bridge_contrast": balls.gap.max(),
                "scratch_grey": lines[:, ~body_of.window].max(initial=0),
                "window_grey": lines[:, body_of.window].max(initial=0),
                "stain_grey": body.spots.max() * rules.limits.stain_grey,
            }
        )
    return {name: np.array([row[name] for row in rows], np.float64) for name in LIMITS}


def extreme(values: Floats, share: float) -> float:
    """
    The value that a share of further maxima exceeds, after Gumbel (1958).

    The distribution of maxima is laid through the median and the 95th percentile, so that a rare
    outlier among the good images does not set the limit.
    """
    middle, high = np.quantile(values, [0.5, 0.95])
    spread = max(float(high - middle), 0.02 * abs(float(middle)), 1e-3)
    scale = spread / (_reduced(0.95) - _reduced(0.5))
    return float(middle) + scale * (_reduced(1 - share) - _reduced(0.5))


def _reduced(quantile: float) -> float:
    return -math.log(-math.log(quantile))


def _grid(grid: GridParameters, measured: Sequence[Balls]) -> dict[str, float]:
    """Nodes by least squares on the mean centre of each ball, poses taken out."""
    mean = _middle(measured)
    shift = np.mean([b.placement.of(mean).mean() for b in measured]) - mean.mean()
    columns = np.arange(grid.blocks * grid.block_columns)
    block, column = np.divmod(np.repeat(columns, grid.block_rows), grid.block_columns)
    row = np.tile(np.arange(grid.block_rows), columns.size)
    ones = np.ones(mean.size)
    x = np.linalg.lstsq(np.stack([ones, column, block], 1), (mean + shift).real, rcond=None)[0]
    y = np.linalg.lstsq(np.stack([ones, row], 1), (mean + shift).imag, rcond=None)[0]
    found = {
        "first_x_px": x[0],
        "first_y_px": y[0],
        "pitch_x_px": x[1] if grid.block_columns > 1 else grid.pitch_x_px,
        "block_step_px": x[2] if grid.blocks > 1 else grid.block_step_px,
        "pitch_y_px": y[1],
        "ball_diameter_px": np.sqrt(np.median([b.ball_area_px2 for b in measured]) * 4 / np.pi),
    }
    return {name: round(float(value), 3) for name, value in found.items()}


def _middle(measured: Sequence[Balls]) -> Places:
    """The median centre of every ball, poses taken out."""
    back = np.stack([(b.centre - b.placement.offset) / b.placement.turn for b in measured])
    return np.asarray(np.median(back.real, axis=0) + 1j * np.median(back.imag, axis=0))


def _map(rules: RuleParameters, measured: Sequence[Balls]) -> dict[str, list[float]]:
    """Where every ball lies off the regular grid."""
    off = _middle(measured) - nodes(rules.grid, BallMap())
    return {"dx_px": off.real.round(2).tolist(), "dy_px": off.imag.round(2).tolist()}


def _measure(rules: RuleParameters, images: Sequence[Pixels]) -> list[Balls]:
    gauge = BallGauge(rules)
    return [gauge.measure(image) for image in images]


def _with(rules: RuleParameters, table: str, values: Mapping[str, Any]) -> RuleParameters:
    changed: dict[str, Any] = rules.model_dump()
    changed[table] |= values
    return RuleParameters.model_validate(changed)


def overkill_of(rules: RuleParameters, images: Sequence[Pixels]) -> float:
    """Share of these good images that the rules reject."""
    scorer = RuleScorer(rules)
    worst = [max(v.ratio for v in scorer.violations(image)) for image in images]
    return float(np.mean(np.array(worst) >= 1))


def to_toml(rules: RuleParameters, made_by: str) -> str:
    """The rules as a document, every parameter with its meaning, headed by how it was made."""
    document = tomlkit.document()
    for line in made_by.splitlines():
        document.add(tomlkit.comment(line))
    for name in RuleParameters.model_fields:
        part = getattr(rules, name)
        table = tomlkit.table()
        for key, value in part.model_dump(mode="json", exclude_defaults=True).items():
            table.add(key, value)
            if meaning := type(part).model_fields[key].description:
                table[key].comment(meaning)
        if table:
            document.add(tomlkit.nl())
            document.add(name, table)
    return tomlkit.dumps(document)
