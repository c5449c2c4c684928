"""
The records that travel: frozen, slotted, and the same in every process.

They hold no cycles, so that the collector need not look at them (`gc=False`).
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from edge_inspector.records_crops import Box as Box
from edge_inspector.records_crops import Crop as Crop
from edge_inspector.records_crops import EvidenceKind as EvidenceKind
from edge_inspector.records_crops import Finding as Finding
from edge_inspector.records_crops import Pixels as Pixels
from edge_inspector.records_crops import Pose as Pose
from edge_inspector.records_crops import Roi as Roi
from edge_inspector.records_crops import Score as Score

UNNAMED = "unnamed"
"""Stands for the class of a defect that nobody had the time to name."""


class Outcome(str, enum.Enum):
    """The one answer per unit; only `pass` lets a unit through."""

    PASS = "pass"  # an outcome, not a secret
    FAIL = "fail"
    UNINSPECTED = "uninspected"


class Reason(str, enum.Enum):
    """Why a unit was not inspected; each one is a reject by default."""

    TIMEOUT = "timeout"
    ABORTED = "aborted"
    SHED = "shed"
    BAD_INPUT = "bad_input"
    NO_IMAGE = "no_image"
    CAMERA_FAULT = "camera_fault"
    MODEL_FAULT = "model_fault"
    STORE_FAULT = "store_fault"
    CONFLICT = "conflict"


class FrameKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Names one frame for good: numbered by its source within one epoch of it."""

    source: str
    epoch: str
    seq: int


def unit_key(station: str, run: int, trigger_id: int | None, unit_id: str | None) -> str:
    """Names a unit by trigger id, else unit id; empty where it has neither."""
    if trigger_id is not None:
        return f"t:{station}/{run}/{trigger_id}"
    return f"u:{station}/{unit_id}" if unit_id is not None else ""


class Baseline(msgspec.Struct, frozen=True, gc=False):
    """What the rules (or another inspector that only watches) would have said."""

    outcome: Outcome
    defect_class: str | None = None
    score: float = 0.0


