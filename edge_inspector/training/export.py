"""From a trained network to an engine's folder: one graph, proved in every runtime, then sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_inspector import bundle, clock, parity
from edge_inspector.backends import open_first
from edge_inspector.errors import Misuse, ParityError
from edge_inspector.manifest import Challenge, Manifest, Statistics
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels
from edge_inspector.studies import metrics
from edge_inspector.studies.calibrate import robust_spread
from edge_inspector.training.checkpoint import all_or_nothing
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.graph_rules import checked
from edge_inspector.training.onnx_export import OPSET, OUTPUTS, to_onnx
from edge_inspector.training.plan import Trained
from edge_inspector.training.suspects import suspects

RUNTIMES = ("onnxruntime", "openvino")
FROZEN = 32
"""Held-out crops that all runtimes must agree on."""
AGREEMENT = 0.02
"""Largest difference of a score between runtimes, in spreads of the scores of good crops."""
MAP_AGREEMENT = 2
"""Largest difference of a map value, of 255."""
BLOBS = (1 / 24, 1 / 12, 1 / 6, 1 / 3)
"""Radii of the challenge's blob to try, of the crop's shorter side: the first that stands out."""


class TorchSession:
    """The graph where it was trained, as the reference of the parity gate."""

    def __init__(self, graph: nn.Module, outputs: Sequence[str] = OUTPUTS) -> None:
        self._graph = graph.eval()
        self._outputs = outputs

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Infer crops, uint8 (n, h, w, c)."""
        with torch.no_grad():
            parts = [self._graph(crops) for crops in torch.split(torch.from_numpy(batch), 32)]
        joined = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return dict(zip(self._outputs, joined, strict=True))

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the gate found: held-out scores, the challenge, and each runtime's largest difference."""

    scores: NDArray[np.float64]
    spread: float
    good: Pixels
    bad: Pixels
    challenge_scores: tuple[float, float]
    differences: dict[str, parity.Parity]


