"""Classifier engines: which defect a crop shows, how surely, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import EngineRefused
from edge_inspector.manifest import Manifest
from edge_inspector.protocols import Session
from edge_inspector.records import Box, Crop, Pixels, Score
from edge_inspector.scorers.crops import finite, judged, stacked, suspicious_box
from edge_inspector.scorers.unknown import UNKNOWN, certainty, oddness

OUTPUTS = ("score", "anomaly_map", "probabilities", "novelty")


@dataclass(frozen=True, slots=True)
class Named:
    """
    A classifier's answer for one crop.

    `class_map` is uint8 (h', w') of the most probable defect class, `box` its peak in crop px.
    """

    defect_class: str
    """`unknown` included; the good class only of a crop that was not rejected."""
    probability: float
    """Of `unknown`: that none of the known defects is meant."""
    class_map: Pixels
    box: Box | None
    novelty: float
    probabilities: tuple[float, ...]
    """Of the engine's classes, in its order."""
    score: float


class ClassifierScorer:
    """Names the defects of crops with one open engine; a scorer too, where it stands alone."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        absent = [name for name in OUTPUTS if name not in manifest.outputs]
        if manifest.kind != "classifier" or absent or len(manifest.classes) < 2:
            raise EngineRefused(
                f"engine {manifest.name}/{manifest.version} is a {manifest.kind} engine with "
                f"outputs {', '.join(manifest.outputs)} and {len(manifest.classes)} classes; a "
                f"classifier needs {', '.join(OUTPUTS)} and 2 classes or more"
            )
        shape = manifest.input
        self.input_shape: tuple[int, int, int] = (shape.height, shape.width, shape.channels)
        self.classes = manifest.classes
        self.good = manifest.good_class
        self._limits = manifest.unknown
        self._session = session

    def score(self, crops: Sequence[Crop]) -> list[Score]:
        """Each crop's evidence and the class that it has if the recipe rejects it."""
        return [
            Score(
                named.score,
                named.class_map,
                named.box,
                named.defect_class,
                named.probability,
                class_map=named.class_map,
            )
            for named in self.name_defects(crops, [None] * len(crops))
        ]

    def name_defects(
        self, crops: Sequence[Crop], anomaly: Sequence[float | None], *, rejected: bool = True
    ) -> list[Named]:
        """
        One answer per crop, in order; raises `Uninspectable` for a crop or answer out of shape.

        `anomaly` is the deviation of an anomaly engine's score in spreads of good crops, None
        where there is none. Of `rejected` crops the good class is never the answer.
        """
        if not crops:
            return []
        found = self._session.run(stacked(crops, self.input_shape))
        return [
            self._named({name: found[name][index] for name in OUTPUTS}, crop, strange, rejected)
            for index, (crop, strange) in enumerate(zip(crops, anomaly, strict=True))
        ]

    def _named(
        self, found: Mapping[str, Any], crop: Crop, anomaly: float | None, rejected: bool
    ) -> Named:
        shares: NDArray[np.float64] = found["probabilities"].astype(np.float64)
        best = int(np.argmax(shares))
        share = finite(float(shares[best]), "probability", crop)
        novelty = finite(float(found["novelty"]), "novelty", crop)
        score = finite(float(found["score"]), "score", crop)
        answer = self.classes[best]
        odd = self._oddness(shares, novelty, anomaly)
        if odd >= 1:
            answer, share = UNKNOWN, certainty(odd)
        elif rejected and answer == self.good:
            answer = UNKNOWN  # whatever was rejected, the classifier saw no defect that it knows
        seen = judged(found["anomaly_map"], crop)
        box = suspicious_box(seen, crop.pixels)
        return Named(answer, share, seen, box, novelty, tuple(shares.tolist()), score)

    def _oddness(self, shares: NDArray[np.float64], novelty: float, anomaly: float | None) -> float:
        if self._limits is None:
            return 0.0
        strange = None if anomaly is None else np.array([anomaly])
        found = oddness(self._limits, self.classes, shares[None], np.array([novelty]), strange)
        return float(found[0])
