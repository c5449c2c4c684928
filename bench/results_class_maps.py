"""Where each classifier looked, for a person: crops and class maps, into the ignored `results/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.results_pictures import chosen, engines_of, grey, labelled, large, write_sheet
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.studies.dataset import Item, load_crop


def write_class_maps(spec: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    """A sheet for the first run of every row whose engine is here."""
    for result, folder, items in engines_of(results):
        write_sheet(result, _sheet(folder, items))


def _sheet(folder: Path, items: list[Item]) -> np.ndarray:
    """A column an image: as it is, with its label, and the map of the likeliest defect, with ours."""
    engine = open_engine(folder)
    shown = chosen(items)
    crops = np.stack([load_crop(item.path, engine.manifest.input) for item in shown])
    _, session = open_first(("onnxruntime",), engine.model, 1)
    answers = session.run(crops)
    session.close()
    above = [labelled(grey(c), item.label) for c, item in zip(crops, shown, strict=True)]
    below = []
    for crop, map_, shares in zip(
        crops, answers["anomaly_map"], answers["probabilities"], strict=True
    ):
        colours = cv2.applyColorMap(large(map_), cv2.COLORMAP_INFERNO)
        told = f"{engine.manifest.classes[int(shares.argmax())]} {shares.max():.2f}"
        below.append(labelled(cv2.addWeighted(grey(crop), 0.4, colours, 0.6, 0), told))
    return np.vstack([np.hstack(above), np.hstack(below)])
