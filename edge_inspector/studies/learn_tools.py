"""
Measuring tools of a region, learned from good crops: which of them repeat there, and their limits.

A few defective crops among the good ones do not matter: the template is a median, parts need to
be there in most crops only, and crops that stand apart are set aside before a limit is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from numpy.typing import NDArray

from edge_inspector.align import open_alignment
from edge_inspector.crops import cut, expand_region, fit
from edge_inspector.documents import nearest
from edge_inspector.errors import DataError, Misuse, Uninspectable
from edge_inspector.recipe import Recipe
from edge_inspector.records import Pixels, Pose
from edge_inspector.rules.blobs import BlobGauge
from edge_inspector.rules.calipers import SEARCH_PX, CaliperGauge, PatchGauge
from edge_inspector.rules.tool_scorer import ToolScorer
from edge_inspector.rules.tools import Blobs, Calipers, Limits, Patches, Tools, encoded
from edge_inspector.rules.tune import extreme
from edge_inspector.studies.calibrate import robust_spread, set_aside
from edge_inspector.studies.learn_parts import chosen, find_blobs, find_calipers, find_patches
from edge_inspector.studies.recipe_text import replace_text

LEAST_CROPS = 20
LARGEST_PX = 512
"""Longest side of the crops that tools take; larger regions are shrunk to it."""
MEDIAN_OF = 101
FEW = 0.02
"""Share of the good crops that may lack a part or an edge, because they are defective."""
MOST_SLACK = 5.0
UNSTEADY = 1.5
"""Parts that vary by so much more than most have limits of their own."""
LEAST_FILL = 0.5
"""Share of its area that a part has in all others."""
SURE = 1.4
"""How much higher an edge is in all others than it needs to be."""
RARE = 0.001
"""Share of good crops that each tool's own limit is meant to exceed."""
NOISY_WIDTH_PX = 0.35
"""Spread of the distance between two edges beyond which they are no edges to measure."""
ROUGH_MISMATCH = 0.3
HELD_OUT = 0.1
"""A tool whose limit from half the crops is exceeded by more of the others does not repeat."""
DEBRIS = 0.15
"""Share of a usual blob's area below which material is dirt, which engines are for."""
Floats = NDArray[np.float64]


