"""Telemetry: one committed verdict as topic and JSON, for whoever watches; it drives no actuator."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_inspector.errors import WireError
from edge_inspector.records import Baseline, Box, Committed, Outcome, Reason

PREFIX = b"v1/"
MAX_BODY = 1024 * 1024


class RegionNote(msgspec.Struct, frozen=True):
    """One region in a telemetry record; `box` is x, y, width, height in frame px."""

    name: str
    outcome: Outcome
    score: float | None = None
    defect_class: str | None = None
    box: Box | None = None
    spoke: str = ""
    detail: str = ""
    engine_score: float | None = None
    rules_score: float | None = None
    probability: float | None = None


class VerdictNote(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict as telemetry says it; a gap in `vseq` shows a drop."""

    vseq: int
    station: str
    source: str
    outcome: Outcome
    unit_key: str = ""
    run: int = 0
    trigger_id: int | None = None
    unit_id: str | None = None
    reason: Reason | None = None
    detail: str = ""
    defect_class: str | None = None
    anomaly_score: float | None = None
    threshold: float | None = None
    rois: tuple[RegionNote, ...] = ()
    baseline: Baseline | None = None
    shadow: Baseline | None = None
    latency_us: int = 0
    """Time zero to commit."""
    time_zero_mono_ns: int = 0
    """Monotonic clock of the daemon's box: means something to listeners on the same box only."""
    deadline_met: bool = False
    engine: str = ""
    recipe: str = ""
    recipe_version: int = 0
    degraded: tuple[str, ...] = ()
    advisory: bool = False
    fresh: bool = True
    settled_utc_ns: int = 0
    stages_us: dict[str, int] = msgspec.field(default_factory=dict)
    serial: str = ""
    lot: str = ""


class StateNote(msgspec.Struct, frozen=True, kw_only=True):
    """Said each second: the newest verdict there is, and how the station is."""

    head_vseq: int
    state: str
    may_drop: bool = True


_ENCODER = msgspec.json.Encoder()
_VERDICT: msgspec.json.Decoder[VerdictNote] = msgspec.json.Decoder(VerdictNote)
_STATE: msgspec.json.Decoder[StateNote] = msgspec.json.Decoder(StateNote)


def note(row: Committed) -> VerdictNote:
    """What telemetry says of a committed verdict."""
    v = row.verdict
    settled_ns = row.committed_ns or v.decided_ns
    return VerdictNote(
        vseq=row.vseq,
        station=v.station,
        source=v.source,
        outcome=v.outcome,
        unit_key=v.unit_key,
        run=v.run,
        trigger_id=v.trigger_id,
        unit_id=v.unit_id,
        reason=v.reason,
        detail=v.detail,
        defect_class=v.defect_class,
        anomaly_score=v.anomaly_score,
        threshold=v.threshold,
        rois=tuple(msgspec.convert(r, RegionNote, from_attributes=True) for r in v.regions),
        baseline=v.baseline,
        shadow=v.shadow,
        latency_us=max(0, settled_ns - v.time_zero_ns) // 1000,
        time_zero_mono_ns=v.time_zero_ns,
        deadline_met=settled_ns <= v.deadline_ns,
        engine=v.engine,
        recipe=v.recipe,
        recipe_version=v.recipe_version,
        degraded=v.degraded,
        advisory=v.advisory,
        fresh=row.fresh,
        settled_utc_ns=v.settled_utc_ns,
        stages_us=v.stages_us,
        serial=v.serial,
        lot=v.lot,
    )


def encode(row: Committed) -> tuple[bytes, bytes]:
    """Topic and JSON of a committed verdict."""
    v = row.verdict
    topic = f"v1/{v.station}/{v.source}/{v.outcome.value}"
    return topic.encode(), _ENCODER.encode(note(row))


def encode_state(station: str, head_vseq: int, state: str) -> tuple[bytes, bytes]:
    """Topic and JSON of the station's state."""
    return f"v1/{station}/state".encode(), _ENCODER.encode(
        StateNote(head_vseq=head_vseq, state=state)
    )


def decode(parts: Sequence[bytes]) -> VerdictNote | StateNote:
    """Read one telemetry message; raises `WireError` for anything else."""
    if len(parts) != 2:
        raise WireError(f"telemetry of {len(parts)} parts; 2 are sent: topic and JSON")
    topic, body = parts
    levels = topic.split(b"/")
    if levels[0] != b"v1" or len(levels) not in (3, 4):
        raise WireError(f"topic {topic[:80]!r}; expected v1/<station>/<source>/<outcome>")
    if len(body) > MAX_BODY:
        raise WireError(f"telemetry of {len(body)} bytes; the limit is {MAX_BODY}")
    try:
        return _VERDICT.decode(body) if len(levels) == 4 else _STATE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"telemetry cannot be read: {str(error)[:120]}") from None
