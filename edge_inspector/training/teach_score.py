"""A taught recipe on all its good units: the threshold it gets, and what stands out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_inspector.bundle import open_engine
from edge_inspector.inspector import Inspector
from edge_inspector.recipe import FrameQuality, Recipe, Scale
from edge_inspector.records import Outcome
from edge_inspector.rules import rules_digest
from edge_inspector.studies.calibrate import (
    FALSE_ALARM,
    SET_ASIDE_SHARE,
    Calibrated,
    calibrate,
    set_aside,
)
from edge_inspector.studies.calibrate_quality import (
    frame_quality,
    held_out_rejects,
    measure_frames,
)
from edge_inspector.studies.calibrate_recipe import (
    Collected,
    collect,
    file_frame,
    fused,
    recipe_evidence,
)
from edge_inspector.training.teach_units import Unit, Units
from edge_inspector.verdict import scale_key

CONFIDENCE = 0.95
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """All good units by first file, with normalised scores; `found` rests on the calibrating ones."""

    found: Calibrated
    units: tuple[Unit, ...]
    unit_scores: NDArray[np.float64]
    skipped: Mapping[str, str]
    """Good units that could not be judged, with why; on the line they are uninspected."""

    @property
    def suspicious(self) -> list[tuple[Unit, float]]:
        """The most anomalous first."""
        order = np.argsort(-self.unit_scores, kind="stable")
        return [(self.units[index], float(self.unit_scores[index])) for index in order]


def score_units(inspector: Inspector, units: Units, overkill: float, tick: Tick) -> Scored:
    """Score every good unit; those set apart for it give the threshold. Raises `DataError`."""
    by_file = {str(unit.frames[0].path): unit for unit in units.good}
    evidence = recipe_evidence(inspector)
    collected = collect([unit.items for unit in units.good], evidence, tick)
    judged = tuple(by_file[file] for file in collected.units)
    setting = {unit.key for unit in units.calibrate}
    rows = np.array([unit.key in setting for unit in judged])
    found = _threshold(collected, rows, overkill, fused(inspector.recipe))
    scores = _normalised(collected, found, fused(inspector.recipe))
    skipped = {by_file[file].name: reason for file, reason in collected.skipped.items()}
    return Scored(found, judged, scores, skipped)


def _threshold(
    collected: Collected, rows: NDArray[np.bool_], overkill: float, both: Sequence[str]
) -> Calibrated:
    """
    `calibrate` on these rows, less those that stand apart from all good units.

    Twice as many units tell better what stands apart, and three defective ones of a hundred, all
    dealt to the calibrating half, are more than that half could set aside by itself.
    """
    first = calibrate(collected.scores[rows], collected.names, overkill, CONFIDENCE, both)
    kept = rows.copy()
    kept[stand_apart(_columns(collected, first, both))] = False
    found = calibrate(collected.scores[kept], collected.names, overkill, CONFIDENCE, both)
    places = np.flatnonzero(kept[rows])[np.array(found.set_aside, np.intp)]
    apart = (*np.flatnonzero(~kept[rows]).tolist(), *places.tolist())
    return replace(found, set_aside=apart)


def stand_apart(columns: Mapping[str, NDArray[np.float64]]) -> list[int]:
    """
    Units that are too far out in one of the columns, or in the worst of them, to be good.

    The worst of many kinds of evidence has a long tail, in which a unit that only one of them is
    sure about hides. The columns share one chance of a false alarm; more than 5 % is none.
    """
    worst = np.max(list(columns.values()), axis=0)
    overall = {int(unit) for unit in set_aside(worst)}
    each = FALSE_ALARM / len(columns)
    found = overall | {int(unit) for one in columns.values() for unit in set_aside(one, each)}
    return sorted(found if len(found) <= SET_ASIDE_SHARE * len(worst) else overall)


def _normalised(
    collected: Collected, found: Calibrated, both: Sequence[str]
) -> NDArray[np.float64]:
    """As `calibrate` does it, for all units."""
    return np.asarray(np.max(list(_columns(collected, found, both).values()), axis=0))


def _columns(
    collected: Collected, found: Calibrated, both: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    columns = {
        name: normalised(column, found.regions[name])
        for name, column in zip(collected.names, collected.scores.T, strict=True)
    }
    for name in both:
        columns[name] = np.minimum(columns[name], columns.pop(scale_key(name, "rules")))
    return columns


def normalised(column: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Raw scores in spreads above the median of good units."""
    return (column - scale.center) / scale.spread


def with_threshold(recipe: Recipe, inspector: Inspector, scored: Scored, overkill: float) -> Recipe:
    """The recipe with its calibration, as `calibrate` writes it."""
    digests = {name: open_engine(folder).digest for name, folder in recipe.engines.items()}
    rules = {r.rules: rules_digest(recipe.rules[r.rules]) for r in recipe.regions if r.rules}
    table = scored.found.document(overkill, CONFIDENCE, inspector.backend, digests, rules)
    return recipe.model_copy(update={"calibration": table})


def quality_of(
    inspector: Inspector, scored: Scored, *, repeats: bool
) -> tuple[dict[str, FrameQuality], dict[str, tuple[int, int]]]:
    """
    Limits of frames by camera, and how many of how many good frames they refuse, held out.

    Where pictures repeat anyway, a repeat is no fault.
    """
    known = FrameQuality(refuse_repeats=False) if repeats else None
    kept = [
        unit.items
        for unit, score in zip(scored.units, scored.unit_scores, strict=True)
        if score < scored.found.threshold
    ]
    frames = {c: seen for c, seen in measure_frames(inspector, kept).items() if seen.measured}
    tables = {camera: frame_quality(seen, known) for camera, seen in frames.items()}
    refused = {
        camera: (held_out_rejects(seen.measured), len(seen.measured))
        for camera, seen in frames.items()
    }
    return tables, refused


def outcomes(inspector: Inspector, units: Sequence[Unit], tick: Tick) -> dict[Outcome, int]:
    """What the recipe says of units; the worst of a unit's frames is the unit's."""
    counts = dict.fromkeys(Outcome, 0)
    for done, unit in enumerate(units, start=1):
        said = [
            inspector.inspect(file_frame(f.pixels(), f.camera, inspector.recipe.product)).outcome
            for f in unit.frames
        ]
        worst = next(o for o in (Outcome.FAIL, Outcome.UNINSPECTED, Outcome.PASS) if o in said)
        counts[worst] += 1
        tick(done, len(units))
    return counts
