"""Round marks that look alike and stand apart: what fiducial alignment can hold on to."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels

MIN_ROUND = 0.8
"""Area over that of the circle with the same outline, 4 pi A / P^2; a square has 0.785."""
MIN_SHARE, MAX_SHARE = 0.012, 0.15
"""Diameter of a mark, as a share of the frame's shorter side."""
ALIKE = 0.9
"""Correlation of grey levels from which two marks are the same kind."""
ROOM = 2.0
"""Side of the patch around a mark, in diameters."""
MOST = 4


def round_marks(reference: Pixels) -> tuple[NDArray[np.float64], int]:
    """Centres (n, 2) of up to four marks of one kind, far apart, and the side of their patch, px."""
    best: tuple[NDArray[np.float64], int] = np.zeros((0, 2)), 0
    spread = 0.0
    found = _discs(reference)
    for _, diameter in found:
        side = 2 * math.ceil(ROOM * diameter / 2) + 1
        near = [centre for centre, other in found if abs(other / diameter - 1) < 0.15]
        marks = _far_apart(_alike(reference, near, side))
        reach = float(np.linalg.norm(np.ptp(marks, axis=0))) if len(marks) > 1 else 0.0
        if reach > spread:
            best, spread = (marks, side), reach
    return best


def _discs(reference: Pixels) -> list[tuple[tuple[float, float], float]]:
    """Centre and diameter of every dark or bright disc, px."""
    short = min(reference.shape)
    blurred = cv2.GaussianBlur(reference, (3, 3), 0)
    level, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_OTSU)
    _, mask = cv2.threshold(blurred, level, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    discs = []
    for contour in contours:
        area, outline = cv2.contourArea(contour), cv2.arcLength(contour, True)
        diameter = 2 * math.sqrt(area / math.pi)
        fits = MIN_SHARE * short < diameter < MAX_SHARE * short
        if fits and 4 * math.pi * area > MIN_ROUND * outline**2:
            moments = cv2.moments(contour)
            centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
            discs.append((centre, diameter))
    return discs


def _alike(reference: Pixels, centres: list[tuple[float, float]], side: int) -> NDArray[np.float64]:
    """The centres whose surroundings look like those of the first, cut to sub-pixel accuracy."""
    room = [
        c for c in centres if min(c[0], c[1], *(np.array(reference.shape[::-1]) - c)) > side / 2 + 1
    ]
    views = [cv2.getRectSubPix(reference, (side, side), centre) for centre in room]
    kept = [
        centre
        for centre, view in zip(room, views, strict=True)
        if float(cv2.matchTemplate(views[0], view, cv2.TM_CCOEFF_NORMED)[0, 0]) > ALIKE
    ]
    return np.array(kept).reshape(-1, 2)


def _far_apart(marks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two with most room between them, then those farthest from the ones taken."""
    if len(marks) < 2:
        return marks
    apart = np.linalg.norm(marks[:, None] - marks[None], axis=2)
    taken = [int(at) for at in np.unravel_index(int(apart.argmax()), apart.shape)]
    while len(taken) < min(MOST, len(marks)):
        taken.append(int(apart[:, taken].min(axis=1).argmax()))
    return marks[taken]