def prove(graph: nn.Module, model: bytes, held_out: Pixels) -> Proof:
    """
    The same frozen crops through torch and every runtime; raises `ParityError` on disagreement.

    Agreement is a score within 2 % of the spread of good scores and a map within 2 of 255.
    """
    reference = TorchSession(graph)
    scores = reference.run(held_out)["score"].astype(np.float64)
    spread = spread_of(scores)
    good = held_out[int(np.argsort(scores)[len(scores) // 2])]
    blobs = np.stack([good, *(with_blob(good, radius) for radius in BLOBS), 255 - good])
    good_score, *bad_scores = reference.run(blobs)["score"].astype(np.float64)
    found_out = [index for index, score in enumerate(bad_scores) if score > scores.max()]
    if not found_out and max(bad_scores) > good_score + spread:
        found_out = [int(np.argmax(bad_scores))]  # a poor engine, but two scores that differ
    if not found_out:
        raise ParityError(
            f"a good crop with a blob, or as a negative, scores {max(bad_scores):.6g}, as it is "
            f"{good_score:.6g}, good ones differ by {spread:.3g}; the network tells nothing apart, "
            "give it more images or minutes"
        )
    bad, bad_score = blobs[found_out[0] + 1], bad_scores[found_out[0]]
    frozen = np.concatenate([held_out[:FROZEN], good[None], bad[None]])
    differences = agreements(reference, model, frozen, AGREEMENT * spread)
    return Proof(scores, spread, good, bad, (float(good_score), float(bad_score)), differences)


def agreements(
    reference: Session, model: bytes, frozen: Pixels, limit: float
) -> dict[str, parity.Parity]:
    """Each runtime's largest differences on these crops; raises `ParityError` beyond `limit`."""
    differences = {}
    for name in RUNTIMES:
        _, session = open_first([name], model, 1)
        found = parity.compare(reference, session, frozen)
        session.close()
        _agree(name, found, limit)
        differences[name] = found
    return differences


def _agree(name: str, found: parity.Parity, limit: float) -> None:
    if found.max_score_difference > limit or found.max_map_difference > MAP_AGREEMENT:
        raise ParityError(
            f"{name} and torch differ by {found.max_score_difference:.3g} in score (limit "
            f"{limit:.3g}) and {found.max_map_difference} in map (limit {MAP_AGREEMENT}) at crop "
            f"{found.worst}; nothing was written, use another version of {name}"
        )
    if found.max_probability_difference > parity.PROBABILITY_AGREEMENT:
        raise ParityError(
            f"{name} and torch differ by {found.max_probability_difference:.3g} in probability "
            f"(limit {parity.PROBABILITY_AGREEMENT}); nothing was written, use another version of "
            f"{name}"
        )


def spread_of(scores: NDArray[np.float64]) -> float:
    """1.4826 × median absolute deviation; the plain one, or a share of the level, where that is 0."""
    return robust_spread(scores) or float(scores.std()) or 0.01 * abs(float(scores[0])) or 1e-6


def with_blob(crop: Pixels, share: float) -> Pixels:
    """A round blob where the crop is flattest, black or white, whichever is further away."""
    height, width = crop.shape[:2]
    radius = max(round(min(height, width) * share), 2)
    grey = crop.mean(axis=2).astype(np.float32)
    window = (2 * radius + 1, 2 * radius + 1)
    level = cv2.blur(grey, window)
    unrest = cv2.blur(grey * grey, window) - level * level
    margin = radius + 1
    inner = unrest[margin : height - margin, margin : width - margin]
    y, x = np.unravel_index(int(np.argmin(inner)), inner.shape)
    centre = (int(x) + margin, int(y) + margin)
    colour = 0.0 if level[centre[1], centre[0]] > 127 else 255.0
    marked = np.ascontiguousarray(crop.copy())
    cv2.circle(marked, centre, radius, (colour,) * 3, -1, cv2.LINE_AA)
    return marked.reshape(crop.shape)


def check_folder(folder: Path) -> tuple[str, int]:
    """Name and version from `…/<name>/<version>` (else version 1); raises `Misuse` when taken."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misuse(f"{folder} is not empty; engines never change, give the next version's folder")
    whole = folder.resolve()
    if whole.name.isdigit() and int(whole.name) >= 1:
        return whole.parent.name, int(whole.name)
    return whole.name, 1


def write_engine(
    folder: Path, trained: Trained, crops: GoodCrops, *, model_name: str, seed: int
) -> Manifest:
    """Export, prove, and only then write and seal; raises `ParityError` or `Misuse`."""
    name, number = check_folder(folder)
    graph = trained.graph
    model = to_onnx(graph, crops.shape)
    findings = checked(model)
    proof = prove(graph, model, crops.held_out.numpy())
    draft = Manifest(
        name=name,
        version=number,
        kind="anomaly",
        architecture=model_name,
        score=trained.score,
        opset=OPSET,
        input=crops.shape,
        outputs=OUTPUTS,
        challenge=Challenge(
            good="good.png",
            bad="bad.png",
            good_score=proof.challenge_scores[0],
            bad_score=proof.challenge_scores[1],
            tolerance=_tolerance(proof),
        ),
        statistics=statistics_of(proof.scores),
        training_data_sha256=crops.digest,
        seed=seed,
        created_utc=clock.utc_text(clock.utc_ns()),
        files={},
    )
    told = {
        **_figures(trained, crops, proof),
        "suspects": suspects(model, crops),
        "lint": [finding.figures() for finding in findings],
    }
    return write_folder(folder, draft, model, (proof.good, proof.bad), told)


def write_folder(
    folder: Path,
    draft: Manifest,
    model: bytes,
    challenge: tuple[Pixels, Pixels],
    told: Mapping[str, Any],
    more: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write all of an engine or nothing, and seal it; `told` becomes figures.json, `more` is files."""
    text = json.dumps(told, indent=2) + "\n"
    names = (draft.challenge.good, draft.challenge.bad)
    with all_or_nothing(folder) as written:
        for file, raw in {draft.model: model, **(more or {})}.items():
            (written / file).write_bytes(raw)
        for file, pixels in zip(names, challenge, strict=True):
            (written / file).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        (written / "figures.json").write_text(text, encoding="utf-8")
        return bundle.seal(written, draft)


def _tolerance(proof: Proof) -> float:
    """The gate's limit, and room for the rounding of a score far out."""
    return AGREEMENT * proof.spread + 1e-3 * abs(proof.challenge_scores[1])


def statistics_of(scores: NDArray[np.float64]) -> Statistics:
    """What is usual of raw scores of held-out good crops."""
    return Statistics(
        count=len(scores),
        median=float(np.median(scores)),
        spread=spread_of(scores),
        p99=float(np.quantile(scores, 0.99)),
        maximum=float(scores.max()),
    )


def _figures(trained: Trained, crops: GoodCrops, proof: Proof) -> dict[str, Any]:
    return {
        "images": {
            "train": len(crops.train),
            "held_out": len(crops.held_out),
            "corrupt": len(crops.corrupt),
        },
        "remarks": list(crops.remarks),
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "ended": trained.ended,
        "held_out_losses": metrics.rounded(list(trained.losses), 6),
        **proved(proof.differences),
    }


def proved(differences: Mapping[str, parity.Parity]) -> dict[str, Any]:
    """What figures.json says of the runtimes, and with what the engine was made."""
    return {
        "parity": {
            name: {"score": found.max_score_difference, "map": found.max_map_difference}
            for name, found in differences.items()
        },
        "versions": {name: version(name) for name in ("torch", "onnx", *RUNTIMES)},
    }
