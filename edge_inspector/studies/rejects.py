"""Units that were not passed: from the verdict log, with the archive's pictures and the places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_inspector.crops import expand_region
from edge_inspector.outbox import Log
from edge_inspector.recipe import Recipe
from edge_inspector.records import UNNAMED, Box, FrameHead, Outcome, RegionVerdict, Verdict
from edge_inspector.verdict import RULES_THRESHOLD, scale_key

BATCH = 500
Millimetres = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """
    One failed region: where in the frame, x, y, width, height, and its score against its limit.

    `probability` is that of `defect_class`, where a classifier named it.
    """

    region: str
    camera: str
    defect_class: str
    probability: float | None
    spoke: str
    detail: str
    score: float
    threshold: float | None
    box_px: Box | None
    box_mm: Millimetres | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A unit that was not passed; `pictures` are those of its worst regions, one per camera."""

    verdict: Verdict
    places: tuple[Place, ...]
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejects:
    """The newest rejects first, and what `units` looked through hold beyond those."""

    station: str
    units: int
    rejected: int
    shown: tuple[Reject, ...]
    causes: tuple[tuple[str, int], ...]
    """Defect class or reason with its count over all rejects, the most frequent first."""


class _Kept(msgspec.Struct):
    head: FrameHead


def find_rejects(
    log: Log,
    recipe: Recipe,
    station: str,
    archive: Path | None,
    *,
    since_utc_ns: int = 0,
    unit: str | None = None,
    limit: int = 200,
) -> Rejects:
    """
    What was not passed since then; with `unit`, of the units with this id, key, serial or trigger.

    Raises `StoreFault` where the log cannot be read.
    """
    units = rejected = 0
    newest: list[Verdict] = []
    causes: Counter[str] = Counter()
    for verdict in newest_first(log):
        if verdict.settled_utc_ns < since_utc_ns:
            break
        if unit is not None and unit not in _names(verdict):
            continue
        units += 1
        if verdict.outcome is Outcome.PASS:
            continue
        rejected += 1
        causes[cause_of(verdict)] += 1
        if len(newest) < limit:
            newest.append(verdict)
    pictures = pictures_of(archive, {verdict.unit_key for verdict in newest})
    cameras = camera_of(recipe)
    return Rejects(
        station=station,
        units=units,
        rejected=rejected,
        shown=tuple(
            Reject(v, places_of(v, recipe, cameras), tuple(pictures.get(v.unit_key, ())))
            for v in newest
        ),
        causes=tuple(causes.most_common()),
    )


def newest_first(log: Log) -> Iterator[Verdict]:
    """The verdicts that the log holds, backwards."""
    oldest, upto = log.bounds()
    while upto >= oldest:
        first = max(oldest, upto - BATCH + 1)
        yield from (row.verdict for row in reversed(log.read(first, upto - first + 1)))
        upto = first - 1


def cause_of(verdict: Verdict) -> str:
    """Defect class, or the reason why it was not inspected."""
    return verdict.reason.value if verdict.reason else verdict.defect_class or UNNAMED


def camera_of(recipe: Recipe) -> dict[str, str]:
    """The camera of each region, cells of grids by their own names."""
    judged = [region for region in recipe.regions if region.code is None]
    return {roi.name: roi.camera for region in judged for roi in expand_region(region)}


def places_of(verdict: Verdict, recipe: Recipe, cameras: dict[str, str]) -> tuple[Place, ...]:
    """The regions that failed, worst first; mm where the recipe has the camera's scale."""
    failed = [region for region in verdict.regions if region.outcome is Outcome.FAIL]
    places = []
    for region in sorted(failed, key=lambda one: one.score, reverse=True):
        camera = cameras.get(region.name, recipe.cameras[0])
        places.append(
            Place(
                region=region.name,
                camera=camera,
                defect_class=region.defect_class or UNNAMED,
                probability=region.probability,
                spoke=region.spoke,
                detail=region.detail,
                score=region.score,
                threshold=_threshold(region, verdict, recipe),
                box_px=region.box,
                box_mm=_millimetres(region.box, recipe.mm_per_px.get(camera)),
            )
        )
    return tuple(places)


def pictures_of(archive: Path | None, keys: set[str]) -> dict[str, list[Path]]:
    """The archive's pictures of these units by unit key; a damaged file there is left out."""
    found: dict[str, list[Path]] = {}
    if archive is None or not archive.is_dir() or not keys:
        return found
    for facts in sorted(archive.glob("*.json")):
        try:
            key = msgspec.json.decode(facts.read_bytes(), type=_Kept).head.unit_key
        except (OSError, msgspec.MsgspecError):  # gone meanwhile for the quota, or cut off
            continue
        picture = facts.with_suffix(".png")
        if key in keys and picture.is_file():
            found.setdefault(key, []).append(picture)
    return found


def _names(verdict: Verdict) -> set[str]:
    trigger = "" if verdict.trigger_id is None else str(verdict.trigger_id)
    return {verdict.unit_key, verdict.unit_id or "", *verdict.serial.split(";"), trigger} - {""}


def _threshold(region: RegionVerdict, verdict: Verdict, recipe: Recipe) -> float | None:
    """The limit in force; of regions that did not decide, known while the recipe is the same one."""
    if region.score == verdict.anomaly_score:
        return verdict.threshold
    if verdict.recipe_version != recipe.version:
        return None
    calibration = recipe.calibration
    by_rules = region.spoke in ("rules", "tools")
    if calibration is None or (
        by_rules and scale_key(region.name, "rules") not in calibration.regions
    ):
        return RULES_THRESHOLD
    return calibration.threshold


def _millimetres(box: Box | None, scale: float | None) -> Millimetres | None:
    if box is None or scale is None:
        return None
    x, y, width, height = (round(value * scale, 3) for value in box)
    return x, y, width, height
