"""Pictures of a GAN in training: sample sheets, and the curve of the monitored distance."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np

from edge_inspector.models.dcgan import Generator
from edge_inspector.records import Pixels
from edge_inspector.training.gan import LOOK_STEPS, draw_each

COLUMNS = 12
SHEET_SEED = 0


def sample_sheet(generator: Generator) -> Pixels:
    """A row of images per class, of the same noise on every sheet."""
    return tiled(draw_each(generator, COLUMNS, SHEET_SEED)[0].numpy())


def tiled(crops: Pixels) -> Pixels:
    """Crops (n, h, w, c) as one picture, `COLUMNS` in a row."""
    _, height, width, channels = crops.shape
    rows = crops.reshape(-1, COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(rows.reshape(-1, COLUMNS * width, channels))


def curve(distances: Sequence[float]) -> bytes:
    """The distance over the steps, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([max(i * LOOK_STEPS, 1) for i in range(len(distances))], distances)
    axes.set_xlabel("step of the generator")
    axes.set_ylabel("Wasserstein distance, by the critic")
    axes.set_ylim(bottom=min(0.0, *distances))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def png(pixels: Pixels) -> bytes:
    """Pixels (h, w, c) as a file's content."""
    return cv2.imencode(".png", pixels)[1].tobytes()
