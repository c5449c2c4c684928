"""Training crops that a person should look at: the engine finds them less usual than the rest."""

from __future__ import annotations

import math

import numpy as np
import torch

from edge_inspector.backends import open_first
from edge_inspector.studies.calibrate import robust_spread
from edge_inspector.training.data import GoodCrops

MOST = 20
"""Names at most."""
FAR = 4.0
"""Spreads of the training crops' scores beyond their median from which a crop is named."""
BATCH = 16


def suspects(model: bytes, crops: GoodCrops) -> dict[str, float]:
    """Files of the training crops that stand out, the worst first, with their scores in spreads."""
    if not crops.names:
        return {}
    _, session = open_first(("openvino", "onnxruntime"), model, torch.get_num_threads())
    try:
        parts = [session.run(batch.numpy())["score"] for batch in torch.split(crops.train, BATCH)]
    finally:
        session.close()
    scores = np.concatenate(parts).astype(np.float64)
    away = (scores - np.median(scores)) / (robust_spread(scores) or math.inf)
    worst = [int(index) for index in np.argsort(-away)[:MOST] if away[index] >= FAR]
    return {crops.names[index]: round(float(away[index]), 1) for index in worst}
