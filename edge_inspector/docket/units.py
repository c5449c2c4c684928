"""A unit while it is open: the frames it has, and the one verdict they add up to."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_inspector.clock import NS_PER_US
from edge_inspector.records import (
    Baseline,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    Reason,
    Verdict,
)

MAX_DETAIL = 300
_RANK = {Outcome.PASS: 0, Outcome.UNINSPECTED: 1, Outcome.FAIL: 2}


@dataclass(slots=True)
class Part:
    """One accepted frame of a unit; `working` while a worker may read its slot."""

    head: FrameHead
    unit: Unit
    inspection: Inspection | None = None
    dispatched_ns: int | None = None
    working: bool = False
    released: bool = False
    journaled: bool = False
    tickets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Unit:
    """
    One unit from its first frame, or the gap that its frame left, until its verdict is on disk.

    `frame` is the number that is missing, or the first frame's; `committed` from the moment that
    its verdict was asked to be written.
    """

    key: str
    frame: FrameKey
    head: FrameHead
    wanted: tuple[str, ...]
    deadline_ns: int
    parts: dict[str, Part] = field(default_factory=dict)
    committed: bool = False
    tickets: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when every camera has answered."""
        return all(camera in self.parts for camera in self.wanted) and all(
            part.inspection is not None for part in self.parts.values()
        )

    @property
    def digests(self) -> dict[str, int]:
        """Digest of the pixels by camera."""
        return {camera: part.head.digest for camera, part in self.parts.items()}


class OpenUnits:
    """Units without a verdict on disk, and whose deadline is next."""

    def __init__(self) -> None:
        self._units: dict[str, Unit] = {}
        self._timers: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._units)

    def get(self, unit_key: str) -> Unit | None:
        """The unit, None when it is not open."""
        return self._units.get(unit_key)

    def add(self, unit: Unit) -> None:
        """Open a unit, or set its timer to its deadline anew."""
        self._units[unit.key] = unit
        heapq.heappush(self._timers, (unit.deadline_ns, unit.key))

    def pop(self, unit_key: str) -> Unit | None:
        """Close a unit."""
        return self._units.pop(unit_key, None)

    def next(self) -> Unit | None:
        """The undecided unit with the nearest deadline; timers that no longer count go."""
        while self._timers:
            due, key = self._timers[0]
            unit = self._units.get(key)
            if unit is not None and not unit.committed and unit.deadline_ns == due:
                return unit
            heapq.heappop(self._timers)
        return None


def uninspected(reason: Reason, detail: str) -> Inspection:
    """The answer for a frame that nobody inspected."""
    return Inspection(outcome=Outcome.UNINSPECTED, reason=reason, detail=detail)


def decide(
    unit: Unit, recipe: str, recipe_version: int, now_ns: int, conflict: Inspection | None = None
) -> Verdict:
    """
    Fail beats uninspected beats pass; what has not come by now is uninspected, and says so.

    With a `conflict` nothing that was found counts.
    """
    answers = {"": conflict} if conflict is not None else _answers(unit)
    worst = max(answers.values(), key=_severity)
    head = unit.head
    return Verdict(
        unit_key=unit.key,
        station=head.station,
        outcome=worst.outcome,
        frames=tuple(part.head.key for part in unit.parts.values()) or (unit.frame,),
        recipe=recipe,
        run=head.run,
        trigger_id=head.trigger_id,
        unit_id=head.unit_id,
        reason=worst.reason,
        detail=_detail(answers, worst)[:MAX_DETAIL],
        defect_class=worst.defect_class,
        anomaly_score=worst.anomaly_score,
        threshold=worst.threshold,
        regions=tuple(region for answer in answers.values() for region in answer.regions),
        baseline=_worst([answer.baseline for answer in answers.values()]),
        shadow=_worst([answer.shadow for answer in answers.values()]),
        engine=",".join(dict.fromkeys(a.engine for a in answers.values() if a.engine)),
        recipe_version=recipe_version,
        degraded=tuple(dict.fromkeys(s for a in answers.values() for s in a.degraded)),
        lot=next((part.head.lot for part in unit.parts.values() if part.head.lot), ""),
        advisory=head.advisory,
        time_zero_ns=head.time_zero_ns,
        deadline_ns=unit.deadline_ns,
        decided_ns=now_ns,
        stages_us=_stages(unit),
        valid_us=max(0, unit.deadline_ns - head.time_zero_ns) // NS_PER_US,
        serial=";".join(dict.fromkeys(a.serial for a in answers.values() if a.serial)),
    )


def _answers(unit: Unit) -> dict[str, Inspection]:
    """By camera: what was found first, then what never came, then what came too late."""
    found = {c: p.inspection for c, p in unit.parts.items() if p.inspection is not None}
    missing = {
        camera: uninspected(Reason.NO_IMAGE, f"no image of camera '{camera}' by the deadline")
        for camera in unit.wanted
        if camera not in unit.parts
    }
    late = {
        camera: uninspected(Reason.TIMEOUT, _where(part))
        for camera, part in unit.parts.items()
        if part.inspection is None
    }
    return {**found, **missing, **late}


def _where(part: Part) -> str:
    place = "waited for a worker" if part.dispatched_ns is None else "was with a worker"
    return f"deadline passed while the frame {place}"


def _severity(answer: Inspection) -> tuple[int, float]:
    score = answer.anomaly_score
    return _RANK[answer.outcome], float("-inf") if score is None else score


def _detail(answers: dict[str, Inspection], worst: Inspection) -> str:
    if len(answers) == 1:
        return worst.detail
    return "; ".join(
        f"{camera}: {answer.detail or (answer.reason or answer.outcome).value}"
        for camera, answer in answers.items()
        if answer.outcome is not Outcome.PASS
    )


def _worst(watched: Iterable[Baseline | None]) -> Baseline | None:
    baselines = [said for said in watched if said is not None]
    return max(baselines, key=lambda b: (_RANK[b.outcome], b.score), default=None)


def _stages(unit: Unit) -> dict[str, int]:
    stages: dict[str, int] = {}
    for part in unit.parts.values():
        head = part.head
        times = {"arrival": (head.arrived_ns - head.time_zero_ns) // NS_PER_US}
        if part.dispatched_ns is not None:
            times["queue"] = (part.dispatched_ns - head.arrived_ns) // NS_PER_US
        if part.inspection is not None:
            times |= part.inspection.stages_us
        for stage, spent_us in times.items():
            stages[stage] = max(spent_us, stages.get(stage, spent_us))
    return stages
