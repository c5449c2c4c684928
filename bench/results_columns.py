"""The figures of a kept result that the tables show and the goals ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from edge_inspector.studies.dataset import is_good

Result = dict[str, Any]
Value = Callable[[Result], float | None]
NONE = "-"
AT = "0.005"
"""The overkill that recalls are told at."""
NO_ESCAPE = ("detection", "no_escape_of_val")
"""Figures at the score of the least suspicious defect of the validation split."""
PRECISE = 0.9
"""Precision below which a recall does not count for the goal of the attention table."""


def defect_counts(report: dict[str, Any]) -> tuple[int, int, int, int] | None:
    """Defects called defective, called good, good called defective, and all right; by the likeliest class."""
    if not any(is_good(label) for label in report.get("labels", [])):
        return None
    caught = escaped = overkill = right = 0
    for truth, row in zip(report["labels"], report["confusion"], strict=True):
        for told, count in zip(report["labels"], row, strict=True):
            bad, rejected = not is_good(truth), not is_good(told)
            caught += count * (bad and rejected)
            escaped += count * (bad and not rejected)
            overkill += count * (rejected and not bad)
            right += count * (bad == rejected)
    return caught, escaped, overkill, right


def _report(*keys: str) -> Value:
    """A figure under these keys of the report; None where one is absent."""

    def value(result: Result) -> float | None:
        found: Any = result["report"]
        for key in keys:
            found = (found or {}).get(key)
        return None if found is None else float(found)

    return value


def _training(key: str) -> Value:
    def value(result: Result) -> float | None:
        found: float | None = (result.get("training") or {}).get(key)
        return found

    return value


def _caught(result: Result) -> float | None:
    counts = defect_counts(result["report"])
    return None if counts is None else counts[0] / max(counts[0] + counts[1], 1)


def _precise(result: Result) -> float | None:
    counts = defect_counts(result["report"])
    return None if counts is None else counts[0] / max(counts[0] + counts[2], 1)


def _apart(result: Result) -> float | None:
    counts = defect_counts(result["report"])
    return (
        None if counts is None else counts[3] / max(sum(map(sum, result["report"]["confusion"])), 1)
    )


def _caught_precisely(result: Result) -> float | None:
    """The better recall of two operating points, neither of them chosen on the test, 0 where precision is low."""
    points = [
        (_caught(result), _precise(result)),
        (_report(*NO_ESCAPE, "recall")(result), _report(*NO_ESCAPE, "precision")(result)),
    ]
    told = [recall for recall, precise in points if precise is not None and precise >= PRECISE]
    return max((recall for recall in told if recall is not None), default=0.0)


COLUMNS: dict[str, tuple[str, Value, int]] = {
    "auroc": ("AUROC", _report("auroc"), 3),
    "recall": ("recall at 0.5 % overkill", _report("recall_at_overkill", AT, "overall"), 3),
    "overkill": (
        "overkill there, on the test",
        _report("recall_at_overkill", AT, "overkill_rate"),
        4,
    ),
    "f1": ("F1", _report("best_f1", "f1"), 3),
    "ms": ("ms a crop", _report("latency_ms", "p50"), 2),
    "seconds": ("s to train", _training("seconds"), 0),
    "accuracy": ("accuracy", _report("accuracy"), 3),
    "macro_f1": ("macro-F1", _report("macro_f1"), 3),
    "macro_auc": ("macro-AUC", _report("macro_auc"), 3),
    "apart": ("accuracy, good or not", _apart, 3),
    "caught": ("recall of defects", _caught, 3),
    "precise": ("precision of defects", _precise, 3),
    "no_escape": ("recall where none of val escapes", _report(*NO_ESCAPE, "recall"), 3),
    "no_escape_precise": ("precision there", _report(*NO_ESCAPE, "precision"), 3),
    "caught_precisely": ("recall of defects at precision .90", _caught_precisely, 3),
    "unknown_f1": ("F1 of unknown", _report("unknown", "f1"), 3),
    "unknown_recall": ("recall", _report("unknown", "recall"), 3),
    "unknown_precision": ("precision", _report("unknown", "precision"), 3),
    "unknown_auroc": ("AUROC", _report("unknown", "auroc"), 3),
    "unknown_possible": ("best F1 possible", _report("unknown", "best_f1_possible"), 3),
    "epochs": ("epochs", _training("epochs"), 0),
}
"""Name in the TOML -> heading, value, digits."""


def _paper(row: str, run: dict[str, Any], fine: Sequence[Result]) -> str:
    told = run.get("paper")
    return told.get(row, NONE) if isinstance(told, dict) else NONE


def _seeds(row: str, run: dict[str, Any], fine: Sequence[Result]) -> str:
    return str(len(fine))


def _px(row: str, run: dict[str, Any], fine: Sequence[Result]) -> str:
    """As the commands say it."""
    return _each(re.findall(r" --size (\d+)", " ".join(r["commands"])) for r in fine)


def _weights(row: str, run: dict[str, Any], fine: Sequence[Result]) -> str:
    return _each([(r.get("training") or {}).get("weights", NONE)] for r in fine)


def _each(found: Any) -> str:
    return ", ".join(dict.fromkeys(word for words in found for word in words)) or NONE


TEXTS: dict[str, tuple[str, Callable[[str, dict[str, Any], Sequence[Result]], str]]] = {
    "paper": ("paper's", _paper),
    "seeds": ("runs", _seeds),
    "px": ("px", _px),
    "weights": ("backbone from", _weights),
}
"""Columns of words: name in the TOML -> heading, text."""
