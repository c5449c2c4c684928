"""From a trained classifier to an engine's folder, its limit of `unknown` included."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import DataError, Misuse, ParityError
from edge_inspector.manifest import Challenge, Manifest, Unknown
from edge_inspector.models.class_heads import DenseHead
from edge_inspector.models.classifier_graph import ClassifierGraph
from edge_inspector.models.novelty import Novelty
from edge_inspector.records import Pixels
from edge_inspector.scorers.classifier import OUTPUTS
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import load_crop
from edge_inspector.studies.openset import operating_point
from edge_inspector.training.classifier_plan import ClassifierPlan, TrainedClassifier
from edge_inspector.training.export import (
    FROZEN,
    TorchSession,
    agreements,
    check_folder,
    proved,
    statistics_of,
    write_folder,
)
from edge_inspector.training.graph_rules import checked
from edge_inspector.training.labelled import LabelledCrops
from edge_inspector.training.onnx_export import OPSET, to_onnx

AGREEMENT = 0.01
"""Largest difference of a score, which lies between 0 and 1, between runtimes."""
SHOWN = 4096
"""Most training crops that novelty learns from, of each class alike."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the graph says of labelled crops."""

    crops: Pixels
    labels: NDArray[np.int64]
    found: dict[str, NDArray[Any]]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Raw scores, (n,)."""
        return self.found["score"].astype(np.float64)


def write_classifier(
    folder: Path,
    trained: TrainedClassifier,
    crops: LabelledCrops,
    *,
    plan: ClassifierPlan,
    anomaly: Path | None = None,
) -> Manifest:
    """
    Export, prove in every runtime, and only then write and seal.

    `anomaly` is the engine whose score takes part in what is `unknown`. Raises `ParityError` or
    `Misuse`.
    """
    name, number = check_folder(folder)
    graph = graph_of(trained, crops)
    reference = TorchSession(graph, OUTPUTS)
    seen = look(reference, crops)
    pair = challenge_pair(seen, crops)
    remarks = list(crops.remarks)
    limits = limits_of(seen, crops, anomaly, remarks)
    model = to_onnx(graph, crops.shape, OUTPUTS)
    findings = checked(model)
    chosen = np.linspace(0, len(seen.crops) - 1, min(FROZEN, len(seen.crops))).astype(int)
    frozen = seen.crops[[*chosen, *pair]]
    differences = agreements(reference, model, frozen, AGREEMENT)
    usual = seen.labels == graph.good if graph.good is not None else seen.labels >= 0
    draft = Manifest(
        name=name,
        version=number,
        kind="classifier",
        architecture=plan.model,
        score="probability of a defect" if graph.good is not None else "novelty",
        opset=OPSET,
        input=crops.shape,
        outputs=OUTPUTS,
        classes=trained.classes,
        challenge=Challenge(
            good="good.png",
            bad="bad.png",
            good_score=float(seen.scores[pair[0]]),
            bad_score=float(seen.scores[pair[1]]),
            tolerance=AGREEMENT,
        ),
        statistics=statistics_of(seen.scores[usual]),
        unknown=limits,
        training_data_sha256=crops.digest,
        seed=plan.seed,
        created_utc=clock.utc_text(clock.utc_ns()),
        files={},
    )
    told = {
        **_figures(trained, crops, plan),
        "remarks": remarks,
        **proved(differences),
        "lint": [finding.figures() for finding in findings],
    }
    good, bad = seen.crops[pair[0]], seen.crops[pair[1]]
    return write_folder(folder, draft, model, (good, bad), told)


def graph_of(trained: TrainedClassifier, crops: LabelledCrops) -> ClassifierGraph:
    """The network with what it knows of the crops that it learned from, and no GAN drew."""
    real = len(crops.train) - crops.generated
    labels = crops.train_labels[:real]
    order = np.random.default_rng(0).permutation(real)
    counts: Counter[int] = Counter()
    turn = []
    for index in order:
        turn.append(counts[int(labels[index])])
        counts[int(labels[index])] += 1
    kept = torch.from_numpy(order[np.argsort(turn, kind="stable")[:SHOWN]])
    network = trained.network.eval()
    good = labels[kept] == crops.good if crops.good is not None else labels[kept] >= 0
    parts, usual = [], torch.zeros(())
    with torch.no_grad():
        for batch, asked in zip(
            torch.split(crops.train[kept], 32), torch.split(good, 32), strict=True
        ):
            maps = network.feature_maps(network.prepare(batch))
            usual = usual + maps[0][asked].sum(dim=0)
            embedding = network.embed(maps)
            parts.append((embedding, network.logits(embedding)))
    embeddings, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    novelty = Novelty()
    novelty.fit(embeddings, labels[kept], logits)
    if isinstance(network.head, DenseHead):
        network.head.usual = usual / good.sum()
    return ClassifierGraph(network, novelty, crops.good)


def look(reference: TorchSession, crops: LabelledCrops) -> Seen:
    """Validation crops through the graph, and a training crop of each class that they lack."""
    present = set(crops.val_labels.tolist())
    labels = crops.train_labels.tolist()
    lent = [labels.index(label) for label in range(len(crops.classes)) if label not in present]
    pixels = torch.cat([crops.val, crops.train[lent]]).numpy()
    known = torch.cat([crops.val_labels, crops.train_labels[lent]]).numpy()
    return Seen(pixels, known, dict(reference.run(pixels)))


def challenge_pair(seen: Seen, crops: LabelledCrops) -> tuple[int, int]:
    """
    Places of a usual good crop and of the defective one that is told right most surely.

    Without a good class, of the least and of the most unusual crop. Raises `ParityError` where
    their scores are one.
    """
    scores = seen.scores
    if crops.good is None:
        first, last = int(scores.argmin()), int(scores.argmax())
    else:
        good = np.flatnonzero(seen.labels == crops.good)
        first = int(good[np.argsort(scores[good])[(len(good) - 1) // 2]])
        right = seen.found["probabilities"].argmax(axis=1) == seen.labels
        last = int(np.argmax(np.where(seen.labels == crops.good, -1.0, scores + right)))
    if not scores[last] > scores[first] + AGREEMENT:
        raise ParityError(
            f"a defective crop scores {scores[last]:.3g}, a good one {scores[first]:.3g}; the "
            "network tells nothing apart, give it more images, epochs or minutes"
        )
    return first, last


def limits_of(
    seen: Seen, crops: LabelledCrops, anomaly: Path | None, remarks: list[str]
) -> Unknown | None:
    """The limit of `unknown`, from validation crops; None, and a remark, where they are few."""
    count = len(crops.val)
    names = [crops.classes[label] for label in seen.labels[:count]]
    shares = seen.found["probabilities"][:count].astype(np.float64)
    novelty = seen.found["novelty"][:count].astype(np.float64)
    beside = deviations(anomaly, crops) if anomaly is not None else None
    try:
        return operating_point(names, crops.classes, shares, novelty, beside)
    except DataError as error:
        remarks.append(f"no defect will be called unknown: {error}")
        return None


def deviations(folder: Path, crops: LabelledCrops) -> NDArray[np.float64]:
    """The anomaly engine's scores of the validation crops' files, in spreads of its good crops."""
    engine = open_engine(folder)
    manifest = engine.manifest
    if manifest.kind != "anomaly":
        raise Misuse(f"--anomaly {folder} is a {manifest.kind} engine; give an anomaly engine")
    _, session = open_first(("openvino", "onnxruntime"), engine.model, torch.get_num_threads())
    try:
        scores = [
            session.run(load_crop(Path(name), manifest.input)[None])["score"]
            for name in crops.val_names
        ]
    finally:
        session.close()
    raw = np.concatenate(scores).astype(np.float64)
    deviation: NDArray[np.float64] = (raw - manifest.statistics.median) / manifest.statistics.spread
    return deviation


def _figures(
    trained: TrainedClassifier, crops: LabelledCrops, plan: ClassifierPlan
) -> dict[str, Any]:
    counts = torch.bincount(crops.train_labels, minlength=len(crops.classes)).tolist()
    return {
        "images": {
            "train": len(crops.train) - crops.generated,
            "generated": crops.generated,
            "val": len(crops.val),
            "corrupt": len(crops.corrupt),
        },
        "classes": dict(zip(crops.classes, counts, strict=True)),
        "weights": trained.network.origin,
        "loss": plan.loss,
        "balance": plan.balance,
        "epochs": trained.epochs,
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "ended": trained.ended,
        "best_epoch": trained.best + 1,
        "history": metrics.rounded([epoch._asdict() for epoch in trained.history], 6),
    }
