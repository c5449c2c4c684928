"""How the performance page writes figures, and what they are of."""

from __future__ import annotations

from typing import Any

from bench.results_columns import NONE

Result = dict[str, Any]


def about(result: Result) -> str:
    """Engine or runner, day, commit and device."""
    chosen = result.get("fastest", result.get("runner"))
    words = [result.get("engine"), " / ".join(chosen) if isinstance(chosen, list) else chosen]
    words += [result["date"], result["commit"], result.get("gpu") or result["cpu"]]
    return ", ".join(word for word in words if word)


def ran(found: Result, command: str) -> str:
    return f"`{command}`: {about(found)}."


def why_not(why: dict[str, str]) -> str:
    return " ".join(
        f"No {name}: {words.splitlines()[0].rstrip('.')}." for name, words in why.items()
    )


def times(row: dict[str, float]) -> list[str]:
    return [in_ms(row["p50"]), in_ms(row["p99"])]


def in_ms(value: float | None) -> str:
    return NONE if value is None else figure(value)


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def known(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def some(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)