def learn_tools(crops: Sequence[Pixels], word: str = "blob") -> Tools:
    """
    The tools that good crops of one region, uint8 (h, w) or (h, w, 3) of one shape, are repeatable for.

    `Tools.used` is empty where none is, and `Tools.left_out` says why, tool by tool. Raises
    `DataError` for fewer than 20 crops or crops of several sizes.
    """
    good = _same_size(crops)
    template = np.median(good[:: max(1, len(good) // MEDIAN_OF)], axis=0).astype(np.uint8)
    height, width = template.shape
    blobs = _kept_blobs(find_blobs(template), template, good)
    tools = Tools(
        word=word,
        height=height,
        width=width,
        crops=len(good),
        blobs=blobs,
        calipers=_kept_calipers(find_calipers(template), template, blobs, good),
        patches=_kept_patches(find_patches(template, blobs), template, good),
        template=encoded(template),
    )
    return _limited(tools, good)


def region_crops(
    recipe: Recipe, name: str, frames: Iterable[NDArray[Any]]
) -> tuple[list[Pixels], int]:
    """
    Crops of a recipe's region, of all its cells, from frames, and how many frames gave none.

    The product is found in each frame as on the line. Raises `Misuse` for an unknown region.
    """
    region = next((one for one in recipe.regions if one.name == name), None)
    if region is None:
        known = [one.name for one in recipe.regions]
        raise Misuse(f"recipe '{recipe.product}' has no region '{name}'{nearest(name, known)}")
    spec = recipe.alignment.get(region.camera)
    aligner = open_alignment(spec) if spec else None
    rois = expand_region(region)
    width, height = rois[0].box[2:]
    crops: list[Pixels] = []
    unfit = 0
    for frame in frames:
        try:
            pose = aligner.find(frame) if aligner else Pose()
            crops += [crop.pixels for crop in cut(frame, pose, rois, (height, width, 1))]
        except Uninspectable:
            unfit += 1
    return crops, unfit


def write_tools(tools: Tools, path: Path) -> None:
    """Write a tools file, whole or not at all, limits with their meaning."""
    document = tomlkit.document()
    document.add(tomlkit.comment(f"Measuring tools, learned from {tools.crops} good crops."))
    for name, value in tools.model_dump(mode="json", exclude_none=True).items():
        if value not in ({}, []):
            document.add(name, value)
    limits = document.get("limits", {})
    for name in limits:
        limits[name].comment(Limits.model_fields[name].description or "")
    replace_text(path, tomlkit.dumps(document))


def _same_size(crops: Sequence[Pixels]) -> NDArray[np.uint8]:
    if len(crops) < LEAST_CROPS:
        raise DataError(
            f"{len(crops)} good crops; measuring tools are learned from {LEAST_CROPS} or more"
        )
    sizes = {crop.shape[:2] for crop in crops}
    if len(sizes) > 1:
        told = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:3])
        raise DataError(f"crops of {len(sizes)} sizes ({told}); cut them from one region")
    height, width = sizes.pop()
    factor = min(1.0, LARGEST_PX / max(height, width))
    height, width = round(height * factor), round(width * factor)
    if min(height, width) < 8:
        raise DataError(f"crops of {width}x{height} px; tools measure regions of 8 px or more")
    return np.stack([fit(crop, height, width, 1) for crop in crops])


def _kept_blobs(blobs: Blobs | None, template: Pixels, good: NDArray[np.uint8]) -> Blobs | None:
    """The blobs that nearly all crops have, with their median place and area."""
    if blobs is None:
        return None
    gauge = BlobGauge(blobs, template)
    measured = [gauge.measure(crop) for crop in good]
    lowest = np.quantile([one.fill for one in measured], FEW, axis=0)
    keep = np.flatnonzero(lowest >= LEAST_FILL).tolist()
    if not keep:
        return None
    fill = np.stack([one.fill for one in measured])
    area = np.median(fill, axis=0) * gauge.areas
    centre = np.stack([one.centre for one in measured])
    known = {
        "x_px": tuple(np.median(centre.real, axis=0).round(3).tolist()),
        "y_px": tuple(np.median(centre.imag, axis=0).round(3).tolist()),
        "area_px2": tuple(np.maximum(area, 1.0).round(2).tolist()),
        "slack": tuple(_slack(fill, np.stack([one.off for one in measured]), keep)),
    }
    measured_blobs = blobs.model_copy(update=known)
    return measured_blobs.model_copy(update=chosen(measured_blobs, keep))


def _slack(fill: Floats, off: Floats, keep: Sequence[int]) -> list[float]:
    """
    By part, how much more than most its area or place varies, up to `MOST_SLACK`; 1 for most.

    One faint mark would else set the limits of all the others.
    """
    share = fill / np.maximum(np.median(fill, axis=0), 1e-6)
    spread = np.array([robust_spread(column) for column in share.T])
    reach = np.median(off, axis=0)
    ratios = [each / max(float(np.median(each[keep])), 1e-6) for each in (spread, reach)]
    worst = np.minimum(np.max(ratios, axis=0), MOST_SLACK)
    return [round(float(ratio), 2) if ratio >= UNSTEADY else 1.0 for ratio in worst]


def _kept_calipers(
    calipers: Calipers | None, template: Pixels, blobs: Blobs | None, good: NDArray[np.uint8]
) -> Calipers | None:
    """The pairs of edges off the blobs that nearly all crops have, and whose distance is steady."""
    if calipers is None:
        return None
    gauge = CaliperGauge(calipers)
    free = np.ones(gauge.first.size, np.bool_)
    if blobs is not None:  # which are measured already
        zone = BlobGauge(blobs, template).zone
        boxes = [gauge.box(number) for number in range(free.size)]
        free = np.array([not zone[y : y + h, x : x + w].any() for x, y, w, h in boxes])
    looks = [gauge.look(crop) for crop in good]
    change = np.stack([change for change, _ in looks])
    seen = np.quantile([height for _, height in looks], FEW, axis=0) >= SURE
    steady = np.array([robust_spread(column) for column in change.T]) <= NOISY_WIDTH_PX
    keep = np.flatnonzero(free & seen & steady).tolist()
    if not keep:
        return None
    second = gauge.second + np.median(change, axis=0)
    known = calipers.model_copy(update={"second_px": tuple(second.round(3).tolist())})
    return known.model_copy(update=chosen(known, keep))


def _kept_patches(
    patches: Patches | None, template: Pixels, good: NDArray[np.uint8]
) -> Patches | None:
    if patches is None:
        return None
    gauge = PatchGauge(patches, template)
    unlike = np.median([gauge.measure(crop) for crop in good], axis=0)
    keep = np.flatnonzero(unlike <= ROUGH_MISMATCH).tolist()
    return patches.model_copy(update=chosen(patches, keep)) if keep else None


def _limited(tools: Tools, good: NDArray[np.uint8]) -> Tools:
    """Limits by tool, and the reasons why the others are left out."""
    scorer = ToolScorer(tools)
    rows = [scorer.extremes(crop) for crop in good]
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    limits: dict[str, float] = {}
    left_out = _absent(tools)
    if "count" in values and (share := float(np.mean(values.pop("count") > 0))) > HELD_OUT:
        left_out["count"] = f"{share:.0%} of the good crops lack a part"
        tools = tools.model_copy(update={"blobs": None})
        values = {name: values[name] for name in ("width_px", "mismatch") if name in values}
    for name, most in _meaningful(tools).items():
        if name not in values:
            continue
        limit, exceeded = _limit(values[name], _least(tools)[name])
        if limit > most:
            left_out[name] = f"good crops reach {limit:.3g}, a defect is beyond {most:.3g}"
        elif exceeded > HELD_OUT:
            left_out[name] = f"{exceeded:.0%} of good crops exceed the limit of the others"
        else:
            limits[name] = round(limit, 4)
    if "pitch_px" in limits and "position_px" in limits:
        # Two parts at the limit of their places are so far apart, and one that is off is named.
        limits["pitch_px"] = max(limits["pitch_px"], 2 * limits["position_px"])
    return tools.model_copy(update={"limits": Limits(**limits), "left_out": left_out})


def _limit(values: Floats, least: float) -> tuple[float, float]:
    """The limit that good crops set, and what share of one half exceeds that of the other."""
    halves = values[::2], values[1::2]
    found = [_of_good(half, least) for half in halves]
    over = [np.mean(half > limit) for half, limit in zip(halves, reversed(found), strict=True)]
    return _of_good(values, least), float(np.mean(over))


def _of_good(values: Floats, least: float) -> float:
    kept = np.delete(values, set_aside(values))
    return max(extreme(kept, RARE), least)


def _meaningful(tools: Tools) -> dict[str, float]:
    """By tool, the limit beyond which it could not tell a defect from a good part."""
    most = {"width_px": SEARCH_PX / 2, "mismatch": 0.5}
    if tools.blobs is not None:
        reach = float(BlobGauge(tools.blobs, tools.pixels()).reach)
        usual = float(np.median(tools.blobs.area_px2))
        most |= {"extra_px2": usual / 2, "place_px": 2 * reach, "position_px": reach}
        most |= {"pitch_px": 2 * reach, "joint_share": 0.8, "area_share": 0.5}
    return most


def _least(tools: Tools) -> dict[str, float]:
    """By tool, what it does not tell apart, whatever a few crops say."""
    usual = float(np.median(tools.blobs.area_px2)) if tools.blobs else 0.0
    return {
        "extra_px2": max(2.0, DEBRIS * usual),
        "place_px": 0.2,
        "position_px": 0.1,
        "pitch_px": 0.1,
        "joint_share": 0.4,
        "area_share": 0.02,
        "width_px": 0.1,
        "mismatch": 0.005,
    }


def _absent(tools: Tools) -> dict[str, str]:
    """Why whole kinds of tools have nothing to measure."""
    left_out = {}
    if tools.blobs is None:
        left_out["blobs"] = "good crops have no separate part in common"
    if tools.calipers is None:
        left_out["calipers"] = "good crops have no steady pair of edges in common"
    if tools.patches is None:
        left_out["patches"] = "good crops have no look in common"
    return left_out
