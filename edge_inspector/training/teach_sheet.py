"""The good units that stand out most, as one picture for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_inspector.errors import Breakage
from edge_inspector.inspector import Inspector, Seen
from edge_inspector.records import Pixels
from edge_inspector.sinks.archive import draw_reject
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.training.teach_units import Unit

SHOWN, COLUMNS = 12, 3
TILE = (420, 260)
"""Width and height in px of one unit on the sheet."""


def write_sheet(
    path: Path, inspector: Inspector, units: Sequence[tuple[Unit, float]], threshold: float
) -> None:
    """A PNG of the units, each with its worst region, the map over it, its name and its score."""
    tiles = [
        _tile(inspector, unit, f"{unit.name}  score {score:.3g} / threshold {threshold:.3g}")
        for unit, score in units[:SHOWN]
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.vstack(rows))[1].tobytes())
    except OSError as error:
        raise Breakage(f"{path} cannot be written: {error.strerror}; make room") from error


def _tile(inspector: Inspector, unit: Unit, title: str) -> Pixels:
    best: tuple[float, Pixels] | None = None
    for frame in unit.frames:
        seen = inspector.look(file_frame(frame.pixels(), frame.camera, inspector.recipe.product))
        score, picture = _worst(seen, title)
        if picture is not None and (best is None or score > best[0]):
            best = score, picture
    sheet = np.zeros((TILE[1], TILE[0], 3), np.uint8)
    if best is None:
        return sheet
    picture = best[1]
    factor = min(TILE[0] / picture.shape[1], TILE[1] / picture.shape[0])
    size = (int(picture.shape[1] * factor), int(picture.shape[0] * factor))
    shrunk = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    sheet[: size[1], : size[0]] = shrunk
    return sheet


def _worst(seen: Seen, title: str) -> tuple[float, Pixels | None]:
    """The region that scored highest, drawn."""
    if not seen.crops:
        return 0.0, None
    by_name = {region.name: region.score for region in seen.inspection.regions}
    places = range(len(seen.crops))
    drawn = [i for i in places if seen.scores[i].anomaly_map is not None] or list(places)
    worst = max(drawn, key=lambda i: by_name.get(seen.crops[i].roi.name, 0.0))
    crop, score = seen.crops[worst], seen.scores[worst]
    picture = draw_reject(crop.pixels, score, (title, crop.roi.name))
    return by_name.get(crop.roi.name, 0.0), picture
