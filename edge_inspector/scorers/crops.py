"""What scorers of engines share: crops to a batch, and what an engine answers back to the crop."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_inspector.crops import crop_mask
from edge_inspector.errors import Uninspectable
from edge_inspector.records import Box, Crop, Pixels, Reason


def stacked(crops: Sequence[Crop], shape: tuple[int, int, int]) -> Pixels:
    """Crops as one batch, uint8 (n, *shape); raises `Uninspectable` for one out of shape."""
    batch = np.empty((len(crops), *shape), np.uint8)
    for place, crop in zip(batch, crops, strict=True):
        if crop.pixels.size != place.size or crop.pixels.shape[:2] != place.shape[:2]:
            detail = f"region '{crop.roi.name}': crop is {crop.pixels.shape}, the engine takes "
            raise Uninspectable(Reason.MODEL_FAULT.value, f"{detail}{place.shape}")
        place[:] = crop.pixels.reshape(place.shape)
    return batch


def suspicious_box(anomaly_map: Pixels, pixels: Pixels) -> Box | None:
    """Box in crop px around the map's peak, down to halfway to its mean; None when it is flat."""
    _, peak, _, place = cv2.minMaxLoc(anomaly_map)
    level = (peak + cv2.mean(anomaly_map)[0]) / 2
    if peak - level < 0.5:
        return None
    lower, flags = peak - int(level) - 1, 8 | cv2.FLOODFILL_FIXED_RANGE
    _, _, _, (x, y, width, height) = cv2.floodFill(
        anomaly_map.copy(), None, place, 0, lower, 0, flags
    )
    rows, columns = anomaly_map.shape
    across, down = pixels.shape[1] / columns, pixels.shape[0] / rows
    left, top = int(x * across), int(y * down)
    return (left, top, round((x + width) * across) - left, round((y + height) * down) - top)


def judged(anomaly_map: Pixels, crop: Crop) -> Pixels:
    """The map without what the recipe says not to judge."""
    if crop.roi.mask is None:
        return anomaly_map
    ignored = crop_mask(crop.roi.mask, *anomaly_map.shape)
    return np.where(ignored > 0, np.uint8(0), anomaly_map)


def finite(value: float, name: str, crop: Crop) -> float:
    """The engine's number of a crop; raises `Uninspectable` where it is none."""
    if not np.isfinite(value):
        detail = f"region '{crop.roi.name}': the engine's {name} is {value}"
        raise Uninspectable(Reason.MODEL_FAULT.value, detail)
    return value
