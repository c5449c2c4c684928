"""
A classifier's figures on labelled images, crop by crop as on the line.

Figures of classes are of the most probable class; what the engine calls `unknown` stands beside
them. The limit of `unknown` comes from known crops of the validation split, never from the one
that is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Manifest, Unknown
from edge_inspector.scorers.unknown import Floats, is_unknown
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import Item, is_good
from edge_inspector.studies.evaluate import (
    Scored,
    Target,
    Tick,
    about,
    figures,
    score_items,
    score_splits,
    write_scores,
)
from edge_inspector.studies.openset import drift_figures, operating_point


def evaluate_classes(
    items: Sequence[Item],
    target: Target,
    split: str,
    *,
    drift: str | None = None,
    beside: Target | None = None,
    tick: Tick = lambda done, total: None,
    scores: Path | None = None,
) -> dict[str, Any]:
    """
    The report on one split, as `evaluate --json` writes it for classifiers.

    `drift` is the label of a class that training lacked, which should be `unknown`; `beside` an
    anomaly engine that looks too. Labels that the engine does not know take no part in the figures
    of classes. Raises `DataError` or `Misuse`.
    """
    labels = _manifest(target, "classifier").classes
    held_out, scored = score_splits(items, target, split, tick)
    if scores is not None:
        write_scores(scores, (scored,) if split == "val" else (held_out, scored))
    told = [item.label for item in scored.items]
    known = np.array([label in labels for label in told], np.bool_)
    if not known.any():
        raise DataError(
            f"split '{split}' has no image of a class that {target.title} knows "
            f"({', '.join(labels)}); it has {', '.join(sorted(set(told)))}"
        )
    truth = np.array([labels.index(label) for label in np.array(told)[known]])
    anomaly = _deviations(beside, scored.items) if beside else None
    limits = _limits(target, held_out, beside)
    report = {
        **about(target, split, held_out, scored),
        "labels": list(labels),
        **class_figures(truth, _shares(scored)[known], labels),
        "detection": _detection(scored, held_out, labels),
        "unknown_limits": limits.model_dump(mode="json", exclude_none=True) if limits else None,
        "called_unknown": _called(limits, labels, scored, anomaly),
        "not_taught": dict(Counter(label for label in told if label not in labels)),
    }
    if drift is not None:
        if limits is None:
            raise Misuse(
                f"--unknown {drift}: {target.title} has no limit of unknown; give --anomaly"
            )
        report["unknown"] = drift_figures(
            limits, drift, told, labels, _shares(scored), _novelty(scored), anomaly
        )
    return report


def class_figures(
    truth: NDArray[np.int64], shares: Floats, labels: Sequence[str]
) -> dict[str, Any]:
    """
    Accuracy, macro-F1 and macro-AUC over the classes that are there, and each class's own.

    `truth` (n,) are places in `labels`, `shares` (n, k); rows of the confusion matrix are the truth.
    """
    chosen = shares.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, chosen), 1)
    per_class = {}
    for place, label in enumerate(labels):
        hits, support = int(confusion[place, place]), int(confusion[place].sum())
        called = int(confusion[:, place].sum())
        per_class[label] = {
            "precision": hits / called if called else 0.0,
            "recall": hits / support if support else math.nan,
            "f1": 2 * hits / (called + support) if called + support else math.nan,
            "auc": metrics.auroc(shares[:, place], truth == place),
            "support": support,
        }
    present = [each for each in per_class.values() if each["support"]]
    return {
        "accuracy": float((chosen == truth).mean()),
        "macro_f1": float(np.mean([each["f1"] for each in present])),
        "macro_auc": float(np.mean([each["auc"] for each in present])),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def _detection(scored: Scored, held_out: Scored, labels: Sequence[str]) -> dict[str, Any] | None:
    """
    Defective or not, by the most probable class, and where no defect of the val split escapes.

    None where no class is good or the split has one kind only.
    """
    bad = scored.bad
    if not any(is_good(label) for label in labels) or bad.all() or not bad.any():
        return None
    good = next(place for place, label in enumerate(labels) if is_good(label))
    called = (_shares(scored).argmax(axis=1) != good).astype(np.float64)
    report: dict[str, Any] = {
        "auroc": metrics.auroc(scored.values, bad),
        "average_precision": metrics.average_precision(scored.values, bad),
        "most_probable": metrics.confusion(called, bad, 0.5),
    }
    if held_out.bad.any():
        threshold = float(held_out.values[held_out.bad].min())
        report["no_escape_of_val"] = figures(scored, threshold)
    return report


def _limits(target: Target, held_out: Scored, beside: Target | None) -> Unknown | None:
    """The engine's own; set anew with the anomaly engine beside it, if there is one."""
    manifest = _manifest(target, "classifier")
    if beside is None:
        return manifest.unknown
    taught = [item.label in manifest.classes for item in held_out.items]
    known = replace(
        held_out,
        items=[item for item, of in zip(held_out.items, taught, strict=True) if of],
        named=[named for named, of in zip(held_out.named, taught, strict=True) if of],
    )
    return operating_point(
        [item.label for item in known.items],
        manifest.classes,
        _shares(known),
        _novelty(known),
        _deviations(beside, known.items),
    )


def _deviations(beside: Target, items: Sequence[Item]) -> Floats:
    """An anomaly engine's scores in spreads of its good crops, (n,)."""
    usual = _manifest(beside, "anomaly").statistics
    scored = score_items(items, beside, lambda done, total: None)
    if len(scored.items) < len(items):
        raise DataError(
            f"{beside.title} scored {len(scored.items)} of {len(items)} images that the classifier "
            "named; leave out --anomaly, or the others"
        )
    found: Floats = (scored.values - usual.median) / usual.spread
    return found


def _manifest(target: Target, kind: str) -> Manifest:
    if target.manifest is None or target.manifest.kind != kind:
        found = "rules" if target.manifest is None else f"a {target.manifest.kind} engine"
        raise Misuse(f"{target.title} is {found}; give one of kind '{kind}'")
    return target.manifest


def _called(
    limits: Unknown | None, labels: Sequence[str], scored: Scored, anomaly: Floats | None
) -> dict[str, float] | None:
    """The share of each label's images that is called unknown."""
    if limits is None:
        return None
    beside = [None] * len(scored.items) if anomaly is None else anomaly.tolist()
    found: dict[str, list[bool]] = {}
    for item, named, strange in zip(scored.items, scored.named, beside, strict=True):
        odd = is_unknown(limits, labels, named.probabilities, named.novelty, strange)
        found.setdefault(item.label, []).append(odd)
    return {label: float(np.mean(found[label])) for label in sorted(found)}


def _shares(scored: Scored) -> Floats:
    return np.array([named.probabilities for named in scored.named], np.float64)


def _novelty(scored: Scored) -> Floats:
    return np.array([named.novelty for named in scored.named], np.float64)
