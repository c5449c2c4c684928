"""The rule-based inspector of ball grid arrays: measures, compares with limits, names the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Box, Crop, EvidenceKind, Pixels, Reason, Score
from edge_inspector.rules.balls import BallGauge, Balls
from edge_inspector.rules.body import Body, BodyGauge
from edge_inspector.rules.parameters import RuleParameters

MAP_AT_LIMIT = 128
"""Grey level of the anomaly map where a violation is at its limit."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The worst of one kind: value over limit, and the middle of its place in crop px."""

    kind: str
    ratio: float
    at: complex


class RuleScorer:
    """Scores crops by the rules; a score of 1 or more is a reject. Takes uint8 (h, w) or (h, w, 1)."""

    kind: EvidenceKind = "rules"

    def __init__(self, rules: RuleParameters) -> None:
        side = rules.body.crop_side_px
        self.input_shape = (side, side, 1)
        self._rules = rules
        self._balls = BallGauge(rules)
        self._body = BodyGauge(rules)

    def score(self, crops: Sequence[Crop]) -> list[Score]:
        """One score per crop, in order; raises `Uninspectable` for a crop without a ball grid."""
        return [self._score(crop) for crop in crops]

    def violations(self, pixels: Pixels) -> list[Violation]:
        """The worst violation of every kind in a crop, uint8 (h, w)."""
        balls = self._balls.measure(pixels)
        found, _ = self._judge(balls, self._body.measure(pixels, balls))
        return found

    def _score(self, crop: Crop) -> Score:
        pixels = self._checked(crop)
        balls = self._balls.measure(pixels)
        body = self._body.measure(pixels, balls)
        found, ball_ratio = self._judge(balls, body)
        score = max(violation.ratio for violation in found)
        named = _name(found)
        return Score(
            anomaly_score=score,
            anomaly_map=self._map(balls, ball_ratio, body),
            box=self._box(named.at),
            defect_class=named.kind if score >= 1 else None,
        )

    def _checked(self, crop: Crop) -> Pixels:
        side = self.input_shape[0]
        pixels = crop.pixels
        if pixels.shape not in ((side, side), self.input_shape) or pixels.dtype != np.uint8:
            raise Uninspectable(
                Reason.BAD_INPUT.value,
                f"region '{crop.roi.name}': crop is {pixels.dtype} {pixels.shape}, the rules take "
                f"uint8 {self.input_shape}",
            )
        return np.ascontiguousarray(pixels.reshape(side, side))

    def _judge(self, balls: Balls, body: Body) -> tuple[list[Violation], NDArray[np.float64]]:
        """The worst of each kind, in the order in which kinds give the name; ratio of each ball."""
        limits, find = self._rules.limits, self._rules.find
        there = balls.fill >= limits.missing_fill
        large = np.maximum(balls.fill - 1, 0) / limits.large_share
        small = np.where(there, np.maximum(1 - balls.fill, 0), 0) / limits.small_share
        kinds = {
            "missing": np.where(there, 0, (1 - balls.fill) / (1 - limits.missing_fill)),
            "pitch": balls.off_px / limits.pitch_px,
            "size": np.maximum(large, small),
            "shape": balls.elongation / limits.elongation,
        }
        middle = complex(*self.input_shape[:2]) / 2
        shift = abs(balls.placement.of(np.array([middle]))[0] - middle) / find.max_shift_px
        pose = max(shift, abs(balls.placement.turn_deg) / find.max_turn_deg)
        found = {kind: _worst(kind, ratio, balls.at) for kind, ratio in kinds.items()}
        extra = _peak("extra", body.material, body.corner)
        ball_sized = extra.ratio * limits.extra_fill >= limits.missing_fill
        marks = [_peak("scratch", body.lines, body.corner), _peak("stain", body.spots, body.corner)]
        marks.sort(key=lambda mark: mark.ratio, reverse=True)
        order = [
            Violation("pose", float(pose), middle),
            found["missing"],
            found["pitch"],
            found["size"],
            _worst("bridge", balls.gap / limits.bridge_contrast, balls.gap_at),
            *((extra, *marks) if ball_sized else (*marks, extra)),
            found["shape"],
        ]
        return order, np.max(list(kinds.values()), axis=0)

    def _map(self, balls: Balls, ratio: NDArray[np.float64], body: Body) -> Pixels:
        """All violations at half resolution, 128 at the limit."""
        side = self.input_shape[0] // 2
        marks = np.zeros((side, side), np.float32)
        height, width = body.lines.shape
        x, y = body.corner[0] // 2, body.corner[1] // 2
        worst = cv2.max(cv2.max(body.material, body.lines), body.spots)
        marks[y : y + height, x : x + width] = worst
        column = np.clip((balls.at.real / 2).astype(np.intp), 1, side - 2)
        row = np.clip((balls.at.imag / 2).astype(np.intp), 1, side - 2)
        around = (np.arange(-1, 2)[:, None] * side + np.arange(-1, 2)).ravel()
        marks.reshape(-1)[(row * side + column)[:, None] + around] = ratio[:, None]
        return np.minimum(marks * MAP_AT_LIMIT, 255).astype(np.uint8)

    def _box(self, at: complex) -> Box:
        """A ball's window about a place, within the crop."""
        reach, side = self._balls.reach_px, self.input_shape[0]
        left = min(max(round(at.real) - reach, 0), side - 2 * reach - 1)
        top = min(max(round(at.imag) - reach, 0), side - 2 * reach - 1)
        return (left, top, 2 * reach + 1, 2 * reach + 1)


def _name(found: list[Violation]) -> Violation:
    """
    The violation that names the defect: the first beyond its limit, else the largest.

    Defects violate several limits at once: a bridge is also bright, long and large.
    """
    beyond = [violation for violation in found if violation.ratio >= 1]
    if not beyond:
        return max(found, key=lambda violation: violation.ratio)
    kinds = {violation.kind for violation in beyond}
    if beyond[0].kind == "missing" and "extra" in kinds:
        return Violation("pitch", beyond[0].ratio, beyond[0].at)
    return beyond[0]


def _worst(kind: str, ratio: NDArray[np.float64], at: NDArray[np.complex128]) -> Violation:
    worst = int(ratio.argmax())
    return Violation(kind, float(ratio[worst]), complex(at[worst]))


def _peak(kind: str, ratio: NDArray[Any], corner: tuple[int, int]) -> Violation:
    _, peak, _, (x, y) = cv2.minMaxLoc(ratio)
    return Violation(kind, peak, complex(corner[0] + 2 * x + 1, corner[1] + 2 * y + 1))
