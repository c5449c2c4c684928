"""Measuring tools as a scorer: measures, compares with learned limits, says in words what is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.pixels import without_colour
from edge_inspector.records import Box, Crop, EvidenceKind, Finding, Pixels, Reason, Score
from edge_inspector.rules.blobs import BlobGauge, Measured
from edge_inspector.rules.calipers import GONE_PX, CaliperGauge, PatchGauge
from edge_inspector.rules.tools import Tools

MISSING = 10.0
"""Raw score of a part that is not there: beyond what any calibration makes of a limit."""
WORDY = (
    "missing", "bridge", "position", "size", "extra", "pitch", "width", "shift", "mismatch",
)  # fmt: skip
"""Kinds of findings, first those that tell a person most; "shift" is of all blobs together."""
MAP_AT_LIMIT = 128
"""Grey level of the anomaly map where a measure is at its limit."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unit:
    """Lengths of a crop in what a person reads."""

    name: str
    per_px: float

    def length(self, px: float) -> str:
        """As "0.31 mm"."""
        return f"{px * self.per_px:.3g} {self.name}"

    def area(self, px2: float) -> str:
        """As "0.12 mm²"."""
        return f"{px2 * self.per_px**2:.3g} {self.name}²"


class ToolScorer:
    """Scores crops by learned tools; a score of 1 or more is beyond a learned limit."""

    kind: EvidenceKind = "tools"

    def __init__(self, tools: Tools, mm_per_px: Mapping[str, float] | None = None) -> None:
        self.input_shape = (tools.height, tools.width, 1)
        self.tools = tools
        self._mm_per_px = dict(mm_per_px or {})
        self._names = tools.blobs.names if tools.blobs else ()
        self._slack = np.array(tools.blobs.slack if tools.blobs else ())
        self._looks = tools.patches.names if tools.patches else ()
        template = tools.pixels()
        self._blobs = BlobGauge(tools.blobs, template) if tools.blobs else None
        self._calipers = CaliperGauge(tools.calipers) if tools.calipers else None
        self._patches = PatchGauge(tools.patches, template) if tools.patches else None

    def score(self, crops: Sequence[Crop]) -> list[Score]:
        """One score per crop, in order; raises `Uninspectable` for a crop out of shape."""
        return [self._score(crop) for crop in crops]

    def extremes(self, pixels: Pixels) -> dict[str, float]:
        """By tool, the largest value in a crop, in the tool's own unit; "count" is parts missing."""
        found: dict[str, float] = {}
        if self._blobs is not None:
            seen = self._blobs.measure(pixels)
            found["count"] = float(np.count_nonzero(~seen.there))
            found["extra_px2"] = seen.extra
            found["place_px"] = seen.place_off
            found["position_px"] = float((seen.off / self._slack).max())
            found["pitch_px"] = float(seen.pitch_off.max(initial=0.0))
            found["joint_share"] = float(seen.joint.max(initial=0.0))
            found["area_share"] = float((np.abs(self._share(seen)) / self._slack).max())
        if self._calipers is not None:
            found["width_px"] = float(np.abs(self._calipers.measure(pixels)).max())
        if self._patches is not None:
            found["mismatch"] = float(self._patches.measure(pixels).max())
        return found

    def findings(self, pixels: Pixels, unit: Unit) -> list[Finding]:
        """What each tool found worst in a crop, uint8 (h, w)."""
        found: list[Finding] = []
        if self._blobs is not None:
            found += self._of_blobs(self._blobs.measure(pixels), unit)
        if self._calipers is not None:
            found += self._of_calipers(self._calipers.measure(pixels), unit)
        if self._patches is not None:
            found += self._of_patches(self._patches.measure(pixels))
        return found

    def _score(self, crop: Crop) -> Score:
        pixels = self._checked(crop)
        mm = self._mm_per_px.get(crop.roi.camera)
        shrunk = crop.roi.box[2] / self.tools.width  # px of the reference frame in one of the crop
        unit = Unit("px", shrunk) if mm is None else Unit("mm", mm * shrunk)
        found = self.findings(pixels, unit)
        if not found:  # the tools only count, and all is there
            return Score(0.0)
        worst = max(found, key=lambda finding: finding.raw)
        return Score(
            anomaly_score=worst.raw,
            anomaly_map=self._map(found),
            box=worst.box,
            defect_class=worst.kind,
            detail=worst.words,
            findings=tuple(sorted(found, key=lambda finding: WORDY.index(finding.kind))),
        )

    def _checked(self, crop: Crop) -> Pixels:
        height, width, _ = self.input_shape
        if crop.pixels.shape[:2] != (height, width) or crop.pixels.dtype != np.uint8:
            raise Uninspectable(
                Reason.BAD_INPUT.value,
                f"region '{crop.roi.name}': crop is {crop.pixels.dtype} {crop.pixels.shape}, the "
                f"tools take uint8 {self.input_shape}",
            )
        pixels = crop.pixels
        if pixels.ndim == 3:
            pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else without_colour(pixels)
        return np.ascontiguousarray(pixels)

    def _share(self, seen: Measured) -> Floats:
        """Lack or excess of each blob's area; of many, against the crop's own usual area."""
        usual = seen.usual_fill if seen.fill.size >= 5 else 1.0
        return np.where(seen.there, seen.fill / usual - 1.0, 0.0)

    def _of_blobs(self, seen: Measured, unit: Unit) -> list[Finding]:
        assert self._blobs is not None
        names, word, limits = self._names, self.tools.word, self.tools.limits
        found = self._missing(seen) + self._of_areas(seen, unit) + self._joined(seen)
        if limits.extra_px2:
            near = names[int(np.abs(self._blobs.nodes - seen.extra_at).argmin())]
            words = f"near {near}: {unit.area(seen.extra)} where no {word} belongs"
            limit = (0.0, limits.extra_px2 * unit.per_px**2)
            box = self._box(seen.extra_at, max(3.0, seen.extra**0.5))
            found.append(Finding("extra", seen.extra / limits.extra_px2, box, words, limit))
        if limits.place_px:
            words = f"all {word}s: {unit.length(seen.place_off)} off their place"
            found.append(
                _length("shift", seen.place_off, limits.place_px, self._whole(), words, unit)
            )
        if limits.position_px:
            worst, _ = _worst(seen.off / self._slack)
            off, most = float(seen.off[worst]), limits.position_px * float(self._slack[worst])
            words = f"{names[worst]}: {word} {unit.length(off)} off its place"
            found.append(_length("position", off, most, self._at(seen, worst), words, unit))
        if limits.pitch_px and seen.pitch_off.size:
            worst, off = _worst(seen.pitch_off)
            one, other = (int(side[worst]) for side in self._blobs.pairs)
            words = f"{names[one]} to {names[other]}: pitch {unit.length(off)} off"
            found.append(_length("pitch", off, limits.pitch_px, self._at(seen, one), words, unit))
        return found

    def _missing(self, seen: Measured) -> list[Finding]:
        gone = np.flatnonzero(~seen.there)
        if not gone.size:
            return []
        more = f", {gone.size} of {seen.there.size} in all" if gone.size > 1 else ""
        words = f"{self._names[gone[0]]}: {self.tools.word} missing{more}"
        return [Finding("missing", MISSING, self._at(seen, int(gone[0])), words)]

    def _joined(self, seen: Measured) -> list[Finding]:
        assert self._blobs is not None
        most = self.tools.limits.joint_share
        if not most or not seen.joint.size:
            return []
        worst, share = _worst(seen.joint)
        one, other = (int(side[worst]) for side in self._blobs.pairs)
        words = f"{self._names[one]} to {self._names[other]}: {share:.2g} of the gap is filled"
        box = self._box(complex(seen.centre[one] + seen.centre[other]) / 2, 6.0)
        return [Finding("bridge", share / most, box, words, (0.0, most))]

    def _of_areas(self, seen: Measured, unit: Unit) -> list[Finding]:
        assert self._blobs is not None
        most = self.tools.limits.area_share
        if not most:
            return []
        share = self._share(seen)
        worst, _ = _worst(np.abs(share) / self._slack)
        most *= float(self._slack[worst])
        whole = float(seen.fill[worst] / (1 + share[worst]) * self._blobs.areas[worst])
        side = 1 if share[worst] > 0 else -1
        is_area, good = whole * (1 + float(share[worst])), whole * unit.per_px**2
        words = (
            f"{self._names[worst]}: {self.tools.word} of {unit.area(is_area)}, "
            f"usual are {unit.area(whole)}"
        )
        limit = (good, good * (1 + side * most))
        raw = abs(float(share[worst])) / most
        return [Finding("size", raw, self._at(seen, worst), words, limit)]

    def _of_calipers(self, change: Floats, unit: Unit) -> list[Finding]:
        assert self._calipers is not None
        most = self.tools.limits.width_px
        if not most:
            return []
        worst, _ = _worst(np.abs(change))
        box = self._calipers.box(worst)
        off, place = float(change[worst]), f"edges at x {box[0]}, y {box[1]}"
        if off >= GONE_PX:
            return [Finding("width", off / most, box, f"{place}: one is not there")]
        learned = float(self._calipers.second[worst] - self._calipers.first[worst])
        words = f"{place}: {unit.length(learned + off)} apart, not {unit.length(learned)}"
        side = 1 if off > 0 else -1
        limit = (learned * unit.per_px, (learned + side * most) * unit.per_px)
        return [Finding("width", abs(off) / most, box, words, limit)]

    def _of_patches(self, unlike: Floats) -> list[Finding]:
        assert self._patches is not None
        most = self.tools.limits.mismatch
        if not most:
            return []
        worst, _ = _worst(unlike)
        words = f"{self._looks[worst]}: looks {1 - unlike[worst]:.2f} like its template"
        raw = float(unlike[worst]) / most
        return [Finding("mismatch", raw, self._patches.boxes[worst], words, (1.0, 1.0 - most))]

    def _map(self, found: Sequence[Finding]) -> Pixels:
        """Each tool's worst place at half resolution, 128 at its limit."""
        marks = np.zeros(((self.tools.height + 1) // 2, (self.tools.width + 1) // 2), np.uint8)
        for finding in sorted(found, key=lambda one: one.raw):
            x, y, width, height = (value // 2 for value in finding.box)
            level = min(255, int(finding.raw * MAP_AT_LIMIT))
            marks[y : y + max(height, 1), x : x + max(width, 1)] = level
        return marks

    def _at(self, seen: Measured, number: int) -> Box:
        assert self._blobs is not None
        return self._box(complex(seen.centre[number]), float(self._blobs.areas[number]) ** 0.5)

    def _box(self, at: complex, side: float) -> Box:
        """A box about a place, with some room, within the crop."""
        half = side / 2 + 2
        left, top = max(0, int(at.real - half)), max(0, int(at.imag - half))
        left, top = min(left, self.tools.width - 1), min(top, self.tools.height - 1)
        right = min(self.tools.width, int(at.real + half) + 1)
        bottom = min(self.tools.height, int(at.imag + half) + 1)
        return left, top, max(1, right - left), max(1, bottom - top)

    def _whole(self) -> Box:
        return 0, 0, self.tools.width, self.tools.height


def _worst(values: Floats) -> tuple[int, float]:
    worst = int(values.argmax())
    return worst, float(values[worst])


def _length(kind: str, off: float, most: float, box: Box, words: str, unit: Unit) -> Finding:
    return Finding(kind, off / most, box, words, (0.0, most * unit.per_px))
