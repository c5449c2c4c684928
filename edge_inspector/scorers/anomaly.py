"""Anomaly engines: one run for all crops, a score and the most suspicious place of each."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_inspector.crops import crop_mask
from edge_inspector.errors import EngineRefused, Uninspectable
from edge_inspector.manifest import Manifest
from edge_inspector.protocols import Session
from edge_inspector.records import Box, Crop, Pixels, Reason, Score

OUTPUTS = ("score", "anomaly_map")


class AnomalyScorer:
    """Scores crops with one open engine."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        absent = [name for name in OUTPUTS if name not in manifest.outputs]
        if manifest.kind != "anomaly" or absent:
            raise EngineRefused(
                f"engine {manifest.name}/{manifest.version} is a {manifest.kind} engine with "
                f"outputs {', '.join(manifest.outputs)}; an anomaly scorer needs score, anomaly_map"
            )
        shape = manifest.input
        self.input_shape: tuple[int, int, int] = (shape.height, shape.width, shape.channels)
        self._session = session

    def score(self, crops: Sequence[Crop]) -> list[Score]:
        """One score per crop, in order; raises `Uninspectable` for a crop or answer out of shape."""
        if not crops:
            return []
        batch = np.empty((len(crops), *self.input_shape), np.uint8)
        for place, crop in zip(batch, crops, strict=True):
            _fill(place, crop)
        found = self._session.run(batch)
        scores, maps = found["score"], found["anomaly_map"]
        judged = [_judged(anomaly_map, crop) for anomaly_map, crop in zip(maps, crops, strict=True)]
        return [
            Score(_finite(float(score), crop), seen, suspicious_box(seen, crop.pixels))
            for score, seen, crop in zip(scores, judged, crops, strict=True)
        ]


def suspicious_box(anomaly_map: Pixels, pixels: Pixels) -> Box | None:
    """Box in crop px of the area around the map's peak that is above half of it; None when flat."""
    _, peak, _, place = cv2.minMaxLoc(anomaly_map)
    if peak == 0:
        return None
    _, above = cv2.threshold(anomaly_map, peak / 2, 1, cv2.THRESH_BINARY)
    _, labels, areas, _ = cv2.connectedComponentsWithStats(above)
    x, y, width, height = areas[labels[place[1], place[0]]][:4]
    rows, columns = anomaly_map.shape
    across, down = pixels.shape[1] / columns, pixels.shape[0] / rows
    left, top = int(x * across), int(y * down)
    return (left, top, round((x + width) * across) - left, round((y + height) * down) - top)


def _judged(anomaly_map: Pixels, crop: Crop) -> Pixels:
    """The map without what the recipe says not to judge."""
    if crop.roi.mask is None:
        return anomaly_map
    ignored = crop_mask(crop.roi.mask, *anomaly_map.shape)
    return np.where(ignored > 0, np.uint8(0), anomaly_map)


def _fill(place: Pixels, crop: Crop) -> None:
    if crop.pixels.size != place.size or crop.pixels.shape[:2] != place.shape[:2]:
        detail = f"region '{crop.roi.name}': crop is {crop.pixels.shape}, the engine takes "
        raise Uninspectable(Reason.MODEL_FAULT.value, f"{detail}{place.shape}")
    place[:] = crop.pixels.reshape(place.shape)


def _finite(score: float, crop: Crop) -> float:
    if not np.isfinite(score):
        detail = f"region '{crop.roi.name}': the engine's score is {score}"
        raise Uninspectable(Reason.MODEL_FAULT.value, detail)
    return score
