"""What was wanted beside what was found, from the kept results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bench.results_columns import AT, COLUMNS

Result = dict[str, Any]


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
    value, shown = _of_rows(goal, there)
    met = value <= limit if "at_most" in goal else value >= limit
    return [goal["says"], where, wanted, shown, "met" if met else "missed"]


def _of_rows(goal: dict[str, Any], there: dict[str, float]) -> tuple[float, str]:
    """The best row's figure, or with `over` the mean over rows or the worst row's; as told."""
    over = goal.get("over", "best")
    if over == "mean":
        value = statistics.mean(there.values())
        return value, f"{value:.3f} ({len(there)} of {len(goal['rows'])} rows)"
    low = ("at_most" in goal) == (over == "best")
    row = (min if low else max)(there, key=lambda name: there[name])
    return there[row], f"{there[row]:.3f}" + (f" ({row})" if len(goal["rows"]) > 1 else "")


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
    values = [value for r in fine if (value := figure_of(r, goal)) is not None]
    return statistics.mean(values) if values else None


def figure_of(result: Result, goal: dict[str, Any]) -> float | None:
    """A column's figure of a result; of `classes` the lowest."""
    classes, kind = goal.get("classes"), goal["figure"]
    if classes is None:
        return COLUMNS[kind][1](result)
    report = result["report"]
    by_class = (
        report.get("recall_at_overkill", {}).get(AT, {}).get("per_class", {})
        if kind == "recall"
        else {name: of[kind] for name, of in report["per_class"].items()}
    )
    return min((by_class[name] for name in classes if name in by_class), default=None)
