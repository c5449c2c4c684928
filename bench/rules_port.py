"""The rules with their per-ball part in C++, as the rules' fastest form; needs a C++ compiler."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_inspector.records import Pixels
from edge_inspector.rules.balls import BallGauge, Balls
from edge_inspector.rules.bga import RuleScorer
from edge_inspector.rules.grid import Placement
from edge_inspector.rules.parameters import RuleParameters

SOURCE = Path(__file__).with_name("rules_port.cpp")
COMMAND = ("g++", "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
HEAD = 7
INTS = ("side", "reach", "balls", "gaps", "cores", "corners")
FLOATS = (
    *("match_px", "least", "least_area", "most_area"),
    *("inlier_px", "min_contrast", "edge", "missing"),
)
TABLES = ("nodes", "first", "second", "core", "corner")


class Rules(ctypes.Structure):
    """`struct Rules` of the C++."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in INTS),
        *((name, ctypes.c_double) for name in FLOATS),
        *((name, ctypes.c_void_p) for name in TABLES),
    ]


def build() -> Callable[..., int]:
    """Compile and load; raises `OSError` without a compiler, `CalledProcessError` with its words."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "rules_port.so"
        command = [*COMMAND, str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        measure = ctypes.CDLL(str(library)).measure
    address = ctypes.c_void_p
    measure.argtypes = [address, address, ctypes.c_int, address, address]
    measure.argtypes += [ctypes.c_double, ctypes.c_double, address]
    return measure


class PortedGauge(BallGauge):
    """Measures balls as `BallGauge` does."""

    def __init__(self, rules: RuleParameters, port: Callable[..., int]) -> None:
        super().__init__(rules)
        self._port = port
        self._tables: dict[str, np.ndarray[Any, Any]] = {
            "nodes": self._nodes,
            "first": self._first.astype(np.int64),
            "second": self._second.astype(np.int64),
            "core": np.flatnonzero(self._core).astype(np.int32),
            "corner": np.flatnonzero(self._corner).astype(np.int32),
        }
        balls, gaps = self._nodes.size, self._first.size
        self._sizes = (balls, gaps)
        self._rules = Rules(
            rules.body.crop_side_px,
            self.reach_px,
            balls,
            gaps,
            self._tables["core"].size,
            self._tables["corner"].size,
            self._reach_of_match,
            max(4, self._find.min_found * balls),
            *self._areas,
            self._find.inlier_px,
            self._find.min_contrast_grey,
            self._find.ball_edge,
            self._missing,
            *(self._tables[name].ctypes.data for name in TABLES),
        )

    def measure(self, pixels: Pixels) -> Balls:
        """All balls of a crop, uint8 (h, w); raises `Uninspectable` when no grid is found."""
        closed = cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, self._closing)
        top, left = self._search
        otsu = cv2.THRESH_BINARY + cv2.THRESH_OTSU
        _, white = cv2.threshold(closed[top, left], 0, 255, otsu)
        blobs, _, stats, middles = cv2.connectedComponentsWithStatsWithAlgorithm(
            white, 8, cv2.CV_32S, cv2.CCL_GRANA
        )
        balls, gaps = self._sizes
        out = np.empty(HEAD + 7 * balls + 3 * gaps)
        at, where = ctypes.addressof(self._rules), (left.start, top.start)
        if not self._port(
            at, closed.ctypes.data, blobs, stats.ctypes.data, middles.ctypes.data, *where,
            out.ctypes.data,
        ):  # fmt: skip
            return super().measure(pixels)
        return self._told(out)

    def _told(self, out: np.ndarray[Any, np.dtype[np.float64]]) -> Balls:
        balls, gaps = self._sizes
        places, end = out[HEAD:].view(np.complex128), HEAD + 4 * balls + 2 * gaps
        body, contrast, area = out[:3].tolist()
        turn, offset = complex(*out[3:5]), complex(*out[5:7])
        return Balls(
            placement=Placement(turn, offset),
            at=places[:balls],
            centre=places[balls : 2 * balls],
            fill=out[end : end + balls],
            off_px=out[end + balls : end + 2 * balls],
            elongation=out[end + 2 * balls : end + 3 * balls],
            gap=out[end + 3 * balls :],
            gap_at=places[2 * balls : 2 * balls + gaps],
            body_grey=body,
            contrast_grey=contrast,
            ball_area_px2=area,
        )


class PortedRules(RuleScorer):
    """Scores crops by the rules, the balls measured in C++."""

    def __init__(self, rules: RuleParameters, port: Callable[..., int]) -> None:
        super().__init__(rules)
        self._balls = PortedGauge(rules, port)