class FrameHead(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    All there is to know about a frame but its pixels.

    Times with `_ns` are monotonic nanoseconds of this box; `captured_utc_ns` is a label.
    `slot` is the shared-memory slot that holds `size` bytes of pixels, -1 when there are none,
    and then `fault` says why. `height`, `width`, `channels` are 0 for an encoded image. An
    `assured` source numbers without gaps and offers again; its `tombstone` is a frame that it
    gave up, and never contradicts one that came.
    """

    key: FrameKey
    station: str
    camera: str
    recipe: str
    arrived_ns: int
    time_zero_ns: int
    unit_id: str | None = None
    trigger_id: int | None = None
    run: int = 0
    numbered: bool = False
    budget_us: int | None = None
    captured_utc_ns: int | None = None
    digest: int = 0
    slot: int = -1
    size: int = 0
    codec: str = "raw"
    pixel_format: str = "mono8"
    height: int = 0
    width: int = 0
    channels: int = 0
    fault: Reason | None = None
    detail: str = ""
    ticket: int = 0
    assured: bool = False
    tombstone: bool = False
    given_up: int = 0
    """Digest of pixels that are not there to inspect, 0 where nobody had any."""
    repeat: bool = False
    """Its source says: the pixels of this camera's frame before, which was of another unit."""
    incumbent: Baseline | None = None
    """What the inspector that was there before said of this frame's unit."""
    lot: str = ""
    """Units made and traced together, as the frame named them."""

    def contradicts(self, digest: int) -> bool:
        """Whether pixels with this digest, under the same identity, are others than these."""
        if self.assured and not (digest and self.digest):
            return False  # one of the two is a frame that its source gave up
        return digest != self.digest

    @property
    def advisory(self) -> bool:
        """True where no id ties the frame to a physical unit."""
        return self.unit_id is None and self.trigger_id is None

    @property
    def unit_key(self) -> str:
        """The unit this frame shows: by trigger id, else unit id, else the frame alone."""
        named = unit_key(self.station, self.run, self.trigger_id, self.unit_id)
        return named or f"f:{self.key.source}/{self.key.epoch}/{self.key.seq}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One exposure: its head and its pixels, uint8 or uint16, shape (h, w) or (h, w, 3), BGR."""

    head: FrameHead
    pixels: NDArray[Any]


class RegionVerdict(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    What was found in one region; `score` is normalised, so thresholds compare across regions.

    Where an engine and rules judge the region together, `engine_score` and `rules_score` are what
    each of them found, and `score` is that of the one that counted. `probability` is that of
    `defect_class`, where a classifier gave one.
    """

    name: str
    outcome: Outcome
    score: float
    defect_class: str | None = None
    box: Box | None = None
    """Most suspicious place in frame px."""
    spoke: str = ""
    """Kinds of evidence that failed it, the first one decided: "tools+engine"; "" for a pass."""
    detail: str = ""
    """What tools measured where the region failed, in words, with the limit in force."""
    engine_score: float | None = None
    rules_score: float | None = None
    probability: float | None = None


class Inspection(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    The answer for one frame; a unit's verdict is made of the inspections of its frames.

    `stages_us` holds decode, cut, infer, decide and, where there is one, read (codes), classify and
    baseline; `serial` is the text of the unit's code. `degraded` names the steps left out:
    "classifier" where there was no time for it, "classifier fault" where its answer was of no use.
    """

    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""
    defect_class: str | None = None
    anomaly_score: float | None = None
    threshold: float | None = None
    regions: tuple[RegionVerdict, ...] = ()
    baseline: Baseline | None = None
    engine: str = ""
    recipe_version: int = 0
    degraded: tuple[str, ...] = ()
    stages_us: dict[str, int] = msgspec.field(default_factory=dict)
    shadow: Baseline | None = None
    """What the recipe's shadow, another recipe that only watches, says of the same frame."""
    serial: str = ""


class Verdict(
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    rename={"regions": "rois", "time_zero_ns": "captured_mono_ns"},
):
    """
    The one answer for one unit, as committed and as it travels.

    The log fills in `vseq`, `settled_utc_ns`, `latency_us` (time zero to the write) and
    `deadline_met`; `valid_us` is how long after time zero the verdict may be acted on; `evidence`
    is a digest over the recipe and its engines. `rois_omitted` regions did not fit.
    """

    unit_key: str
    station: str
    outcome: Outcome
    frames: tuple[FrameKey, ...]
    recipe: str
    run: int = 0
    trigger_id: int | None = None
    unit_id: str | None = None
    reason: Reason | None = None
    detail: str = ""
    defect_class: str | None = None
    anomaly_score: float | None = None
    threshold: float | None = None
    regions: tuple[RegionVerdict, ...] = ()
    baseline: Baseline | None = None
    engine: str = ""
    recipe_version: int = 0
    degraded: tuple[str, ...] = ()
    advisory: bool = False
    time_zero_ns: int = 0
    deadline_ns: int = 0
    decided_ns: int = 0
    settled_utc_ns: int = 0
    stages_us: dict[str, int] = msgspec.field(default_factory=dict)
    vseq: int = 0
    latency_us: int = 0
    deadline_met: bool = False
    valid_us: int = 0
    evidence: str = ""
    rois_omitted: int = 0
    shadow: Baseline | None = None
    serial: str = ""
    lot: str = ""

    @property
    def source(self) -> str:
        """Name of the source of the unit's first frame, empty when no frame came."""
        return self.frames[0].source if self.frames else ""


class Committed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    A verdict that is on disk.

    `body` is the msgpack of the verdict exactly as stored, `chain` the running CRC-32 over all
    bodies; `fresh` is False when the unit had its verdict already and this is that one again.
    """

    vseq: int
    verdict: Verdict
    body: bytes
    chain: int
    committed_ns: int = 0
    fresh: bool = True


def chained(previous: int, body: bytes) -> int:
    """Running CRC-32 over the value before, little endian, and the body of a verdict."""
    return zlib.crc32(body, zlib.crc32(previous.to_bytes(4, "little")))
