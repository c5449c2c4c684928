"""Anomaly engines: one run for all crops, a score and the most suspicious place of each."""

from __future__ import annotations

from collections.abc import Sequence

from edge_inspector.errors import EngineRefused
from edge_inspector.manifest import Manifest
from edge_inspector.protocols import Session
from edge_inspector.records import Crop, Score
from edge_inspector.scorers.crops import finite, judged, stacked, suspicious_box

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
        found = self._session.run(stacked(crops, self.input_shape))
        maps = [judged(*pair) for pair in zip(found["anomaly_map"], crops, strict=True)]
        return [
            Score(finite(float(score), "score", crop), seen, suspicious_box(seen, crop.pixels))
            for score, seen, crop in zip(found["score"], maps, crops, strict=True)
        ]
