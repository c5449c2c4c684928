"""
Evidence and recipe to an answer: pure functions, and the only place that says pass.

Evidence speaks when its normalised score is at or above the threshold that applies to it. A region
fails when its evidence speaks; where an engine and rules judge it together, when either does, or
only when both do, as the recipe says. Evidence that cannot be compared (no calibration, a score
that is not a number) is never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge_inspector.recipe import Calibration, Fuse, Scale
from edge_inspector.records import (
    Box,
    EvidenceKind,
    Inspection,
    Outcome,
    Reason,
    RegionVerdict,
    Score,
)

RULES_THRESHOLD = 1.0
"""Rules score as violation over limit, so they reject from 1 on without calibration."""
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What was found in one region: its raw score, and the suspicious place in frame px.

    With `naming` its class is a classifier's, which counts where the region passes as well; or
    the classifier was left out, so that not even `unknown` can be said.
    """

    region: str
    score: Score
    box: Box | None
    kind: EvidenceKind = "engine"
    fuse: Fuse = "either"
    naming: Literal["", "named", "left out"] = ""


@dataclass(frozen=True, slots=True)
class _Judged:
    """Evidence against the limit that applies."""

    found: Evidence
    score: float
    limit: float

    @property
    def spoke(self) -> bool:
        return not self.score < self.limit

    @property
    def weight(self) -> tuple[bool, float]:
        """Orders evidence: what spoke comes last, then by how far it is beyond its limit."""
        return self.spoke, self.score - self.limit


def decide(evidence: Sequence[Evidence], calibration: Calibration | None) -> Inspection:
    """The answer for one frame, without its stage times; an empty `evidence` is not a pass."""
    if not evidence:
        return uninspected(Reason.MODEL_FAULT, "the recipe has no region for this camera")
    if calibration is None and any(found.kind == "engine" for found in evidence):
        return uninspected(
            Reason.MODEL_FAULT, "the recipe has no threshold; run 'edge-inspector calibrate' first"
        )
    scales = calibration.regions if calibration else {}
    strange = [f.region for f in evidence if f.kind == "engine" and f.region not in scales]
    if strange:
        return uninspected(
            Reason.MODEL_FAULT,
            f"region '{strange[0]}' is not calibrated; run 'edge-inspector calibrate' again",
        )
    limit = calibration.threshold if calibration else RULES_THRESHOLD
    regions: dict[str, list[_Judged]] = {}
    for found in evidence:
        judged = _judge(found, scales, limit)
        if not math.isfinite(judged.score):
            return uninspected(
                Reason.MODEL_FAULT, f"region '{found.region}' scored {judged.score}, not a number"
            )
        regions.setdefault(found.region, []).append(judged)
    return _unite([_fuse(parts) for parts in regions.values()])


def uninspected(reason: Reason, detail: str) -> Inspection:
    """An answer that lets nothing through."""
    return Inspection(outcome=Outcome.UNINSPECTED, reason=reason, detail=detail)


def severity(outcome: Outcome) -> int:
    """Order in which outcomes win when one unit has several: fail, uninspected, pass."""
    return (Outcome.PASS, Outcome.UNINSPECTED, Outcome.FAIL).index(outcome)


def normalise(raw: float, scale: Scale) -> float:
    """Raw score in spreads above the median of good units."""
    return (raw - scale.center) / scale.spread


def scale_key(region: str, kind: EvidenceKind) -> str:
    """Name under which `calibration.regions` keeps the scale of one kind of evidence."""
    return region if kind == "engine" else f"{region} rules"


def explained(
    score: Score, region: str, kind: EvidenceKind, calibration: Calibration | None
) -> Score:
    """
    The score with the words, the place and the class of the first finding beyond its limit.

    The limit in the words is the one in force, which calibration may have moved.
    """
    if not score.findings:
        return score
    scale = calibration.regions.get(scale_key(region, kind)) if calibration else None
    limit = RULES_THRESHOLD
    if calibration is not None and scale is not None:
        limit = scale.center + calibration.threshold * scale.spread
    beyond = (finding for finding in score.findings if finding.raw >= limit)
    first = next(beyond, max(score.findings, key=lambda finding: finding.raw))
    words = first.words
    if first.limit is not None:
        at_zero, at_one = first.limit
        words = f"{words} (limit learned {at_zero + (at_one - at_zero) * limit:.3g})"
    return replace(score, detail=words, box=first.box, defect_class=first.kind)


def _judge(found: Evidence, scales: Mapping[str, Scale], limit: float) -> _Judged:
    raw = found.score.anomaly_score
    scale = scales.get(scale_key(found.region, found.kind))
    if scale is None:
        return _Judged(found, raw, RULES_THRESHOLD)
    return _Judged(found, normalise(raw, scale), limit)


def _fuse(parts: Sequence[_Judged]) -> tuple[RegionVerdict, _Judged]:
    """The region's verdict, and the evidence that decided it."""
    ordered = sorted(parts, key=lambda part: part.weight, reverse=True)
    decisive = ordered[-1 if parts[0].found.fuse == "both" else 0]
    failed = decisive.spoke
    speakers = [part for part in ordered if part.spoke] if failed else []
    worded = next((part for part in speakers if part.found.score.detail), decisive)
    defect_class, probability = _named(
        [part.found for part in (speakers if failed else parts)], failed
    )
    by_kind = {p.found.kind == "engine": round(p.score, 4) for p in parts if len(parts) > 1}
    region = RegionVerdict(
        name=decisive.found.region,
        outcome=Outcome.FAIL if failed else Outcome.PASS,
        score=round(decisive.score, 4),
        defect_class=defect_class,
        box=worded.found.box if failed else None,
        spoke="+".join(part.found.kind for part in speakers),
        detail=worded.found.score.detail if failed else "",
        engine_score=by_kind.get(True),
        rules_score=by_kind.get(False),
        probability=probability,
    )
    return region, decisive


def _named(heard: Sequence[Evidence], failed: bool) -> tuple[str | None, float | None]:
    """The defect class and its probability; of a region that passed only what a classifier says."""
    for found in heard:
        if found.score.defect_class and (failed or found.naming == "named"):
            probability = found.score.probability
            return found.score.defect_class, None if probability is None else round(probability, 4)
    left_out = any(found.naming == "left out" for found in heard)
    return (UNKNOWN if failed and not left_out else None), None


def _unite(judged: Sequence[tuple[RegionVerdict, _Judged]]) -> Inspection:
    region, decisive = max(judged, key=lambda one: one[1].weight)
    return Inspection(
        outcome=region.outcome,
        defect_class=None if region.outcome is Outcome.PASS else region.defect_class,
        anomaly_score=region.score,
        threshold=decisive.limit,
        detail="" if region.outcome is Outcome.PASS else _sentence(region),
        regions=tuple(one for one, _ in judged),
    )


def _sentence(region: RegionVerdict) -> str:
    place = f" at x {region.box[0]}, y {region.box[1]}" if region.box else ""
    size = f", {region.box[2]} x {region.box[3]} px" if region.box else ""
    what = f"{region.name} {region.detail}"
    if not region.detail:
        sure = "" if region.probability is None else f" (probability {region.probability:.3g})"
        what = f"{region.defect_class or 'defect'}{sure} in '{region.name}'"
    both = ""
    if region.engine_score is not None:
        both = f" (engine {region.engine_score:g}, rules {region.rules_score:g})"
    return f"{region.spoke}: {what}{place}{size}, score {region.score:g}{both}"
