"""The records of pixels: where a product lies, its regions, their crops and the evidence in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""x, y, width, height in px of the frame."""


@dataclass(frozen=True, slots=True)
class Pose:
    """
    Where the product lies: reference px to frame px, `frame = scale * R(angle) @ ref + (dx, dy)`.

    `angle_deg` turns counter-clockwise on the screen with y pointing down being negative sine,
    as in `cv2.getRotationMatrix2D`; `score` in 0..1 is how well the alignment was found.
    """

    dx: float = 0.0
    dy: float = 0.0
    angle_deg: float = 0.0
    scale: float = 1.0
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Roi:
    """
    A named area of the product in reference px, already expanded from any grid.

    `mask` is uint8 (h, w) of the area, 255 where pixels are not to be judged, or None.
    """

    name: str
    camera: str
    box: Box
    mask: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels of one region in one frame, resized to what the engine takes: (h, w) or (h, w, 3)."""

    roi: Roi
    pixels: Pixels
    frame_box: Box
    """Upright box in the frame that the crop came from, for locations and pictures."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one tool measured: the kind of defect it would be, its raw score, where in crop px.

    `limit` is what the number in `words` would be at the raw scores 0 and 1, None without one.
    """

    kind: str
    raw: float
    box: Box
    words: str
    limit: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """
    The evidence for one crop: higher is worse.

    `anomaly_map` is uint8 of any size and covers the crop; `box` is the most suspicious place in
    crop px; `defect_class`, `probability` and `class_map` (uint8, what of the crop speaks for the
    class) are set by what can name a defect, else None.
    `detail` says in words what was found; `findings` are those of tools, the one first that
    explains most.
    """

    anomaly_score: float
    anomaly_map: Pixels | None = None
    box: Box | None = None
    defect_class: str | None = None
    probability: float | None = None
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    class_map: Pixels | None = None


EvidenceKind = Literal["engine", "tools", "rules"]
"""Where evidence comes from: a network, tools with learned limits, rules with preset ones."""
