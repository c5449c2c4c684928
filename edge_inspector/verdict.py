"""
Evidence and recipe to an answer: pure functions, and the only place that says pass.

A region fails when its normalised score is at or above the threshold that applies to it. Evidence
that cannot be compared (no calibration, a score that is not a number) is never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_inspector.recipe import Calibration, Scale
from edge_inspector.records import Box, Inspection, Outcome, Reason, RegionVerdict, Score

RULES_THRESHOLD = 1.0
"""Rules score as violation over limit, so they reject from 1 on without calibration."""
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found in one region: its raw score, and the suspicious place in frame px."""

    region: str
    score: Score
    box: Box | None
    by_rules: bool = False


def decide(evidence: Sequence[Evidence], calibration: Calibration | None) -> Inspection:
    """The answer for one frame, without its stage times; an empty `evidence` is not a pass."""
    if not evidence:
        return uninspected(Reason.MODEL_FAULT, "the recipe has no region for this camera")
    if calibration is None and not all(found.by_rules for found in evidence):
        return uninspected(
            Reason.MODEL_FAULT, "the recipe has no threshold; run 'edge-inspector calibrate' first"
        )
    scales = calibration.regions if calibration else {}
    strange = [f.region for f in evidence if not f.by_rules and f.region not in scales]
    if strange:
        return uninspected(
            Reason.MODEL_FAULT,
            f"region '{strange[0]}' is not calibrated; run 'edge-inspector calibrate' again",
        )
    limit = calibration.threshold if calibration else RULES_THRESHOLD
    judged = [_judge(found, scales, limit) for found in evidence]
    for region in judged:
        if not math.isfinite(region.score):
            return uninspected(
                Reason.MODEL_FAULT, f"region '{region.name}' scored {region.score}, not a number"
            )
    return _unite(judged, evidence, limit)


def uninspected(reason: Reason, detail: str) -> Inspection:
    """An answer that lets nothing through."""
    return Inspection(outcome=Outcome.UNINSPECTED, reason=reason, detail=detail)


def severity(outcome: Outcome) -> int:
    """Order in which outcomes win when one unit has several: fail, uninspected, pass."""
    return (Outcome.PASS, Outcome.UNINSPECTED, Outcome.FAIL).index(outcome)


def normalise(raw: float, scale: Scale) -> float:
    """Raw score in spreads above the median of good units."""
    return (raw - scale.center) / scale.spread


def _judge(found: Evidence, scales: Mapping[str, Scale], limit: float) -> RegionVerdict:
    raw = found.score.anomaly_score
    if found.by_rules:
        score, limit = raw, RULES_THRESHOLD
    else:
        score = normalise(raw, scales[found.region])
    failed = not score < limit
    return RegionVerdict(
        name=found.region,
        outcome=Outcome.FAIL if failed else Outcome.PASS,
        score=round(score, 4),
        defect_class=(found.score.defect_class or UNKNOWN) if failed else None,
        box=found.box if failed else None,
    )


def _unite(
    judged: Sequence[RegionVerdict], evidence: Sequence[Evidence], limit: float
) -> Inspection:
    def excess(index: int) -> float:
        return judged[index].score - (RULES_THRESHOLD if evidence[index].by_rules else limit)

    worst = max(range(len(judged)), key=lambda i: (severity(judged[i].outcome), excess(i)))
    region = judged[worst]
    return Inspection(
        outcome=region.outcome,
        defect_class=region.defect_class,
        anomaly_score=region.score,
        threshold=RULES_THRESHOLD if evidence[worst].by_rules else limit,
        detail="" if region.outcome is Outcome.PASS else _sentence(region, evidence[worst]),
        regions=tuple(judged),
    )


def _sentence(region: RegionVerdict, found: Evidence) -> str:
    place = f" at x {region.box[0]}, y {region.box[1]}" if region.box else ""
    size = f", {region.box[2]} x {region.box[3]} px" if region.box else ""
    source = "rules" if found.by_rules else "engine"
    return (
        f"{source}: {region.defect_class} in '{region.name}'{place}{size}, score {region.score:g}"
    )
