"""What was wanted beside what was found, from the kept results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Result = dict[str, Any]
AT = "0.005"
"""The overkill that recalls are told at."""


def goals_table(spec: dict[str, Any], results: Sequence[Result]) -> list[list[str]]:
    """A line a goal: what, where, wanted, found, and whether it is met."""
    return [_line(spec, goal, results) for goal in spec.get("goal", [])]


def _line(spec: dict[str, Any], goal: dict[str, Any], results: Sequence[Result]) -> list[str]:
    where = spec["data"][goal["data"]]["title"]
    found = {row: _figure(goal, row, results) for row in goal["rows"]}
    there = {row: value for row, value in found.items() if value is not None}
    limit = _limit(goal, results)
    wanted = "no result to compare with" if limit is None else f"{_sign(goal)} {limit:.3g}"
    if not there or limit is None:
        return [goal["says"], where, wanted, "not run", "-"]
    best = (min if "at_most" in goal else max)(there, key=lambda row: there[row])
    met = there[best] <= limit if "at_most" in goal else there[best] >= limit
    shown = f"{there[best]:.3f}" + (f" ({best})" if len(goal["rows"]) > 1 else "")
    return [goal["says"], where, wanted, shown, "met" if met else "missed"]


def _sign(goal: dict[str, Any]) -> str:
    return "at most" if "at_most" in goal else "at least"


def _limit(goal: dict[str, Any], results: Sequence[Result]) -> float | None:
    """A number, or the best that the rows under `above` reach."""
    if "above" not in goal:
        limit: float = goal["at_most"] if "at_most" in goal else goal["at_least"]
        return limit
    others = [_figure(goal, row, results) for row in goal["above"]]
    return max((value for value in others if value is not None), default=None)


def _figure(goal: dict[str, Any], row: str, results: Sequence[Result]) -> float | None:
    """The mean over seeds; with classes, the lowest of theirs."""
    place = (goal["table"], row, goal["data"], "ok")
    fine = [r for r in results if (r["table"], r["row"], r["data"], r["outcome"]) == place]
    values = [value for r in fine if (value := figure_of(r["report"], goal)) is not None]
    return statistics.mean(values) if values else None


def figure_of(report: dict[str, Any], goal: dict[str, Any]) -> float | None:
    """One figure of a report: auroc, f1, ms or recall; of `classes` the lowest."""
    classes, kind = goal.get("classes"), goal["figure"]
    recalls = report.get("recall_at_overkill", {}).get(AT, {})
    plain: dict[str, float | None] = {
        "auroc": report.get("auroc"),
        "f1": (report.get("best_f1") or {}).get("f1"),
        "ms": report.get("latency_ms", {}).get("p50"),
        "recall": recalls.get("overall"),
    }
    if classes is None:
        return plain[kind]
    by_class = (
        recalls.get("per_class", {})
        if kind == "recall"
        else {name: of["auroc"] for name, of in report["per_class"].items()}
    )
    return min((by_class[name] for name in classes if name in by_class), default=None)
